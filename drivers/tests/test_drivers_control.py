# SPDX-License-Identifier: MIT
"""vbus-control as nobody, before a real vbusd, with a real mount in a mount namespace of its own."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from vbuskit.base import wait
from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Process, Runner
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Group, Host, RequestRefused, serving
from vbuskit.drivers.host_abi import EventKind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount and to become nobody")

NOBODY = 65534
SECONDS = 60.0  # a busy machine


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    made = host_programs(Runner(), Places.from_environment())
    return {name: artifact.path for name, artifact in made.items()}


class Control:
    """One vbus-control after another over the same folder; `tree` is seen from outside the namespace."""

    def __init__(self, programs: dict[str, Path], folder: Path, undo: ExitStack) -> None:
        self.programs, self.folder, self.log = programs, folder, folder / "control.log"
        self.socket, self.vbusd = folder / "json", folder / "vbusd"
        self.become: list[str | Path] = []
        self._undo = undo
        output = folder / "holder.log"
        self.holder = undo.enter_context(
            Runner().start(["unshare", "-m", "--propagation", "private", "sleep", "infinity"], output=output)
        )
        own = Path("/proc/self/ns/mnt").readlink()
        theirs = Path(f"/proc/{self.holder.pid}/ns/mnt")
        assert wait.until(lambda: theirs.readlink() != own, SECONDS)
        (folder / "tree").mkdir()
        self.tree = Path(f"/proc/{self.holder.pid}/root{folder}/tree")

    def start(self, *more: str) -> Process:
        words: list[str | Path] = [*self.become, self.programs["vbus-control"]]
        words += ["--socket", self.socket, "--state", self.socket.parent / "state", "--vbusd", self.vbusd]
        words += ["--sockets", self.folder, "--tree", self.folder / "tree", *more]
        if not self.become:
            words += ["--user", "nobody"]
        inside: list[str | Path] = ["nsenter", "-t", str(self.holder.pid), "-m", *words]
        process = self._undo.enter_context(Runner().start(inside, output=self.log))
        self.pid = process.pid
        wait.until(lambda: self.answers() or process.poll() is not None, SECONDS)
        assert process.poll() is None, self.log.read_text()
        return process

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ask("version"))
        except OSError:
            return False

    def client(self) -> Client:
        return Client(self.socket)

    def shell(self, script: str) -> str:
        """What it prints, from inside; the first command that fails fails it."""
        place = ["nsenter", "-t", str(self.holder.pid), "-m"]
        return Runner()([*place, *self.become, "sh", "-ec", f"cd {self.folder}/tree\n{script}"])

    def read(self, path: str) -> str:
        return (self.tree / path).read_text()

    def last_error(self) -> str:
        return self.read("last_error").strip()

    def mounts(self) -> int:
        return Path(f"/proc/{self.holder.pid}/mounts").read_text().count(f" {self.folder}/tree ")


class Client:
    """A connection to the JSON socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def next(self) -> dict[str, Any]:
        line = self.lines.readline()
        assert line, "the connection was closed"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def call(self, method: str, **params: object) -> dict[str, Any]:
        self.send(json.dumps({"id": 7, "method": method, "params": params}).encode() + b"\n")
        answer = self.next()
        assert answer["id"] == 7
        return answer

    def ask(self, method: str, **params: object) -> Any:
        answer = self.call(method, **params)
        assert "error" not in answer, answer
        return answer["result"]


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError) as refusal:
        yield
    assert refusal.value.errno == number, errno.errorcode[refusal.value.errno or 0]


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def alone(programs: dict[str, Path], undo: ExitStack) -> Control:
    """Everything but vbusd and vbus-control themselves."""
    folder = Path(tempfile.mkdtemp(prefix="vbus-control.", dir="/run"))
    folder.chmod(0o755)
    undo.callback(shutil.rmtree, folder)
    return Control(programs, folder, undo)


@contextmanager
def vbusd_of(control: Control) -> Iterator[Process]:
    output = control.folder / "vbusd.log"
    with serving(
        Runner(), control.programs["vbusd"], control.vbusd, output=output, control_user="nobody"
    ) as process:
        yield process


@pytest.fixture
def control(alone: Control) -> Iterator[Control]:
    with vbusd_of(alone):
        alone.start()
        yield alone


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def connected(control: Control, name: str = "eth") -> None:
    (control.tree / "devices" / name).mkdir()
    (control.tree / "devices" / name / "type").write_text("venet-loopback\n")
    (control.tree / "instances/vm").mkdir(exist_ok=True)
    (control.tree / "instances/vm" / name).symlink_to(f"../../devices/{name}")


