# SPDX-License-Identifier: MIT
"""The guest boots, is the guest that was meant, and its kernel has nothing to complain about."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.guests import FAMILIES
from vbuskit.compat.scenario import Scenario


class Boot(Scenario):
    name = "boot"
    title = "the guest boots and its agent answers"
    order = 0
    far = True
    needs = ()
    cold = True
    families = tuple(FAMILIES)

    def run(self, bench: Bench, cell: Cell) -> None:
        bench.guest.boot()
        cell.compare("agent answers", expected=True, seen=bench.guest.agent.ping())
        cell.compare("kernel", expected=bench.image.recipe.release, seen=bench.guest("uname -r").strip())


def complaints(bench: Bench) -> str:
    """The guest's sick lines as one text; `no complaint` when there are none."""
    return "; ".join(bench.guest.health()) or "no complaint"
