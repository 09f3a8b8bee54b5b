# SPDX-License-Identifier: MIT
"""Hosts: a libvirtd of our own in its own namespaces, or one that is already there (`--connect`)."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vbuskit.base import sandbox
from vbuskit.base.errors import Blocked, TimedOut, VbuskitError
from vbuskit.base.places import make
from vbuskit.base.run import Arg, Process, Runner
from vbuskit.base.virt import Connection

# Short on purpose: QEMU's and libvirt's sockets lie below it, and a UNIX path has 107 bytes (sun_path).
STAGE = Path("/run/vbuskit")
NAMESPACES = ("--net", "--mount", "--uts", "--ipc")  # the same words for unshare and for nsenter
PRIVATE = ("var/lib/libvirt", "run/libvirt", "etc/libvirt", "var/cache/libvirt", "run/vbus")
LOGS = "var/log/libvirt"
ASLEEP = ("sleep", "infinity")
PATIENCE = 60.0  # seconds; libvirtd was seen to answer after 0.3 to 11

# libvirtd looks these up when it starts, even when qemu.conf names others; the package that makes them
# (libvirt-daemon-system) would also start a libvirtd on the machine itself.
ACCOUNTS = {
    Path("/etc/passwd"): ("libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin",),
    Path("/etc/group"): ("libvirt-qemu:x:64055:", "kvm:x:64054:"),
}

LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
# No virtlogd and no cgroups of the real host: nothing outside the namespaces is asked or changed.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
# In new namespaces: a root that is not written to, with folders from outside under the same names.
ENTER = """\
set -eu
root=$1 stage=$2 new=$2/root
shift 2
mkdir -p "$stage/upper" "$stage/work" "$new"
mount --bind "$root" "$new"
mount -t overlay overlay -o "lowerdir=$new,upperdir=$stage/upper,workdir=$stage/work" "$new"
mount -t proc proc "$new/proc"
mount --rbind /dev "$new/dev"
mount -t tmpfs tmpfs "$new/run"
mount -t tmpfs tmpfs "$new/tmp"
for folder; do
    mkdir -p "$new$folder"
    mount --bind "$folder" "$new$folder"
done
mkdir "$new/.old"
cd "$new"
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
exec sleep infinity
"""


class Host(Protocol):
    """Where guests run. `connection` is open inside the `with` block; `logs` has what it logs."""

    name: str
    logs: Path
    connection: Connection

    def command(self, args: Sequence[Arg]) -> list[Arg]:
        """The same command, on the host; for a Runner. A private one has the caller's PID namespace."""
        ...

    def bring(self, *files: Path) -> list[Path]:
        """The same files as the host sees them, all in one folder if they were; they are not written to."""
        ...

    def place(self, near: Path) -> Path:
        """Where the host has a file of a guest, such as its disk or its console, that is `near` here."""
        ...

    def fetch(self, near: Path) -> None:
        """Have it here, as it is now."""
        ...

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a process whose number the host's programs said."""
        ...

    def seen(self, path: str) -> Path:
        """Where the caller finds a path below the host's own folders, such as /run/vbus/x."""
        ...

    def ended(self) -> int | None:
        """How its libvirtd ended, if that is known; None: it runs."""
        ...

    def lost(self) -> str:
        """Why it is ours no more; nothing as long as it is."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def raise_stage() -> None:
    """A tmpfs for all hosts of a sandbox; whoever starts several processes makes it before them."""
    make(STAGE)
    if not STAGE.is_mount():
        sandbox.mount("tmpfs", str(STAGE), "tmpfs", sandbox.MS_NOSUID | sandbox.MS_NODEV, "mode=0700")


class Here:
    """Of a host that has this machine's files and processes."""

    def bring(self, *files: Path) -> list[Path]:
        return list(files)

    def place(self, near: Path) -> Path:
        return near

    def fetch(self, near: Path) -> None:
        """It is here."""

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(pid, number)

    def lost(self) -> str:
        return ""


def is_here(host: Host) -> bool:
    """Whether it is, and not behind ssh."""
    return isinstance(host, Here)