# AlacrityVM's own words, but for the place: a configfs and a sysfs there, one tree here; and QEMU finds
# its bus by a socket, where a task became a member of one.
SESSION = """
test "$(cat version)" = 1
test -d deviceclass/venet-tap
mkdir devices/eth
echo venet-loopback > devices/eth/type
echo 52:54:00:aa:bb:cc > devices/eth/client_mac
cat devices/eth/client_mac
echo 1 > devices/eth/enabled
mkdir instances/vm
ln -s $PWD/devices/eth instances/vm/
ls -l instances/vm/eth | sed 's/.*-> //'
cat instances/vm/eth/type
test -S $(cat instances/vm/socket)
echo 0 > devices/eth/enabled
cat devices/eth/enabled
rm instances/vm/eth
rmdir instances/vm
rmdir devices/eth
ls devices instances
"""


def test_the_session_of_the_originals_documentation_works_line_by_line(control: Control) -> None:
    said = control.shell(SESSION).split()
    assert said == [
        "52:54:00:aa:bb:cc",
        "../../devices/eth",
        "venet-loopback",
        "0",
        "devices:",
        "instances:",
    ]
    with Host(control.vbusd) as host:
        assert host.buses() == []


def test_what_is_linked_is_what_vbusd_has(control: Control) -> None:
    connected(control)
    with Host(control.vbusd) as host:
        device = host.devices("vm")[0]
        assert (device.klass, device.mac) == (
            "venet-loopback",
            control.read("devices/eth/client_mac").strip(),
        )
        assert str(device.uuid) == control.read("devices/eth/uuid").strip()
        assert device.mac.startswith("52:54:00") and device.mac.split(":")[3] == str(device.uuid)[-6:-4]
        (control.tree / "devices/eth/enabled").write_text("0")
        assert not host.device("vm", device.uuid).link
        (control.tree / "devices/eth/mask").write_text("1 0x1")
        assert wait.until(lambda: Group(0, 0, 1) in host.devices("vm")[0].groups.values(), SECONDS)
        assert wait.until(lambda: "masked 0x1" in control.read("devices/eth/features"), SECONDS)
    assert control.read("devices/eth/statistics/opens") == "0\n"
    assert control.read("instances/vm/statistics/negotiations") == "0\n"
    assert control.read("instances/vm/state") == "listening\n"


def test_what_a_shell_was_told_reaches_the_device_when_it_is_linked(control: Control) -> None:
    (control.tree / "devices/eth").mkdir()
    (control.tree / "devices/eth/type").write_text("venet-loopback")
    (control.tree / "devices/eth/mask").write_text("3 1")
    (control.tree / "devices/eth/enabled").write_text("0")
    assert "group 3: offered 0x6, active 0, masked 0x1" in control.read("devices/eth/features")
    (control.tree / "instances/vm").mkdir()
    with Host(control.vbusd) as host, Host(control.vbusd) as watcher:
        events = watcher.events(seconds=SECONDS)
        (control.tree / "instances/vm/eth").symlink_to("/anywhere/devices/eth")
        assert not host.devices("vm")[0].link
        assert wait.until(lambda: host.devices("vm")[0].groups.get(3) == Group(6, 0, 1), SECONDS)
        (control.tree / "instances/vm/eth").unlink()
        # At once: a guest that looks in between would see another device.
        assert [next(events).kind for _ in range(2)] == [EventKind.DEVICE_ADDED, EventKind.DEVICE_REMOVED]


def test_a_device_that_somebody_else_added_is_there_by_its_uuid(control: Control) -> None:
    card = UUID("5a4e6f7e-0000-4000-8000-000000000001")
    with Host(control.vbusd) as host:
        host.add_bus("other", control.folder / "q")
        host.add_device("other", card, "venet-loopback", mac="52:54:00:00:00:01")
        assert control.read(f"instances/other/{card}/client_mac") == "52:54:00:00:00:01\n"
        (control.tree / f"devices/{card}/enabled").write_text("0")
        assert not host.device("other", card).link
        with refused(errno.EBUSY):
            (control.tree / f"devices/{card}").rmdir()
        (control.tree / f"instances/other/{card}").unlink()
        assert host.devices("other") == [] and not (control.tree / f"devices/{card}").exists()


