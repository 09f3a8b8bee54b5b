# SPDX-License-Identifier: MIT
"""dpkg and rpm install, upgrade and remove `vbusd` on a copy of this machine, under a guest that is served.

The copy is an overlay with processes of its own; a stand-in for systemctl plays what systemd does for vbusd.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit
from vbuskit.base.run import Arg, Finished, Process, Runner
from vbuskit.base.wait import until

DISK = "01010101-0101-0101-0101-010101010101"  # what drivers/host/tests/disk.c asks for
PART = 1 << 20
SECONDS = 120.0
HOOK = "/etc/libvirt/hooks/qemu.d/50-vbuskit"

# /srv is shared with the test, /media is what was changed. The old /proc says the number that process 1 has
# for the test.
ENTER = """\
set -eu
stage=$1 shared=$2
mount -t tmpfs -o mode=0755 tmpfs "$stage"
mkdir "$stage/upper" "$stage/work" "$stage/root"
mount -t overlay -o "lowerdir=/,upperdir=$stage/upper,workdir=$stage/work" overlay "$stage/root"
cd "$stage/root"
mount --bind "$shared" srv
mount --bind "$stage/upper" media
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
read -r pid rest </proc/self/stat
mount -t proc proc proc
pivot_root . mnt
umount -l /mnt
rm -f /usr/sbin/policy-rc.d /usr/bin/systemctl
cp /srv/systemctl /usr/bin/systemctl
mkdir -p /run/systemd/system
echo "$pid" >/srv/pid.draft
mv /srv/pid.draft /srv/pid
while :; do sleep 1; done
"""

SYSTEMCTL = """\
#!/bin/sh
# What systemd does with vbusd.service, and notes for the rest. /srv/between runs while there is no vbusd.
while [ "${1#--}" != "$1" ]; do shift; done
action=$1
shift
echo "$action${1+ }$*" >>/srv/calls
unit=/usr/lib/systemd/system/vbusd.service
wants=/etc/systemd/system/multi-user.target.wants
is_active() { [ -s /run/vbusd.pid ] && kill -0 "$(cat /run/vbusd.pid)" 2>/dev/null; }
start() {
    is_active && return
    VBUSD_OPTIONS=
    [ ! -e /etc/vbuskit/vbusd.env ] || . /etc/vbuskit/vbusd.env
    export VBUSD_OPTIONS
    setsid sh -c "exec $(sed -n 's/^ExecStart=//p' $unit)" </dev/null >>/srv/vbusd.log 2>&1 &
    echo $! >/run/vbusd.pid
    until vbuskit host status >/dev/null 2>&1; do
        is_active || return 1
        sleep 0.05
    done
}
stop() {
    is_active || return 0
    kill -TERM "$(cat /run/vbusd.pid)"
    while is_active; do sleep 0.02; done
}
case "$action $*" in
preset*)
    mkdir -p $wants
    for service; do ln -sf "/usr/lib/systemd/system/$service" $wants; done
    ;;
is-enabled*) [ -e "$wants/$2" ] && echo enabled ;;
is-active*vbusd.service) is_active ;;
is-active*) exit 3 ;;
start*vbusd.service*) start ;;
try-restart*vbusd.service*) ! is_active || { stop; [ ! -e /srv/between ] || sh /srv/between; start; } ;;
restart*vbusd.service*) stop; [ ! -e /srv/between ] || sh /srv/between; start ;;
stop*vbusd.service) stop ;;
disable*vbusd.service)
    rm -f $wants/vbusd.service $wants/vbus-control.service
    stop
    ;;
esac
"""

# What changes with any package, and with any user.
TOOLS_OWN = ("/var/lib/dpkg/", "/var/log/", "/var/cache/", "/var/lib/rpm/", "/var/lib/systemd/")
ACCOUNTS = ("passwd", "passwd-", "group", "group-", "shadow", "shadow-", "gshadow", "gshadow-", ".pwd.lock")

# A guest's write while no vbusd is there.
BETWEEN = """\
timeout 30 sh -c 'cat /srv/second >/srv/pipe
    until cmp -s -n {size} /srv/image /srv/data; do sleep 0.02; done' && echo >/srv/served
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and installs packages")


@dataclass(frozen=True, slots=True)
class Format:
    """How a package of one kind is installed, upgraded and taken away."""

    install: tuple[Arg, ...]
    upgrade: tuple[Arg, ...]
    remove: tuple[Arg, ...]


