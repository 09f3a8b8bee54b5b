# SPDX-License-Identifier: MIT
"""One guest: boots, listens through its agent, takes and gives back devices, says how its kernel feels."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from vbuskit.base.agent import Agent
from vbuskit.base.errors import Blocked, TimedOut, VbuskitError
from vbuskit.base.places import make
from vbuskit.base.run import CommandFailed, Finished
from vbuskit.base.virt import UNKNOWN, Connection, Domain, VirtError, renamed
from vbuskit.base.wait import until
from vbuskit.compat.console import Console
from vbuskit.compat.domain import BUS, Hardware, bus_device, domain_xml, medium, moved

SICK = re.compile(
    r"\bBUG[: ]|WARNING:|Oops|Call Trace|Kernel panic|general protection|"
    r"unable to handle|soft lockup|blocked for more than|self-detected stall|detected stalls|"
    # What the debug kernel's watchers say besides; one that stops watching is no good sign either.
    r"INFO: (possible|trying to register|lockdep)|suspicious RCU|turning off the locking|"
    r"kmemleak: .*(suspected|disabled)|ODEBUG:|list_(add|del) corruption|refcount_t:"
)

STEP = 256 << 10  # bytes that a guest which boots reads several times in a second
# What a restored guest is told: the time, and random numbers for kernels that no <genid> tells anything.
SETTLE = "date -u -s @{seconds:.3f} >/dev/null && cat >/dev/urandom"

IDLE = 0.1  # seconds of CPU in a second: a guest under TCG that waits for something has less

OFF, KEXEC = "RTMIN+4", "RTMIN+6"  # to init: systemd(1), and guest/init


def qemu_of(uuid: str) -> int:
    """The QEMU whose guest has that UUID; 0: none that can be seen from here."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if uuid.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                return int(folder.name)
    return 0


def busy(pid: int) -> dict[str, float]:
    """Seconds for which each thread of a process has run, or was ready to; none of one that is not there."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # one may end at any time
            found[task.parent.name] = sum(float(word) for word in task.read_text().split()[:2]) / 1e9
    return found


class Watched:
    """The agent's channel of a guest whose console is looked at before each word."""

    def __init__(self, domain: Domain, console: Console, qemu: int) -> None:
        self._domain, self._console, self._qemu = domain, console, qemu

    def agent(self, command: str, seconds: int) -> str:
        self.stop_if(self._console.check)
        return self._domain.agent(command, seconds)

    def is_booting(self) -> bool:
        """Whether it still runs, and has not been started too often."""
        self.stop_if(self._console.check_starts)
        return self._domain.is_running()

    def work(self) -> int:
        """Moves with what QEMU reads and writes, but for the few bytes by which its threads wake each other.

        libvirt could tell the disk's requests, but would ask QEMU for them, which may be what hangs.
        """
        try:
            lines = Path(f"/proc/{self._qemu}/io").read_text().splitlines()[:2]
        except OSError:
            lines = []
        return self._console.size + sum(int(line.split()[1]) for line in lines) // STEP

    def stop_if(self, check: Callable[[], None]) -> None:
        """Pull the plug when `check` raises: such a guest would only go on."""
        try:
            check()
        except VbuskitError:
            self._domain.destroy()
            self._console.cut()
            raise