def test_what_another_tool_changes_is_seen_at_once(control: Control) -> None:
    connected(control)
    uuid = UUID(control.read("devices/eth/uuid").strip())
    with Host(control.vbusd) as host:
        for number in range(50):
            host.link("vm", uuid, up=bool(number % 2))
            assert control.read("devices/eth/enabled") == f"{number % 2}\n"


def test_a_disk_is_made_of_files_too(control: Control) -> None:
    image = control.folder / "disk.img"
    image.write_bytes(bytes(1 << 20))
    device = control.tree / "devices/disk"
    device.mkdir()
    (device / "type").write_text("vblk-file")
    for name, text in {"path": str(image), "readonly": "1", "serial": "a disk"}.items():
        (device / name).write_text(text)
    (control.tree / "instances/vm").mkdir()
    (control.tree / "instances/vm/disk").symlink_to("../../devices/disk")
    with Host(control.vbusd) as host:
        (found,) = host.devices("vm")
        assert (found.klass, found.argument) == ("vblk-file", str(image))
        assert (found.read_only, found.serial) == (True, "a disk")
        with pytest.raises(RequestRefused, match="disk"):  # a writer beside a reader
            host.add_device("vm", uuid4(), "vblk-file", argument=str(image))
    assert control.read("devices/disk/statistics/reads") == "0\n"


def test_a_class_that_is_a_module_is_listed_and_made_of_files(control: Control) -> None:
    module = shutil.copy(control.programs["vbusd"].parent / "tests/echo.so", control.folder)
    with Host(control.vbusd) as host:
        host.add_class(Path(module))
        assert control.read("deviceclass/echo/type") == "echo\n"
        (control.tree / "devices/one").mkdir()
        (control.tree / "devices/one/type").write_text("echo")
        (control.tree / "instances/vm").mkdir()
        (control.tree / "instances/vm/one").symlink_to("../../devices/one")
        assert [device.klass for device in host.devices("vm")] == ["echo"]


def test_the_features_of_a_module_are_listed_as_it_has_them(control: Control) -> None:
    code = (ROOT / "drivers/host/classes/example/echo.c").read_text()
    words = ".info = { .feature = { { 1, 0x5 }, { 3, 0x2 } },"
    assert ".info = {" in code
    source, module = control.folder / "echo.c", control.folder / "echo.so"
    source.write_text(code.replace(".info = {", words))
    folders = ("host", "host/classes", "include", "core", "ports/user")
    include = [f"-I{ROOT / 'drivers' / folder}" for folder in folders]
    Runner()(["gcc", "-std=gnu11", "-fPIC", "-shared", *include, source, "-o", module])
    with Host(control.vbusd) as host:
        host.add_class(module)
        assert control.read("deviceclass/echo/features") == "group 1: 0x5\ngroup 3: 0x2\n"
        assert host.classes()[-1].groups == {1: 0x5, 3: 0x2}


def test_everything_that_is_listed_can_be_read(control: Control) -> None:
    connected(control)
    connected(control, "eth2")
    (control.tree / "devices/spare").mkdir()
    assert wait.until(lambda: (control.tree / "instances/vm/queues/0/inject").exists(), SECONDS)
    read = control.shell("find . -type f | while read -r f; do cat $f > /dev/null; echo $f; done").split()
    assert {"./version", "./instances/vm/queues/0/inject", "./devices/eth2/statistics/rx_frames"} <= set(
        read
    )
    links = control.shell("find . -type l | while read -r l; do cat $l/uuid; done").split()
    assert len(set(links)) == 2


