# SPDX-License-Identifier: MIT
from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import Blocked, UsageError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import (
    DeviceClass,
    Event,
    Group,
    Host,
    RequestRefused,
    bus_of,
    class_of,
    serving,
)
from vbuskit.drivers.host_abi import Backend, BusStatus, ClassStatus, EventKind, Request, Result

CARD = UUID("5a4e6f7e-0000-4000-8000-000000000001")
MAC = "52:54:00:00:00:01"
SECONDS = 60.0  # a busy machine


@pytest.fixture(scope="session")
def vbusd() -> Path:
    return host_programs(Runner(), Places.from_environment())["vbusd"].path


@pytest.fixture
def host(vbusd: Path, tmp_path: Path) -> Iterator[Host]:
    path = tmp_path / "s"
    with serving(Runner(), vbusd, path, output=tmp_path / "log"), Host(path) as host:
        yield host


def masked(host: Host) -> bool:
    """The worker tells; a request is answered before it has arrived there."""
    return any(Group(0, 0, 1) in device.groups.values() for device in host.devices("vm"))


def test_what_was_added_is_in_the_status(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q", window_mib=4, vectors=16)
    host.add_device("vm", CARD, "venet-loopback", mac=MAC)
    bus = host.bus("vm")
    assert (bus.path, bus.window_mib, bus.vectors, bus.devices) == (tmp_path / "q", 4, 16, 1)
    assert bus.worker > 0 and not bus.connected and not bus.negotiated
    device = host.device("vm", CARD)
    assert (device.klass, device.mac, device.is_open, device.link) == ("venet-loopback", MAC, False, True)


def test_the_layers_around_a_worker_are_in_the_status(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    assert any("seccomp" in host.bus("vm").sandbox for _ in range(10_000))


def test_a_queue_has_its_settings_beside_its_counters_and_totals_are_of_counters_alone() -> None:
    raw = BusStatus()
    raw.queue[2].priority, raw.queue[2].coalesce_events = 5, 8
    raw.counters.queue[2].coalesced, raw.counters.queue[4].coalesced = 7, 1
    bus = bus_of(raw)
    assert list(bus.queues) == [2, 4]
    assert [bus.queues[2][word] for word in ("priority", "coalesce_events", "coalesced")] == [5, 8, 7]
    assert bus.counters["coalesced"] == 8 and "priority" not in bus.counters


def test_a_mask_is_in_the_status(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    host.add_device("vm", CARD, "venet-loopback", mac=MAC)
    host.mask("vm", 1, 1, uuid=CARD)
    assert any(masked(host) for _ in range(10_000))


def test_a_request_has_room_for_eight_masks(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    with pytest.raises(RequestRefused, match="group 9: is not known"):
        host.add_device("vm", CARD, "venet-loopback", mac=MAC, mask=dict.fromkeys(range(9, 1, -1), 1))
    with pytest.raises(UsageError, match="mask: 9 groups"):
        host.add_device("vm", CARD, "venet-loopback", mac=MAC, mask=dict.fromkeys(range(9), 1))


def test_a_class_tells_its_features_and_limits_whatever_is_masked(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    host.add_device("vm", CARD, "venet-loopback", mac=MAC, mask={0: 0x1, 1: 0x1})
    classes = {klass.name: klass for klass in host.classes()}
    offloads = 0x1 | 0x2 | 0x4 | 0x8 | 0x40
    for name, bits in (("venet-loopback", offloads), ("venet-tap", offloads), ("venet-passt", 0)):
        groups = {0: bits, 2: bits} if bits else {}
        assert classes[name].groups == {1: 0x1, 3: 0x7} | groups
        assert classes[name].limits == {"pairs": 16, "mtu": 65521}
    assert classes["vblk-file"].groups == {1: 0x7, 3: 0x3}
    assert classes["vblk-file"].limits == {"queues": 16, "segments": 64}


def test_a_class_of_a_vbusd_that_tells_no_features_has_none_known() -> None:
    said = bytes(ClassStatus(name=b"venet-tap", type=b"venet", version=1))[: ClassStatus.feature.offset]
    assert len(said) == 168  # vbusd 0.1
    klass = class_of(said)
    assert (klass.name, klass.groups, klass.limits) == ("venet-tap", None, {})


def test_a_disk_is_added_with_its_options_resized_and_locked(host: Host, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    for name in ("vm", "other"):
        host.add_bus(name, tmp_path / name)
    host.add_device("vm", CARD, "vblk-file", argument=str(image), block_size=4096, serial="S" * 20)
    assert host.device("vm", CARD).counters["in_flight"] == 0
    host.resize("vm", CARD)
    with pytest.raises(RequestRefused, match="another bus, QEMU or qemu-img has it"):
        host.add_device("other", CARD, "vblk-file", argument=str(image), read_only=True)
    with pytest.raises(RequestRefused, match="not a power of two"):
        host.add_device("other", CARD, "vblk-file", argument=str(image), block_size=100)
    with pytest.raises(UsageError, match=r"serial.*is too long"):
        host.add_device("other", CARD, "vblk-file", argument=str(image), serial="S" * 21)


def test_a_card_has_the_mtu_that_it_is_given_or_the_usual_one(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    host.add_device("vm", CARD, "venet-loopback", mac=MAC)
    assert host.device("vm", CARD).mtu == 1500
    host.remove_device("vm", CARD)
    host.add_device("vm", CARD, "venet-loopback", mac=MAC, mtu=65521)
    assert host.device("vm", CARD).mtu == 65521
    host.remove_device("vm", CARD)
    for mtu in (67, 65522):
        with pytest.raises(RequestRefused, match=f"mtu: {mtu} is not from 68 to 65521"):
            host.add_device("vm", CARD, "venet-loopback", mac=MAC, mtu=mtu)


def test_what_was_removed_is_gone(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    host.add_device("vm", CARD, "venet-loopback", mac=MAC)
    host.remove_device("vm", CARD)
    assert host.devices("vm") == []
    host.remove_bus("vm")
    assert host.buses() == [] and not (tmp_path / "q").exists()


def test_a_refusal_says_why_and_of_what_kind(host: Host, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="3 MiB is not a power of two") as refusal:
        host.add_bus("vm", tmp_path / "q", window_mib=3)
    assert refusal.value.result is Result.RANGE


@pytest.mark.parametrize("mac", ["", "52:54", "52:54:00:00:00:zz", "52:54:00:00:00:100"])
def test_a_mac_that_is_none_is_refused(host: Host, tmp_path: Path, mac: str) -> None:
    host.add_bus("vm", tmp_path / "q")
    with pytest.raises((UsageError, RequestRefused)):
        host.add_device("vm", CARD, "venet-loopback", mac=mac)


def test_without_a_vbusd_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="no vbusd answers") as blocked:
        Host(tmp_path / "nobody")
    assert blocked.value.hint == "start one: systemctl start vbusd, or of a checkout: ./vbuskit host up"


def test_a_vbusd_that_cannot_start_is_an_error_in_its_own_words(vbusd: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("no socket")
    with (
        pytest.raises(Blocked, match="is there and is no socket"),
        serving(Runner(), vbusd, tmp_path / "s", output=tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_vbusd_has_the_buses_of_the_last(
    vbusd: Path, tmp_path: Path, number: signal.Signals
) -> None:
    path, log = tmp_path / "s", tmp_path / "log"
    with serving(Runner(), vbusd, path, output=log) as process, Host(path) as host:
        host.add_bus("vm", tmp_path / "q", window_mib=2)
        host.add_device("vm", CARD, "venet-loopback", mac=MAC)
        host.link("vm", CARD, up=False)
        host.add_bus("other", tmp_path / "o", vectors=32)
        assert any(host.device("vm", CARD).groups for _ in range(100_000))  # its worker has it
        before = host.device("vm", CARD)
        process.kill(number)
        process.wait(10)
    with serving(Runner(), vbusd, path, output=log), Host(path) as host:
        assert (host.bus("vm").window_mib, host.bus("vm").lost) == (2, 0)
        assert (host.bus("other").path, host.bus("other").vectors) == (tmp_path / "o", 32)
        assert any(host.device("vm", CARD) == before for _ in range(100_000)) and not before.link


def test_what_was_served_ends_without_a_trace(vbusd: Path, tmp_path: Path) -> None:
    with serving(Runner(), vbusd, tmp_path / "s", output=tmp_path / "log"), Host(tmp_path / "s") as host:
        host.add_bus("vm", tmp_path / "q")
        worker = host.bus("vm").worker
    assert not Path(f"/proc/{worker}").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_a_worker_that_is_renewed_is_another_and_did_not_die(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    before = host.bus("vm")
    host.renew("vm")
    assert any(host.bus("vm").handovers for _ in range(100_000))
    after = host.bus("vm")
    assert after.worker not in (0, before.worker) and after.restarts == 0
    with pytest.raises(RequestRefused, match="bus nobody: is not there"):
        host.renew("nobody")


@pytest.fixture
def echo(vbusd: Path, tmp_path: Path) -> Path:
    """The example, built with its own Makefile and nothing but what is installed."""
    run, example = Runner(), ROOT / "drivers/host/classes/example"
    run(["meson", "install", "-C", vbusd.parents[1], "--no-rebuild", "--destdir", tmp_path / "installed"])
    (headers,) = (tmp_path / "installed").rglob("vbus_class.h")
    for name in ("Makefile", "echo.c"):
        (tmp_path / name).write_bytes((example / name).read_bytes())
    run(["make", "-C", tmp_path, f"VBUS_CFLAGS=-I{headers.parent}"])
    return tmp_path / "echo.so"


def test_the_example_class_is_built_from_what_is_installed_and_used(
    host: Host, tmp_path: Path, echo: Path
) -> None:
    host.add_bus("vm", tmp_path / "q")
    host.add_class(echo)
    host.add_device("vm", CARD, "echo", mac="")
    assert host.classes()[-1] == DeviceClass("echo", "echo", 1, Backend.NONE, echo, 1, {}, {})
    assert any(host.bus("vm").handovers for _ in range(100_000)) and host.bus("vm").restarts == 0
    with pytest.raises(RequestRefused, match="in use by 1 device;") as refusal:
        host.remove_class("echo")
    assert refusal.value.result is Result.BUSY
    host.remove_device("vm", CARD)
    host.remove_class("echo")
    assert "echo" not in {klass.name for klass in host.classes()}


def test_the_example_class_has_at_most_sixty_lines() -> None:
    text = (ROOT / "drivers/host/classes/example/echo.c").read_text()
    assert len(text.splitlines()) <= 60


ORPHAN = """
import os, signal, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
s.listen()
if os.fork() == 0:
    signal.pause()
"""


def test_a_socket_that_only_a_child_of_a_dead_vbusd_holds_is_taken_over(vbusd: Path, tmp_path: Path) -> None:
    path, log = tmp_path / "s", tmp_path / "log"
    with Runner().start([sys.executable, "-c", ORPHAN, path], output=log) as dead:
        assert dead.wait(10) == 0
        with serving(Runner(), vbusd, path, output=log), Host(path) as host:
            assert host.buses() == []


def test_a_held_bus_is_started_released_and_given_back(host: Host, tmp_path: Path) -> None:
    with Host(tmp_path / "s") as watcher:
        events = watcher.events(seconds=SECONDS)
        ticket, other = host.add_bus("vm", tmp_path / "q", held=True), "ab" * 16
        assert len(ticket) == 32 and host.bus("vm").held and host.bus("vm").worker == 0
        host.add_device("vm", CARD, "venet-loopback", mac=MAC)
        with pytest.raises(RequestRefused, match="for another receipt") as refused:
            host.start("vm", f"{other}:{0:016x}")
        assert refused.value.result == Result.BUSY
        host.start("vm", f"{ticket}:{0:016x}")
        assert not host.bus("vm").held and host.bus("vm").worker > 0
        receipt = host.release("vm", other)
        assert receipt == f"{other}:{host.bus('vm').epoch:016x}" and host.bus("vm").held
        with pytest.raises(RequestRefused, match="given once"):
            host.release("vm", other)
        with pytest.raises(RequestRefused, match="is being moved"):
            host.remove_device("vm", CARD)
        host.start("vm", "", fenced=True)
        told = [event.kind.name for event in itertools.islice(events, 8)]
    assert told[:3] == ["BUS_ADDED", "BUS_HELD", "DEVICE_ADDED"]
    assert told[3:] == ["BUS_STARTED", "WORKER_STARTED", "BUS_HELD", "BUS_STARTED", "WORKER_STARTED"]


def test_a_watcher_is_told_of_every_change_in_order(host: Host, tmp_path: Path) -> None:
    with Host(tmp_path / "s") as watcher:
        events = watcher.events(seconds=SECONDS)
        host.add_bus("vm", tmp_path / "q")
        host.add_device("vm", CARD, "venet-loopback", mac=MAC)
        host.link("vm", CARD, up=False)
        host.mask("vm", 1, 1)
        host.remove_device("vm", CARD)
        host.remove_bus("vm")
        told = list(itertools.islice(events, 7))
    assert [event.kind.name for event in told] == [
        "BUS_ADDED",
        "WORKER_STARTED",
        "DEVICE_ADDED",
        "LINK_CHANGED",
        "MASK_CHANGED",
        "DEVICE_REMOVED",
        "BUS_REMOVED",
    ]
    assert told[2] == Event(EventKind.DEVICE_ADDED, "vm", CARD, 0, 0, "venet-loopback")
    assert told[4] == Event(EventKind.MASK_CHANGED, "vm", None, 1, 1, "")


def test_a_watcher_that_does_not_read_is_dropped_and_nobody_waits(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    with Host(tmp_path / "s") as watcher:
        events = watcher.events(seconds=SECONDS)
        for bits in range(4000):
            host.mask("vm", 1, bits % 2)
        assert "a watcher is dropped" in (tmp_path / "log").read_text()
        assert 0 < len(list(events)) < 4000


def test_a_worker_that_dies_is_an_event(host: Host, tmp_path: Path) -> None:
    host.add_bus("vm", tmp_path / "q")
    with Host(tmp_path / "s") as watcher:
        events = watcher.events(seconds=SECONDS)
        pid = host.bus("vm").worker
        os.kill(pid, signal.SIGKILL)
        died, started = next(events), next(events)
    assert (died.kind, died.value) == (EventKind.WORKER_DIED, pid)
    assert started.kind is EventKind.WORKER_STARTED and started.value != pid


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize(("user", "answer"), [("65534", b"\x01\0\0\0\0\0\0\0"), ("65533", b"")])
def test_only_the_control_user_may_administrate_besides_root(
    vbusd: Path, answer: bytes, user: str, tmp_path: Path
) -> None:
    """The socket itself lets both in here: who connects is what counts."""
    folder = Path(tempfile.mkdtemp(dir="/run"))
    folder.chmod(0o755)
    path, log = folder / "s", tmp_path / "log"
    try:
        with serving(Runner(), vbusd, path, output=log, control_user="65534"):
            assert path.stat().st_uid == 65534 and path.stat().st_mode & 0o777 == 0o600
            path.chmod(0o666)
            hexa = Runner()(
                ["setpriv", f"--reuid={user}", "--clear-groups", "/usr/bin/python3", "-c", ASK, path],
            )
        assert bytes.fromhex(hexa.strip())[:8] == answer
        assert ("uid 65533 is not allowed" in log.read_text()) == (not answer)
    finally:
        shutil.rmtree(folder)


ASK = f"""
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
try:
    s.send(struct.pack("II", 1, 14).ljust({ctypes.sizeof(Request)}, b"\\0"))
    print(s.recv(8).hex())
except (BrokenPipeError, ConnectionResetError):
    print()
"""