# rpm's database knows none of this machine's packages, and Debian's has another place for each user.
# --force-debian: that rpm would rather use Alien.
RPM = ("rpm", "--dbpath", "/var/lib/rpm", "--force-debian")
FORMATS = {
    "deb": Format(("dpkg", "-i"), ("dpkg", "-i"), ("dpkg", "--remove", "vbusd")),
    "rpm": Format((*RPM, "-i", "--nodeps"), (*RPM, "-U", "--nodeps"), (*RPM, "-e", "vbusd")),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A copy of this machine. `shared` is /srv there; `first` its process 1."""

    shared: Path
    first: int
    kind: str
    old: Path
    new: Path

    def words(self, *args: Arg) -> list[Arg]:
        return ["nsenter", f"--target={self.first}", "--mount", "--pid", "--", *args]

    def attempt(self, *args: Arg) -> Finished:
        return Runner().attempt(self.words(*args), seconds=SECONDS)

    def __call__(self, *args: Arg) -> str:
        return Runner()(self.words(*args), seconds=SECONDS)

    def install(self, package: Path) -> Finished:
        shutil.copy(package, self.shared)
        words = FORMATS[self.kind].install if package == self.old else FORMATS[self.kind].upgrade
        done = self.attempt(*words, f"/srv/{package.name}")
        assert done.code == 0, done.err
        return done

    def remove(self) -> Finished:
        return self.attempt(*FORMATS[self.kind].remove)

    def calls(self) -> list[str]:
        """What systemctl was asked to do, but for questions."""
        path = self.shared / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in said if not line.startswith("is-")]

    def exists(self, path: str) -> bool:
        return not self.attempt("test", "-e", path).code

    def changed(self) -> set[str]:
        """Files that are not what they are on this machine, but for those of systemctl's stand-in."""
        found = self("find", "/media", "-type", "f").replace("/media", "").splitlines()
        return {path for path in found if path != "/usr/bin/systemctl"}

    def bus(self) -> dict[str, Any]:
        (bus,) = json.loads(self("vbuskit", "host", "status", "--json"))
        return dict(bus)

    def program_of(self, pid: int) -> bytes:
        """What the process runs, also when the file has no name by now; nothing when there is none."""
        try:
            return Path(f"/proc/{self.first}/root/proc/{pid}/exe").read_bytes()
        except FileNotFoundError:
            return b""

    def vbusd(self) -> int:
        return int(self("cat", "/run/vbusd.pid"))


@pytest.fixture(params=[*FORMATS])
def machine(
    request: pytest.FixtureRequest, vbusd_packages: dict[str, tuple[Path, Path]], tmp_path: Path
) -> Iterator[Machine]:
    if not (shutil.which("systemd-sysusers") and shutil.which("systemd-tmpfiles")):
        pytest.skip("systemd-sysusers, systemd-tmpfiles: not installed (package systemd)")
    stage, shared = tmp_path / "stage", tmp_path / "shared"
    stage.mkdir()
    shared.mkdir()
    (shared / "systemctl").write_text(SYSTEMCTL)
    (shared / "systemctl").chmod(0o755)
    namespaces: list[Arg] = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
    ]
    output = tmp_path / "output"
    with Runner().start([*namespaces, "sh", "-c", ENTER, "sh", stage, shared], output=output) as process:
        until(lambda: (shared / "pid").exists() or process.poll() is not None, SECONDS)
        if process.poll() is not None:
            pytest.skip(f"no copy of this machine: {output.read_text()}")
        old, new = vbusd_packages[request.param]
        yield Machine(shared, int((shared / "pid").read_text()), request.param, old, new)
        process.kill()  # and everything with it; unshare hears no SIGTERM while it waits


@dataclass(slots=True)
class Guest:
    """A guest's driver of the disk: what is put into `pipe` is written to it, and read back at the end."""

    machine: Machine
    process: Process
    pipe: int
    data: bytes

    def write(self, part: int) -> None:
        """Returns when the disk has it."""
        data = self.data[part * PART : (part + 1) * PART]
        assert os.write(self.pipe, data) == PART
        assert until(lambda: self.image()[: (part + 1) * PART] == self.data[: (part + 1) * PART], SECONDS)

    def image(self) -> bytes:
        return (self.machine.shared / "image").read_bytes()

    def end(self) -> bytes:
        """What was read back."""
        os.close(self.pipe)
        assert self.process.wait(SECONDS) == 0
        return (self.machine.shared / "back").read_bytes()