REFUSALS: dict[str, tuple[int, Callable[[Path], object], str]] = {
    "an unknown class": (errno.ENOENT, lambda t: (t / "devices/new/type").write_text("x"), "is not known"),
    "a second type": (
        errno.EINVAL,
        lambda t: (t / "devices/eth/type").write_text("venet-tap"),
        "has a type already",
    ),
    "a bus without a name": (errno.EINVAL, lambda t: (t / "instances/a b").mkdir(), "needs a name"),
    "a bus that is hidden": (errno.EINVAL, lambda t: (t / "instances/.a").mkdir(), "needs a name"),
    "a bus of a long name": (errno.EINVAL, lambda t: (t / "instances" / ("a" * 32)).mkdir(), "up to 31"),
    "a device of a long name": (errno.EINVAL, lambda t: (t / "devices" / ("a" * 64)).mkdir(), "up to 63"),
    "a bus twice": (errno.EEXIST, lambda t: (t / "instances/vm").mkdir(), ""),
    "a folder elsewhere": (errno.EPERM, lambda t: (t / "deviceclass/x").mkdir(), ""),
    "a deep folder": (errno.EPERM, lambda t: (t / "devices/eth/x").mkdir(), ""),
    "a file": (errno.EPERM, lambda t: (t / "devices/eth/x").touch(), ""),
    "a bus with devices": (errno.ENOTEMPTY, lambda t: (t / "instances/vm").rmdir(), "has 1 devices"),
    "a linked device": (errno.EBUSY, lambda t: (t / "devices/eth").rmdir(), "is connected to bus vm"),
    "an attribute of a linked device": (
        errno.EBUSY,
        lambda t: (t / "devices/eth/client_mac").write_text("52:54:00:00:00:01"),
        "is connected to bus vm",
    ),
    "a link of another name": (
        errno.EINVAL,
        lambda t: (t / "instances/vm/x").symlink_to("../../devices/eth"),
        "called like its device",
    ),
    "a link to elsewhere": (
        errno.EINVAL,
        lambda t: (t / "instances/vm/new").symlink_to("../../classes/new"),
        "called like its device",
    ),
    "a link to nothing": (
        errno.ENOENT,
        lambda t: (t / "instances/vm/no").symlink_to("../../devices/no"),
        "is not there",
    ),
    "a link without a type": (
        errno.EINVAL,
        lambda t: (t / "instances/vm/new").symlink_to("../../devices/new"),
        "has no type yet",
    ),
    "a link into no bus": (
        errno.ENOENT,
        lambda t: (t / "instances/no/eth").symlink_to("../../devices/eth"),
        "",
    ),
    "a second link": (
        errno.EBUSY,
        lambda t: (t / "instances/two/eth").symlink_to("../../devices/eth"),
        "is connected to bus vm",
    ),
    "removing an attribute": (errno.EPERM, lambda t: (t / "devices/eth/type").unlink(), ""),
    "writing a counter": (
        errno.EACCES,
        lambda t: (t / "devices/eth/statistics/opens").write_text("1"),
        "",
    ),
    "a switch that is none": (
        errno.EINVAL,
        lambda t: (t / "devices/eth/enabled").write_text("2"),
        "wants 0 or 1",
    ),
    "a switch and more": (
        errno.EINVAL,
        lambda t: (t / "devices/eth/enabled").write_text("1\n1"),
        "wants one line",
    ),
    "a line without end": (
        errno.EINVAL,
        lambda t: (t / "devices/eth/enabled").write_text("1" * 300),
        "wants one line",
    ),
    "no text": (errno.EINVAL, lambda t: (t / "devices/eth/enabled").write_bytes(b"\xff"), "wants 0 or 1"),
    "a mask that is none": (
        errno.EINVAL,
        lambda t: (t / "devices/eth/mask").write_text("1"),
        "a group and its bits",
    ),
    "a mask of an unknown group": (
        errno.EOPNOTSUPP,
        lambda t: (t / "devices/eth/mask").write_text("9 1"),
        "is not known",
    ),
    "a mask of unknown bits": (
        errno.EOPNOTSUPP,
        lambda t: (t / "devices/shell/mask").write_text("1 2"),
        "has no bits 0x2",
    ),
    "a group address": (
        errno.EINVAL,
        lambda t: (t / "devices/shell/client_mac").write_text("53:54:00:00:00:01"),
        "wants a card's address",
    ),
    "an address and more": (
        errno.EINVAL,
        lambda t: (t / "devices/shell/client_mac").write_text("52:54:00:00:00:01:02"),
        "wants a card's address",
    ),
    "a back end that vbusd cannot open": (
        errno.EIO,
        lambda t: (t / "instances/vm/tap").symlink_to("../../devices/tap"),
        "venet-tap needs the name of an interface",
    ),
    "renaming": (errno.ENOSYS, lambda t: (t / "devices/new").rename(t / "devices/old"), ""),
}


def test_every_refusal_is_an_errno_of_that_very_call_and_says_why(control: Control) -> None:
    connected(control)
    (control.tree / "instances/two").mkdir()
    for name, klass in ("new", ""), ("shell", "venet-loopback"), ("tap", "venet-tap"):
        (control.tree / "devices" / name).mkdir()
        if klass:
            (control.tree / "devices" / name / "type").write_text(klass)
    for what, (number, attempt, words) in REFUSALS.items():
        with pytest.raises(OSError) as refusal:
            attempt(control.tree)
        assert refusal.value.errno == number, (what, refusal.value)
        assert words in control.last_error(), what
        assert words in control.log.read_text(), what
    with Host(control.vbusd) as host:
        assert [len(host.devices(bus.name)) for bus in host.buses()] == [1, 0]


