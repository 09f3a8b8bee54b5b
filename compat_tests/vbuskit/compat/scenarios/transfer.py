# SPDX-License-Identifier: MIT
"""Ping, then 100 MiB each way over a tap, with the checksums of both ends."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, ping, transfer

SIZE = 100 * MIB


class Transfer(Scenario):
    name = "transfer"
    title = "venet-tap: ping, and 100 MiB each way with equal checksums"
    order = 30
    far = True
    needs = ("negotiate",)

    def run(self, bench: Bench, cell: Cell) -> None:
        card = bench.bus.net
        bring_up(bench, card)
        cell.compare("ping", expected="20 of 20", seen=str(ping(bench, card)))
        before = bench.bus.device(card).counters
        for direction in (TO_HOST, TO_GUEST):
            with transfer(bench, card, direction, SIZE) as under_way:
                sent, got = under_way.ends()
            cell.compare(f"{direction}: bytes", expected=SIZE, seen=got.count)
            cell.compare(f"{direction}: got what was sent", expected=sent, seen=got)
        after = bench.bus.device(card).counters
        for name in ("tx_bytes", "rx_bytes"):
            moved = after[name] - before[name]
            holds = moved >= SIZE
            cell.check(f"through the card: {name}", expected=f"at least {SIZE}", seen=moved, holds=holds)