@pytest.fixture
def guest(machine: Machine, built: Mapping[str, Artifact]) -> Iterator[Guest]:
    """On a bus with a disk, of the package as it is now."""
    shared, data = machine.shared, random.Random(1).randbytes(3 * PART)
    machine.install(machine.old)
    machine("systemctl", "start", "vbusd.service")
    shutil.copy(built["vbusd"].path.parent / "tests/disk", shared)
    (shared / "image").write_bytes(bytes(3 * PART))
    os.mkfifo(shared / "pipe")
    machine("mkdir", "-p", "/run/vbus")
    machine("vbuskit", "host", "add", "vm", "--qemu", "/run/vbus/vm.sock")
    disk = ["--device", DISK, "--class", "vblk-file", "--image", "/srv/image"]
    machine("vbuskit", "host", "add", "vm", *disk)
    driver = machine.words("sh", "-c", "/srv/disk /run/vbus/vm.sock </srv/pipe >/srv/back")
    with Runner().start(driver, output=shared / "disk.log") as process:
        yield Guest(machine, process, os.open(shared / "pipe", os.O_WRONLY), data)


def test_an_upgrade_replaces_vbusd_and_the_worker_serves_its_guest_on(
    machine: Machine, guest: Guest
) -> None:
    guest.write(0)
    before, vbusd = machine.bus(), machine.vbusd()
    (machine.shared / "data").write_bytes(guest.data)
    (machine.shared / "second").write_bytes(guest.data[PART : 2 * PART])
    (machine.shared / "between").write_text(BETWEEN.format(size=2 * PART))
    machine.install(machine.new)
    assert (machine.shared / "served").exists()
    after = machine.bus()
    for what in ("worker", "epoch", "sessions", "restarts", "handovers", "lost"):
        assert after[what] == before[what], what
    assert after["takeovers"] == before["takeovers"] + 1 and after["connected"]
    assert machine.vbusd() != vbusd
    assert b".newer" in machine.program_of(machine.vbusd())
    assert b".newer" not in machine.program_of(after["worker"]) != b""
    guest.write(2)
    assert machine.bus()["worker"] == before["worker"]
    assert guest.end() == guest.data
    # The next session's is of the new program; host-takeover has one that comes in the middle of a session.
    assert until(lambda: b".newer" in machine.program_of(machine.bus()["worker"]), SECONDS)


def test_a_vbusd_that_does_not_start_fails_no_upgrade_and_takes_no_worker_along(
    machine: Machine, guest: Guest
) -> None:
    guest.write(0)
    worker = machine.bus()["worker"]
    machine("sh", "-c", "echo VBUSD_OPTIONS=--nonsense >/etc/vbuskit/vbusd.env")
    said = machine.install(machine.new).err
    assert "vbusd: does not start (journalctl -u vbusd says why); workers that run serve on" in said
    assert machine.attempt("vbuskit", "host", "status").code == Exit.BLOCKED
    guest.write(1)
    machine("sh", "-c", "echo VBUSD_OPTIONS= >/etc/vbuskit/vbusd.env")
    machine("systemctl", "start", "vbusd.service")
    assert (machine.bus()["worker"], machine.bus()["takeovers"]) == (worker, 1)
    guest.write(2)
    assert guest.end() == guest.data


def test_a_package_that_a_guest_needs_stays_until_the_guest_ends_and_leaves_nothing_then(
    machine: Machine, guest: Guest
) -> None:
    guest.write(0)
    worker = machine.bus()["worker"]
    refused = machine.remove()
    assert refused.code != 0
    assert "vbuskit: down: guests use vm\nhint: end these guests, or migrate them\n" in refused.err
    assert "vbusd: the package stays; end these guests and remove it again" in refused.err
    assert machine.exists("/usr/libexec/vbuskit/vbus-worker")
    assert (machine.bus()["worker"], machine.bus()["restarts"]) == (worker, 0)
    guest.write(1)
    guest.end()
    assert until(lambda: not machine.bus()["connected"], SECONDS)
    machine.calls()
    done = machine.remove()
    assert done.code == 0, done.err
    ended = {"deb": ["stop", "daemon-reload"], "rpm": ["disable", "daemon-reload"]}
    assert [line.split()[0] for line in machine.calls()] == ended[machine.kind]
    assert machine.attempt("pgrep", "-x", "vbusd|vbus-worker").out == ""
    if machine.kind == "deb":
        machine("dpkg", "--purge", "vbusd")
        assert not machine.exists("/var/lib/vbuskit") and not machine.exists("/vbus")
    left = {path for path in machine.changed() if not path.startswith(TOOLS_OWN)}
    assert left - {f"/etc/{name}" for name in ACCOUNTS} == set()


