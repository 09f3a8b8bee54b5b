# SPDX-License-Identifier: MIT
"""A second card comes and goes while the first one carries traffic."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import EXTRA
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import MIB, TO_HOST, bring_up, ping, transfer

SIZE = 32 * MIB


class HotAdd(Scenario):
    name = "hotadd"
    title = "a second card is added under traffic and works"
    order = 50
    far = True
    needs = ("transfer",)

    def run(self, bench: Bench, cell: Cell) -> None:
        bring_up(bench, bench.bus.net)
        with transfer(bench, bench.bus.net, TO_HOST, SIZE) as under_way:
            bench.bus.moved(bench.bus.net, SIZE // 8)
            bench.bus.add(EXTRA)
            cell.compare("in the guest", expected="open", seen=bench.bus.appears(bench.guest, EXTRA))
            bring_up(bench, EXTRA)
            cell.compare("ping over the new card", expected="20 of 20", seen=str(ping(bench, EXTRA)))
            sent, got = under_way.ends()
        cell.compare("meanwhile, the first card: got what was sent", expected=sent, seen=got)


class HotRemove(Scenario):
    name = "hotremove"
    title = "the second card is removed under traffic and leaves nothing"
    order = 51
    far = True
    needs = ("hotadd",)

    def run(self, bench: Bench, cell: Cell) -> None:
        bring_up(bench, bench.bus.net)
        with transfer(bench, bench.bus.net, TO_HOST, SIZE) as under_way:
            bench.bus.moved(bench.bus.net, SIZE // 8)
            free = int(bench.bus.north(bench.guest)["pool_free"])
            bench.bus.remove(EXTRA)
            cell.compare("in the guest", expected="gone", seen=bench.bus.vanishes(bench.guest, EXTRA))
            now = int(bench.bus.north(bench.guest)["pool_free"])
            cell.check("window memory", expected=f"more than {free} bytes free", seen=now, holds=now > free)
            sent, got = under_way.ends()
        cell.compare("meanwhile, the first card: got what was sent", expected=sent, seen=got)
        bench.bus.add(EXTRA)
        cell.compare("once more", expected="open", seen=bench.bus.appears(bench.guest, EXTRA))
        bench.bus.remove(EXTRA)
        cell.compare("and gone", expected="gone", seen=bench.bus.vanishes(bench.guest, EXTRA))
        again = int(bench.bus.north(bench.guest)["pool_free"])
        cell.compare("window memory after the second round", expected=now, seen=again)