def test_a_killed_one_comes_back_with_everything(alone: Control) -> None:
    with vbusd_of(alone):
        first = alone.start()
        connected(alone)
        (alone.tree / "devices/spare").mkdir()
        (alone.tree / "devices/spare/type").write_text("venet-tap\n")
        (alone.tree / "devices/spare/ifname").write_text("tap7\n")
        before = alone.shell("cat devices/*/uuid devices/*/client_mac instances/vm/epoch")
        first.kill()
        first.wait(SECONDS)
        alone.start()
        after = alone.shell("cat devices/*/uuid devices/*/client_mac instances/vm/epoch")
        assert after == before and len(after.split()) == 5
        assert alone.read("devices/spare/ifname") == "tap7\n"
        assert alone.read("instances/vm/eth/bus") == "vm\n"
        assert alone.mounts() == 1


def test_the_guard_unmounts_what_a_killed_one_had_mounted(alone: Control) -> None:
    first = alone.start()
    assert alone.mounts() == 1
    first.kill()
    assert wait.until(lambda: alone.mounts() == 0, SECONDS)


def test_a_mount_whose_guard_was_killed_as_well_is_replaced(alone: Control) -> None:
    first = alone.start()
    guards = [int(pid) for pid in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()]
    assert len(guards) == 1
    os.kill(guards[0], signal.SIGKILL)
    first.kill()
    first.wait(SECONDS)
    with refused(errno.ENOTCONN):
        alone.read("version")
    alone.start()
    assert alone.mounts() == 1 and alone.read("version") == "1\n"


def test_asked_to_end_it_unmounts_and_says_so(alone: Control) -> None:
    process = alone.start()
    assert process.stop() == 0
    assert alone.mounts() == 0
    assert alone.log.read_text().endswith("vbus-control: ends\n")


