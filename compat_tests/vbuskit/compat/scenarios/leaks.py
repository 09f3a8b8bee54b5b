# SPDX-License-Identifier: MIT
"""What kmemleak finds that our modules took and nobody knows any more; only the debug kernel has it."""

from __future__ import annotations

import re

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.scenario import Scenario

FILE = "/sys/kernel/debug/kmemleak"
# Nothing younger than 5 s is reported, and nothing that changed since the scan before.
SCAN = f"sleep 6; for scan in 1 2 3; do echo scan >{FILE} || exit 1; done"
OURS = re.compile(r"\[(?:vbus|venet|vblk)\]")
GONE = re.compile(r"^ *\[<[0-9a-f]+>\] 0x[0-9a-f]+$", re.MULTILINE)  # a module that was unloaded


class Leaks(Scenario):
    name = "leaks"
    title = "kmemleak finds nothing that the drivers lost, whatever was tried before"
    order = 78  # before the guest is restarted, which forgets
    needs = ("install",)

    def run(self, bench: Bench, cell: Cell) -> None:
        if not is_watched(bench):
            raise CellSkipped(f"needs {FILE}, which the guest's kernel does not have")
        found = lost(bench)
        log = bench.guest.serial.with_name(f"{bench.guest.name}-leaks.log")
        log.write_text("\n".join(found))
        cell.logs.append(log)
        cell.compare("objects that our modules lost", expected=0, seen=len(found))


def is_watched(bench: Bench) -> bool:
    """Whether the guest's kernel has kmemleak."""
    return not bench.guest.execute(f"test -e {FILE}").code


def lost(bench: Bench) -> list[str]:
    """What kmemleak says of each object that our modules have lost."""
    bench.guest(SCAN, seconds=300)
    return ours(bench.guest.read(FILE).decode(errors="replace"))


def ours(report: str) -> list[str]:
    """Of kmemleak's report the objects with a module of ours in their backtrace, or one that is gone."""
    objects = re.split(r"^(?=unreferenced object )", report, flags=re.MULTILINE)[1:]
    return [text for text in objects if OURS.search(text) or GONE.search(text)]