class Guest:
    """Off until `boot`; leaving the `with` block pulls the plug. Every method says which guest failed.

    Its files are where its host sees them; the folder of its console is there.
    """

    def __init__(self, connection: Connection, hardware: Hardware) -> None:
        self.name = hardware.name
        self.serial = hardware.serial
        self.hardware = hardware
        self._connection = connection
        self._domain: Domain | None = None
        self._agent: Agent | None = None
        self._console = Console(self.name, self.serial)
        self.qemu = 0  # pid of its QEMU, also when that has ended
        self.answered = False  # since it was switched on

    def boot(self, seconds: float = 300) -> float:
        """Switch on; returns the seconds until the agent answered. Raises after `seconds` of silence.

        Also when it floods its console or starts again and again; it is off then.
        """
        start = time.monotonic()
        self._console.restart()
        self._follow(self._connection.launch(domain_xml(self.hardware)), seconds)
        return time.monotonic() - start

    def _follow(self, domain: Domain, seconds: float) -> None:
        """Until the agent of a QEMU that has just been started answers."""
        self._domain, self.answered = domain, False
        self.qemu = qemu_of(domain.uuid)
        watched = Watched(domain, self._console, self.qemu)
        self._agent = Agent(self.name, watched, self.serial, self.rests)
        self._agent.wait(seconds, watched.is_booting, watched.work)
        self.answered = True

    def restart(self, seconds: float = 300) -> float:
        """`shut_down`, and `boot` with another QEMU."""
        self.shut_down(seconds)
        return self.boot(seconds)

    def off(self) -> None:
        """Pull the plug, also of one that is off."""
        if self._domain is not None:
            self._domain.destroy()

    def shut_down(self, seconds: float = 300) -> None:
        """Ask its init, whichever it is. Raises when it still runs after `seconds`."""
        self.agent.start(f"kill -s {OFF} 1")
        if not until(lambda: not self.domain.is_running(), seconds):
            raise TimedOut(
                f"{self.name}: still runs {seconds:g} s after it was shut down",
                hint=f"the guest's console is in {self.serial}",
            )

    def is_running(self) -> bool:
        return self._domain is not None and self._domain.is_running()

    def save(self, file: Path) -> None:
        """Write memory and devices to a file, and switch off; the disk stays as it is then."""
        self.domain.save(file)

    def restore(self, file: Path, seconds: float = 60) -> float:
        """Go on as saved, with the paths of `hardware`; returns the seconds until the agent answered.

        Clock and random numbers are put right: they would be those of the guest that was saved. One of
        another name is copied for that, to the folder with the console's log.
        """
        folder = make(self.serial.parent)
        start = time.monotonic()
        self._console.restart()
        saved = self._connection.saved(file)
        if saved.findtext("name") != self.name:
            with TemporaryDirectory(dir=folder) as own:
                other = renamed(file, self.name, Path(own) / file.name)
                domain = self._connection.restore(other, moved(self._connection.saved(other), self.hardware))
        else:
            domain = self._connection.restore(file, moved(saved, self.hardware))
        self._follow(domain, seconds)
        self(SETTLE.format(seconds=time.time()), stdin=secrets.token_hex(32))
        return time.monotonic() - start

    def plug(self, bus: Path) -> None:
        """Plug a bus in while the guest runs; its driver binds after this has returned."""
        hardware = replace(self.hardware, bus=bus, pluggable=True)
        self.domain.attach(bus_device(bus, hardware.vectors, pluggable=True))
        self.hardware = hardware

    def unplug(self, seconds: float = 60) -> None:
        """Take out the bus that was plugged in. Raises when the guest has not let go after `seconds`."""
        bus = self.hardware.bus
        if bus is None or not self.hardware.pluggable:
            raise VbuskitError(f"{self.name}: has no bus that can be unplugged", hint="plug one in, first")
        self.domain.detach(bus_device(bus, self.hardware.vectors, pluggable=True))
        if not until(lambda: not self._has_bus(), seconds):
            raise TimedOut(
                f"{self.name}: has not let go of the bus after {seconds:g} s",
                hint=f"the guest's console is in {self.serial}",
            )
        self.hardware = replace(self.hardware, bus=None)

    def _has_bus(self) -> bool:
        return any(device.get("name") == BUS for device in self.domain.devices("shmem"))

    @property
    def domain(self) -> Domain:
        if self._domain is None:
            raise VbuskitError(f"{self.name}: is not switched on")
        return self._domain

    @property
    def agent(self) -> Agent:
        if self._agent is None:
            raise VbuskitError(f"{self.name}: is not switched on")
        return self._agent

    def is_awake(self) -> bool:
        """Whether its agent answers now."""
        return self._agent is not None and self._agent.ping()

    def rests(self) -> bool | None:
        """Whether its QEMU has had next to nothing to do for a second; None: that cannot be seen from here.

        What waits for a CPU of the host has something to do.
        """
        before, start = busy(self.qemu), time.monotonic()
        time.sleep(1)
        after, seconds = busy(self.qemu), time.monotonic() - start
        spent = sum(count - before.get(thread, 0.0) for thread, count in after.items())
        return spent < IDLE * seconds if before and after else None

    def state(self) -> str:
        """libvirt's, in words; nothing for one that was never switched on."""
        return "" if self._domain is None else self._domain.state()

    def execute(
        self, command: str | Sequence[str], seconds: float = 60, stdin: str | None = None
    ) -> Finished:
        """Run a program, or a line for /bin/sh when it is text, and look at its exit code oneself."""
        return self.agent.execute(command, seconds, stdin)

    def __call__(self, command: str | Sequence[str], seconds: float = 60, stdin: str | None = None) -> str:
        """Like `execute`; returns standard output, and a non-zero exit code raises CommandFailed."""
        done = self.execute(command, seconds, stdin)
        if done.code:
            words = [f"{self.name}: {command}"] if isinstance(command, str) else list(command)
            raise CommandFailed(words, done.code, done.err or done.out)
        return done.out

    def read(self, path: PurePosixPath | str) -> bytes:
        return self.agent.read(path)

    def write(self, path: PurePosixPath | str, content: bytes) -> None:
        self.agent.write(path, content)

    @contextmanager
    def disc(self, iso: Path) -> Iterator[str]:
        """An ISO in the guest's CD drive; the name of the drive in the guest."""
        # The agent may answer before udev has loaded what the drive hangs on.
        self("udevadm settle")
        self.insert(iso)
        try:
            yield "/dev/sr0"
        except VbuskitError:
            # A tray that does not open then is a consequence; what made it so is the one to tell.
            with suppress(VirtError):
                self.eject()
            raise
        self.eject()

    def insert(self, iso: Path) -> None:
        self.domain.update(medium(iso))

    def eject(self) -> None:
        """Also when the guest has locked the drive by mounting the disc.

        libvirt waits 5 s for the tray, and has to be asked again where a guest takes longer to open it.
        """
        if not until(self._ejects, 1):
            self.domain.update(medium(None))

    def _ejects(self) -> bool:
        try:
            self.domain.update(medium(None))
        except VirtError:
            return False
        return True

    def check_room(self) -> None:
        """Raise Blocked when the guest stands still because its disk cannot grow."""
        disk = self.hardware.disk
        if disk is not None and self._domain is not None and self._domain.lacks_room():
            raise Blocked(
                f"{disk.parent}: the disk is full, and {self.name} was stopped for it",
                hint="free some space, or choose another folder with --out",
            )

    def dmesg(self) -> str:
        return self("dmesg")

    def health(self) -> list[str]:
        """The lines of the kernel's log that no healthy guest has."""
        return [line for line in self.dmesg().splitlines() if SICK.search(line)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._domain is None:
            return
        try:
            self.off()
        except VirtError:
            # A libvirtd that is dead itself does not end it with the connection (START_AUTODESTROY).
            qemu = qemu_of(self._domain.uuid)
            if qemu:
                os.kill(qemu, signal.SIGKILL)
            elif error is None and self.state() != UNKNOWN:
                raise