class PrivateHost(Here):
    """Network, mount, UTS and IPC namespaces with a libvirtd; its folders are its own, on a tmpfs.

    Only inside the sandbox: what is mounted here goes with the sandbox's mount namespace.
    """

    def __init__(
        self,
        run: Runner,
        name: str,
        logs: Path,
        *,
        hook: str = "",
        folders: Sequence[str] = (),
        settings: str = "",
        root: Path | None = None,
        visible: Sequence[Path] = (),
    ) -> None:
        """`hook`: text of the script that libvirt calls when a guest starts and ends, or none.

        folders:  more that are its own, relative to /
        settings: more lines of qemu.conf
        root:     a tree of another Debian with a libvirtd, never written to; None: this machine's own
        visible:  folders of this machine that it has under the same names all the same
        """
        self.name = name
        self.logs = logs
        self.connection: Connection
        self._run = run
        self._hook = hook
        self._folders = (*PRIVATE, *folders)
        self._settings = settings
        self._tree = root
        self._visible = visible
        self._holder: Process
        self._daemon: Process
        self._root = STAGE / name
        self._undo = ExitStack()

    def command(self, args: Sequence[Arg]) -> list[Arg]:
        return ["nsenter", f"--target={self._holder.pid}", *NAMESPACES, "--", *args]

    def seen(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def ended(self) -> int | None:
        return self._daemon.poll()

    @property
    def pid(self) -> int:
        """Of a process that lives in all its namespaces."""
        return self._holder.pid

    def __enter__(self) -> Self:
        if not sandbox.is_inside():
            raise RuntimeError("a private host belongs in the sandbox: its mounts would stay")
        with ExitStack() as undo:
            self._stage()
            self._holder = undo.enter_context(
                held(self._run, NAMESPACES, self.logs / "holder.out", self._entry())
            )
            self._furnish()
            self._configure()
            self._daemon = undo.enter_context(self._start())
            self.connection = undo.enter_context(self._connect(self._daemon))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _stage(self) -> None:
        raise_stage()
        make(self.logs)
        make(self._root)

    def _entry(self) -> Sequence[Arg]:
        """The words of what becomes `sleep` once it is in the host's own root."""
        if self._tree is None:
            return ASLEEP
        stage = make(self._root.with_name(f"{self.name}.root"))
        return ["sh", "-c", ENTER, "sh", self._tree, stage, STAGE, self.logs, *self._visible]

    def _furnish(self) -> None:
        bound = {Path("/") / LOGS: self.logs}
        bound |= {Path("/") / folder: make(self._root / folder) for folder in self._folders}
        inside: list[list[Arg]] = [
            ["mkdir", "-p", *bound],
            ["ip", "link", "set", "lo", "up"],
            ["sh", "-c", 'echo "$1" >/proc/sys/kernel/hostname', "sh", self.name],
            ["mount", "-t", "sysfs", "sysfs", "/sys"],
            ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"],  # QEMU's memory files would stay after it
        ]
        bound |= {file: self._with_accounts(file) for file in ACCOUNTS}
        inside += [["mount", "--bind", ours, theirs] for theirs, ours in bound.items()]
        for args in inside:
            self._run(self.command(args))

    def _with_accounts(self, file: Path) -> Path:
        """The machine's own list, and what it lacks."""
        lines = ((self._tree or Path("/")) / file.relative_to("/")).read_text().splitlines()
        names = {line.partition(":")[0] for line in lines}
        lines += [line for line in ACCOUNTS[file] if line.partition(":")[0] not in names]
        copy = make(self._root / "etc") / file.name
        copy.write_text("\n".join(lines) + "\n")
        copy.chmod(0o644)
        return copy

    def _configure(self) -> None:
        settings = self._root / "etc/libvirt"
        (settings / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
        (settings / "qemu.conf").write_text(QEMU_CONF + self._settings)
        if self._hook:
            script = make(settings / "hooks") / "qemu"
            script.write_text(self._hook)
            script.chmod(0o755)

    def _start(self) -> Process:
        # A pid file of its own: the default lies in /run, where a libvirtd of the machine may have it.
        args: list[Arg] = ["libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid"]
        return self._run.start(self.command(args), output=self.logs / "libvirtd.out")

    def _connect(self, daemon: Process) -> Connection:
        socket = self.seen("/run/libvirt/libvirt-sock")
        deadline = time.monotonic() + PATIENCE
        hint = f"its log is in {self.logs}"
        while True:
            try:
                return Connection(f"qemu+unix:///system?socket={socket}")
            except Blocked as error:
                if daemon.poll() is not None:
                    raise VbuskitError(
                        f"libvirtd ended with exit code {daemon.poll()}", hint=hint
                    ) from error
                if time.monotonic() > deadline:
                    raise TimedOut(f"libvirtd: no answer within {PATIENCE:g} s", hint=hint) from error
            time.sleep(0.05)


def held(run: Runner, namespaces: Sequence[str], output: Path, entry: Sequence[Arg] = ASLEEP) -> Process:
    """A process that only lives in new namespaces; `entry` are words of a program that becomes `sleep`.

    Bind mounts of /proc/PID/ns/* would need none, but Linux 6.18 was seen to refuse some of them for a
    mount namespace (EINVAL, about one in ten).
    """
    private = ["--propagation", "private"] if "--mount" in namespaces else []
    holder = run.start(["unshare", *namespaces, *private, *entry], output=output)
    deadline = time.monotonic() + 10
    while holder.poll() is None and time.monotonic() < deadline:
        # It becomes `sleep` after the last namespace is made.
        if Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep":
            return holder
        time.sleep(0.002)
    holder.stop()
    raise Blocked("the host's namespaces cannot be made", hint=f"{output} says why")


class ForeignHost(Here):
    """A libvirt that somebody else runs; commands run here, as they are."""

    def __init__(self, uri: str, logs: Path) -> None:
        self.name = uri
        self.logs = make(logs)
        self.connection: Connection
        self._uri = uri

    def command(self, args: Sequence[Arg]) -> list[Arg]:
        return list(args)

    def seen(self, path: str) -> Path:
        return Path(path)

    def ended(self) -> int | None:
        return None

    def __enter__(self) -> Self:
        self.connection = Connection(self._uri)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
