# SPDX-License-Identifier: MIT
"""What a guest writes to its serial port, looked at while it does: one that floods it or starts for ever."""

from __future__ import annotations

import re
from pathlib import Path

from vbuskit.base.errors import VbuskitError

MOST = 16 << 20  # bytes of one guest's console; the debug kernel's whole profile wrote less than one MiB
KEPT = 64 << 10  # bytes of either end of one that was too long
STARTS = 5  # of a kernel before its agent answers: firmware and shim may restart it once or twice
STAMP = re.compile(rb"^\[ *(\d+\.\d{6})\] (reboot: Restarting system)?", re.MULTILINE)


class Floods(VbuskitError):
    """The guest writes to its serial port without end; it was stopped for that."""


class KeepsRestarting(VbuskitError):
    """The guest starts again and again before its agent answers; it was stopped for that."""


class Console:
    """A guest's console in a file that QEMU appends to, over all of its boots."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self._begin()

    def _begin(self) -> None:
        self._read = self.size
        self._rest = b""
        self._time = 0.0
        self._clocks = self._goodbyes = 0

    @property
    def size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def restart(self) -> None:
        """It is switched on: its starts are counted from here."""
        self._begin()

    def check(self) -> None:
        """Raise Floods when it has written more than a guest may; ever, so that no disk is filled."""
        if (size := self.size) > MOST:
            raise Floods(
                f"{self._name}: floods its serial port, {size >> 20} MiB so far, and was stopped",
                hint=f"the guest's console is in {self._path}",
            )

    def cut(self) -> None:
        """Keep the two ends of a console that was too long; nobody writes to it any more."""
        if self.size <= MOST:
            return
        with self._path.open("r+b") as file:
            left_out = f"\n... {self.size - 2 * KEPT} bytes left out ...\n".encode()
            file.seek(-KEPT, 2)
            end = file.read()
            file.truncate(KEPT)
            file.seek(0, 2)
            file.write(left_out + end)

    def check_starts(self) -> None:
        """Raise KeepsRestarting when its kernel has begun to count its seconds anew once too often.

        One that never counts far says that it restarts.
        """
        with self._path.open("rb") if self._path.exists() else Path("/dev/null").open("rb") as file:
            file.seek(self._read)
            new = file.read(MOST)
        self._read += len(new)
        whole, _, self._rest = (self._rest + new).rpartition(b"\n")
        for found in STAMP.finditer(whole):
            time = float(found[1])
            self._clocks += time < self._time - 0.1
            self._goodbyes += found[2] is not None
            self._time = time
        if (starts := 1 + max(self._clocks, self._goodbyes)) > STARTS:
            raise KeepsRestarting(
                f"{self._name}: has started {starts} times, its agent has not answered, and it was stopped",
                hint=f"the guest's console is in {self._path}",
            )