def test_a_package_whose_workers_serve_a_guest_without_a_vbusd_stays(machine: Machine, guest: Guest) -> None:
    guest.write(0)
    worker = machine.bus()["worker"]
    machine("systemctl", "stop", "vbusd.service")
    refused = machine.remove()
    assert refused.code != 0
    said = "vbusd: the package stays, for workers run and no vbusd can tell what for; systemctl start vbusd"
    assert said in refused.err
    guest.write(1)
    machine("systemctl", "start", "vbusd.service")
    assert machine.bus()["worker"] == worker
    guest.end()


def test_a_package_that_cannot_tell_whether_guests_need_it_stays_and_says_that(machine: Machine) -> None:
    machine.install(machine.old)
    machine("mv", "/usr/share/vbuskit", "/usr/share/away")
    refused = machine.remove()
    assert refused.code != 0
    assert "vbusd: the package stays, for vbuskit cannot tell whether guests need it" in refused.err
    machine("mv", "/usr/share/away", "/usr/share/vbuskit")
    assert machine.remove().code == 0


def test_an_installation_makes_the_user_and_the_folders_and_the_units_are_sound(machine: Machine) -> None:
    machine.install(machine.old)
    started = {
        "deb": [
            "preset vbusd.service",
            "preset vbus-control.service",
            "daemon-reload",
            "start vbusd.service vbus-control.service",
        ],
        "rpm": [
            "preset vbusd.service vbus-control.service",
            "daemon-reload",
            "try-restart vbusd.service vbus-control.service",
        ],
    }
    assert machine.calls() == started[machine.kind]
    assert machine("getent", "passwd", "vbus").startswith("vbus:x:")
    folders = {
        "/run/vbuskit": "root 755",
        "/var/lib/vbuskit": "root 755",
        "/var/lib/vbuskit/control": "vbus 700",
        "/vbus": "root 755",
    }
    assert machine("stat", "-c", "%U %a", *folders).splitlines() == [*folders.values()]
    units = [f"/usr/lib/systemd/system/{name}.service" for name in ("vbusd", "vbus-control")]
    verified = machine.attempt("systemd-analyze", "verify", "--man=no", *units)
    said = [line for line in verified.err.splitlines() if "FileDescriptorStorePreserve" not in line]
    assert [line for line in said if "vbus" in line] == []
    up = machine.attempt("vbuskit", "host", "up")
    words = "vbuskit: up: needs a checkout to build vbusd\nhint: systemctl start vbusd\n"
    assert (up.code, up.err) == (Exit.USAGE, words)


def test_what_the_administrator_changed_outlives_an_upgrade_and_a_left_hook_stops_no_guest(
    machine: Machine,
) -> None:
    machine.install(machine.old)
    machine("systemctl", "stop", "vbusd.service")
    machine("rm", "-f", "/etc/systemd/system/multi-user.target.wants/vbusd.service")
    machine("sh", "-c", "echo VBUSD_OPTIONS=--require-sandbox >/etc/vbuskit/vbusd.env")
    machine("sh", "-c", "mkdir -p /etc/vbuskit/buses; echo '[bus]' >/etc/vbuskit/buses/vm.toml")
    machine("sh", "-c", f"echo '# mine' >>{HOOK}")
    machine.install(machine.new)
    assert machine.attempt("systemctl", "is-active", "vbusd.service").code != 0
    assert machine(
        "tail", "-qn1", "/etc/vbuskit/vbusd.env", "/etc/vbuskit/buses/vm.toml", HOOK
    ).splitlines() == [
        "VBUSD_OPTIONS=--require-sandbox",
        "[bus]",
        "# mine",
    ]
    assert machine.remove().code == 0
    assert machine.exists("/etc/vbuskit/buses/vm.toml") and not machine.exists("/usr/bin/vbuskit")
    (hook,) = (path for path in machine.changed() if path.startswith(HOOK))
    done = machine.attempt(hook, "vm", "prepare", "begin", "-")
    assert (done.code, done.out, done.err) == (0, "", "")