def test_it_is_nobody_who_serves(control: Control) -> None:
    status = Path(f"/proc/{control.pid}/status").read_text()
    assert re.search(r"^Uid:\t65534\t65534\t65534\t65534$", status, re.M)
    assert re.search(r"^Gid:\t65534\t65534\t65534\t65534$", status, re.M)
    assert re.search(r"^Groups:\t *$", status, re.M)
    assert re.search(r"^CapEff:\t0+$", status, re.M) and re.search(r"^CapPrm:\t0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)


def test_without_vbusd_it_says_so_at_once_and_goes_on_when_it_is_back(
    alone: Control, undo: ExitStack
) -> None:
    with vbusd_of(alone):
        alone.start()
        connected(alone)
        client = undo.enter_context(alone.client())
        assert client.ask("watch") is True
    assert client.next()["event"] == "bus.removed"  # it ended in order
    assert client.next() == {"event": "vbusd.gone"}
    for attempt in (
        lambda: names(alone.tree / "instances"),
        lambda: (alone.tree / "instances/new").mkdir(),
        lambda: (alone.tree / "devices/eth/enabled").write_text("1"),
    ):
        with refused(errno.ENOTCONN):
            attempt()
    assert names(alone.tree / "devices") == ["eth"]
    assert alone.last_error().startswith("vbusd does not answer")
    with alone.client() as other:
        assert other.call("bus.list")["error"]["code"] == "AWAY"
    assert alone.log.read_text().count("vbusd does not answer") == 1
    with vbusd_of(alone):
        assert client.next() == {"event": "vbusd.answers"}
        assert names(alone.tree / "instances") == []
        (alone.tree / "instances/vm").mkdir()
        (alone.tree / "instances/vm/eth").symlink_to("../../devices/eth")
        assert client.next()["event"] == "bus.added"


def test_a_state_file_that_is_not_understood_is_not_thrown_away(alone: Control) -> None:
    alone.start().stop()
    for broken in (
        "{",
        "[]",
        '{"a/b":{}}',
        '{"a":{"uuid":"1"}}',
        '{"a":{"uuid":%r,"enabled":"7"}}' % ("0" * 36),
    ):
        (alone.folder / "state/devices.json").write_text(broken)
        with pytest.raises(AssertionError, match="is not understood"):
            alone.start()
        assert (alone.folder / "state/devices.json").read_text() == broken


def test_the_methods_do_what_the_tree_does(control: Control) -> None:
    with control.client() as client:
        assert [c["name"] for c in client.ask("class.list")][:2] == ["venet-loopback", "venet-tap"]
        client.ask("bus.add", bus="vm", window_mib=4, vectors=16)
        client.ask(
            "device.add", device="eth", type="venet-loopback", client_mac="52:54:00:00:00:09", bus="vm"
        )
        (bus,) = client.ask("bus.list")
        assert (bus["name"], bus["window_mib"], bus["vectors"], bus["devices"]) == ("vm", 4, 16, ["eth"])
        (device,) = client.ask("device.list", bus="vm")
        assert (device["name"], device["client_mac"], device["enabled"]) == ("eth", "52:54:00:00:00:09", "1")
        assert client.ask("device.list", bus="other") == []
        client.ask("device.set", device="eth", enabled=False)
        assert control.read("instances/vm/eth/enabled") == "0\n"
        client.ask("features.mask", bus="vm", group=1, bits=1)
        client.ask("features.mask", device="eth", group=3, bits=1)
        assert wait.until(lambda: control.read("devices/eth/features").count("masked 0x1") == 2, SECONDS)
        assert client.ask("stats")["devices"]["eth"]["statistics"]["opens"] == 0
        assert client.call("bus.remove", bus="vm")["error"]["code"] == "BUSY"
        client.ask("device.remove", device="eth")
        client.ask("bus.remove", bus="vm")
        assert client.ask("stats") == {"instances": {}, "devices": {}}
        assert client.ask("metrics").endswith("# EOF\n")


def test_a_bus_of_files_is_asked_for_by_a_word(control: Control) -> None:
    folder = control.folder / "vm"
    with control.client() as client:
        assert client.call("bus.add", bus="vm", connector="files")["error"]["code"] == "MALFORMED"
        assert client.call("bus.add", bus="vm", connector="file")["error"]["code"] == "SYSTEM"
        folder.mkdir(mode=0o755)
        client.ask("bus.add", bus="vm", connector="file")
        assert (folder / "window").exists()
        assert control.read("instances/vm/connector") == "file\n"
        assert control.read("instances/vm/socket") == f"{folder}\n"
        client.ask("bus.add", bus="other", connector="ivshmem")
        assert [bus["connector"] for bus in client.ask("bus.list")] == ["file", "ivshmem"]


def test_a_long_name_is_never_cut_into_another_one(control: Control) -> None:
    name = "a" * 31
    with control.client() as client:
        client.ask("bus.add", bus=name)
        client.ask("device.add", device="eth", type="venet-loopback")
        assert client.call("device.add", device="eth", bus=name + "a")["error"]["code"] == "NO_ENTRY"
        longer = client.call("features.mask", bus=name + "a", group=1, bits=1)
        assert longer["error"]["code"] == "NO_ENTRY"
        assert client.call("bus.remove", bus=name + "a")["error"]["code"] == "NO_ENTRY"
        client.ask("device.add", device="eth", bus=name)


def timers(pid: int) -> set[str]:
    """When each timer of a process is due; (0, 0): never."""
    due: set[str] = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            due.update(re.findall(r"it_value: (.*)", path.read_text()))
    return due


def test_an_idle_one_has_no_timer(alone: Control) -> None:
    pid = alone.start().pid
    assert wait.until(lambda: timers(pid) != {"(0, 0)"}, SECONDS)
    with vbusd_of(alone):
        assert wait.until(lambda: timers(pid) == {"(0, 0)"}, SECONDS)
        assert alone.read("version") == "1\n" and timers(pid) == {"(0, 0)"}


def test_a_state_folder_that_was_there_stays_whose_it_was(alone: Control) -> None:
    state = alone.folder / "state"
    state.mkdir()
    os.chown(state, 1, 1)
    alone.start()
    assert (state.stat().st_uid, state.stat().st_gid) == (1, 1)


def test_a_device_that_could_not_be_added_whole_is_not_added(control: Control) -> None:
    with control.client() as client:
        answer = client.call("device.add", device="eth", type="venet-loopback", bus="no")
        assert answer["error"] == {"code": "NO_ENTRY", "message": "bus no: is not there"}
        assert (
            client.call("device.add", device="eth", type="venet-tap", serial="x")["error"]["code"]
            == "NO_ENTRY"
        )
    assert names(control.tree / "devices") == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "{",
        "[]",
        "7",
        '"x"',
        "null",
        "{}",
        '{"method":7}',
        '{"method":"version","params":7}',
        '{"method":"version","params":[]}',
        '{"method":"version","params":{"x":1}}',
        '{"method":"version","method":"version"}',
        '{"method":"vers\\u0000ion"}',
        '{"method":"\xff"}',
        '{"method":"\\ud800"}',
        '{"method":"nothing"}',
        '{"method":"bus.add"}',
        '{"method":"bus.add","params":{"bus":7}}',
        '{"method":"bus.add","params":{"bus":"a/b"}}',
        '{"method":"bus.add","params":{"bus":"vm","windows":4}}',
        '{"method":"bus.add","params":{"bus":"vm","window_mib":-1}}',
        '{"method":"bus.add","params":{"bus":"vm","window_mib":4294967312}}',
        '{"method":"bus.add","params":{"bus":"vm","window_mib":1e400}}',
        '{"method":"bus.add","params":{"bus":"vm","vectors":16.0}}',
        '{"method":"bus.add","params":{"bus":"vm","socket":"%s"}}' % ("/x" * 60),
        '{"method":"bus.remove","params":{"bus":"vm"}}',
        '{"method":"device.add","params":{"device":"../x","type":"venet-tap"}}',
        '{"method":"device.add","params":{"device":"x","type":7}}',
        '{"method":"device.add","params":{"device":"x","type":"venet-tap","ifname":["a"]}}',
        '{"method":"device.add","params":{"device":"x","type":"venet-tap","ifname":"a\\nb"}}',
        '{"method":"device.set","params":{"device":"x"}}',
        '{"method":"device.remove","params":{}}',
        '{"method":"features.mask","params":{"group":1,"bits":1}}',
        '{"method":"features.mask","params":{"bus":"vm","group":-1,"bits":1}}',
        '{"method":"features.mask","params":{"bus":"vm","group":1,"bits":4294967297}}',
        "[" * 5000,
        '{"a":' * 3000,
    ],
)
def test_bad_input_is_answered_with_an_error_and_the_next_line_is_heard(control: Control, line: str) -> None:
    with control.client() as client:
        client.send(line.encode("latin-1") + b"\n")
        error = client.next()["error"]
        assert error["message"] and error["code"] in ("MALFORMED", "UNKNOWN", "RANGE", "NO_ENTRY")
        assert client.ask("version") == {"version": 1}
        assert client.ask("stats") == {"instances": {}, "devices": {}}


