# SPDX-License-Identifier: MIT
"""One guest: boots, listens through its agent, takes and gives back devices, says how its kernel feels."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from vbuskit.base.agent import Agent
from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.base.run import CommandFailed, Finished
from vbuskit.base.virt import Connection, Domain, VirtError
from vbuskit.base.wait import until
from vbuskit.compat.domain import Hardware, domain_xml, medium

SICK = re.compile(
    r"\bBUG[: ]|WARNING:|Oops|Call Trace|Kernel panic|general protection|"
    r"unable to handle|soft lockup|blocked for more than|self-detected stall|detected stalls|"
    # What the debug kernel's watchers say besides; one that stops watching is no good sign either.
    r"INFO: (possible|trying to register|lockdep)|suspicious RCU|turning off the locking|"
    r"kmemleak: .*(suspected|disabled)|ODEBUG:|list_(add|del) corruption|refcount_t:"
)

OFF, KEXEC = "RTMIN+4", "RTMIN+6"  # to init: systemd(1), and guest/init


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

    def boot(self, seconds: float = 300) -> float:
        """Switch on; returns the seconds until the agent answered. Raises after `seconds` of silence."""
        start = time.monotonic()
        domain = self._connection.launch(domain_xml(self.hardware))
        self._domain, self._agent = domain, Agent(self.name, domain, self.serial)
        self._agent.wait(seconds, domain.is_running)
        return time.monotonic() - start

    def restart(self, seconds: float = 300) -> float:
        """`shut_down`, and `boot` with another QEMU."""
        self.shut_down(seconds)
        return self.boot(seconds)

    def shut_down(self, seconds: float = 300) -> None:
        """Ask its init, whichever it is. Raises when it still runs after `seconds`."""
        self.agent.start(f"kill -s {OFF} 1")
        if not until(lambda: not self.domain.is_running(), seconds):
            raise VbuskitError(
                f"{self.name}: still runs {seconds:g} s after it was shut down",
                hint=f"the guest's console is in {self.serial}",
            )

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
            self._domain.destroy()
        except VirtError:
            # It ends with the connection (VIR_DOMAIN_START_AUTODESTROY); the first error is the one to tell.
            if error is None:
                raise
