# SPDX-License-Identifier: MIT
"""What the administrator masks is not offered, and both sides report the same set."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import MASKED
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import bring_up, ping

EVENTQ, LINKSTATE = 1, 0x1  # venet_abi.h


class Mask(Scenario):
    name = "mask"
    title = "a masked feature bit is not offered, and both sides say so"
    order = 60
    far = True
    needs = ("negotiate",)

    def run(self, bench: Bench, cell: Cell) -> None:
        bit = f"group {EVENTQ}, bit {LINKSTATE:#x}"
        usual = bench.bus.features_in(bench.guest, bench.bus.net)
        cell.compare(f"without a mask: {bit}", expected=LINKSTATE, seen=usual.active[EVENTQ] & LINKSTATE)
        with bench.bus.masked(EVENTQ, LINKSTATE):
            bench.bus.add(MASKED)
            cell.compare("in the guest", expected="open", seen=bench.bus.appears(bench.guest, MASKED))
            north, south = bench.bus.features_in(bench.guest, MASKED), bench.bus.features(MASKED)
            cell.compare(f"offered: {bit}", expected=0, seen=north.offered[EVENTQ] & LINKSTATE)
            cell.compare(f"negotiated: {bit}", expected=0, seen=north.active[EVENTQ] & LINKSTATE)
            cell.compare("offered, both sides", expected=south.offered, seen=north.offered)
            cell.compare("negotiated, both sides", expected=south.active, seen=north.active)
            bring_up(bench, MASKED)
            cell.compare("ping without the feature", expected="20 of 20", seen=str(ping(bench, MASKED)))
            bench.bus.remove(MASKED)
            cell.compare("removed", expected="gone", seen=bench.bus.vanishes(bench.guest, MASKED))