def test_a_line_without_end_is_the_end(control: Control) -> None:
    with control.client() as client:
        client.send(b" " * 65535 + b"\n")
        assert client.next()["error"]["code"] == "MALFORMED"
        with pytest.raises((BrokenPipeError, ConnectionResetError, AssertionError)):
            for _ in range(1000):
                client.send(b"x" * 65536)
            client.next()
    assert "its line is too long" in control.log.read_text()


def test_a_call_in_pieces_and_many_calls_in_one_piece_are_the_same(control: Control) -> None:
    with control.client() as client:
        for byte in b'{"id":1,"method":"version"}\n':
            client.send(bytes([byte]))
        assert client.next() == {"id": 1, "result": {"version": 1}}
        client.send(b"".join(b'{"id":%d,"method":"version"}\n' % n for n in range(2000)))
        assert [client.next()["id"] for _ in range(2000)] == list(range(2000))


def test_a_thirty_third_client_is_refused_and_the_others_stay(control: Control) -> None:
    with ExitStack() as undo:
        clients = []
        for _ in range(32):
            clients.append(undo.enter_context(control.client()))
            assert clients[-1].ask("version") == {"version": 1}
        for _ in range(100):
            with control.client() as late:
                assert late.lines.readline() == b""
        assert control.log.read_text().count("a client is refused") == 1
        assert clients[31].ask("version") == {"version": 1}


def test_events_come_in_order_with_the_names_of_the_tree(control: Control) -> None:
    with control.client() as watcher:
        assert watcher.ask("watch") is True
        connected(control)
        (control.tree / "devices/eth/enabled").write_text("0")
        (control.tree / "instances/vm/eth").unlink()
        (control.tree / "instances/vm").rmdir()
        told = [watcher.next() for _ in range(6)]
        if told[0]["event"] == "vbusd.answers":  # which it may have noticed only now
            told = [*told[1:], watcher.next()]
    kinds = ["bus.added", "worker.started", "device.added", "link.changed", "device.removed", "bus.removed"]
    assert [event["event"] for event in told] == kinds
    assert {event["bus"] for event in told} == {"vm"}
    assert {event.get("device", "eth") for event in told} == {"eth"}


def test_a_watcher_that_does_not_read_is_dropped_and_the_others_are_served(control: Control) -> None:
    with control.client() as slow, control.client() as quick:
        assert slow.ask("watch") is True
        quick.ask("bus.add", bus="vm")
        told = "a client is dropped (it does not read)"
        for bits in range(20_000):
            quick.ask("features.mask", bus="vm", group=1, bits=bits % 2)
            if bits % 500 == 0 and told in control.log.read_text():
                break
        assert control.log.read_text().count(told) == 1
        while slow.lines.readline():
            pass


SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="[A-Za-z0-9_.-]*",?)+)\})? (\d+)')


def parsed(text: str) -> dict[tuple[str, str], int]:
    """OpenMetrics 1.0, strictly: each family declared once and whole, each sample once, EOF last."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    samples: dict[tuple[str, str], int] = {}
    families: set[str] = set()
    family = kind = ""
    for line in lines[:-2]:
        if line.startswith("#"):
            family, kind = line.removeprefix("# TYPE ").split(" ")
            assert family not in families and kind in ("counter", "gauge"), line
            families.add(family)
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels = match[1], match[2] or ""
        assert name == (f"{family}_total" if kind == "counter" else family), line
        assert (name, labels) not in samples, line
        samples[name, labels] = int(match[3])
    return samples


def metrics(control: Control) -> dict[tuple[str, str], int]:
    with control.client() as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = client.lines.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n") and b"application/openmetrics-text; version=1.0.0" in head
    return parsed(body.decode())


def test_the_metrics_parse_and_name_every_bus_and_device(alone: Control) -> None:
    alone.start()
    assert metrics(alone) == {("vbus_up", ""): 0}
    with vbusd_of(alone):
        connected(alone)
        connected(alone, "eth2")
        (alone.tree / "instances/empty").mkdir()
        seen = metrics(alone)
    assert seen["vbus_up", ""] == 1
    assert seen["vbus_bus_negotiations_total", 'bus="empty"'] == 0
    assert seen["vbus_device_rx_frames_total", 'bus="vm",device="eth2"'] == 0
    assert len([name for name, _ in seen if name == "vbus_device_opens_total"]) == 2


def descriptors(*pids: int) -> int:
    return sum(len(names(Path(f"/proc/{pid}/fd"))) for pid in pids)


def test_two_hundred_devices_and_buses_leak_no_descriptor(alone: Control) -> None:
    with vbusd_of(alone) as vbusd:
        pids = alone.start().pid, vbusd.pid
        counts = []
        for _ in range(200):
            connected(alone)
            (alone.tree / "instances/vm/eth").unlink()
            (alone.tree / "instances/vm").rmdir()
            (alone.tree / "devices/eth").rmdir()
            counts.append(descriptors(*pids))
        assert wait.until(lambda: descriptors(*pids) <= max(counts[:20]), SECONDS)


def test_root_is_not_kept(programs: dict[str, Path], tmp_path: Path) -> None:
    words: list[str | Path] = [
        programs["vbus-control"],
        "--socket",
        tmp_path / "s",
        "--state",
        tmp_path / "d",
        "--no-tree",
    ]
    for more in ([], ["--user", "root"]):
        done = Runner().attempt([*words, *more])
        assert done.code == 2 and "name an ordinary user" in done.err


# /dev/fuse is for everybody on a common machine, and need not be where the tests run.
OPEN_FUSE = """
mount -t tmpfs none /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
"""


def test_an_ordinary_user_has_the_tree_through_fusermount(alone: Control) -> None:
    alone.shell(OPEN_FUSE)
    home = alone.folder / "home"
    home.mkdir()
    for folder in home, alone.folder / "tree":
        os.chown(folder, NOBODY, NOBODY)
    alone.socket = home / "json"
    alone.become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with vbusd_of(alone):
        first = alone.start()
        alone.shell("mkdir instances/vm devices/eth")
        first.kill()
        first.wait(SECONDS)
        second = alone.start()
        assert alone.shell("ls devices instances").split()[1::2] == ["eth", "vm"]
        assert second.stop() == 0
    assert alone.mounts() == 0 and not alone.socket.exists()


def test_a_wrong_path_of_the_tree_is_an_error_in_one_line(alone: Control) -> None:
    (alone.folder / "tree").rmdir()
    with pytest.raises((AssertionError, VbuskitError), match="cannot be mounted on"):
        alone.start()
