# SPDX-License-Identifier: MIT
"""The worker is killed in the middle of transfers, again and again; nobody in the guest notices."""

from __future__ import annotations

import statistics
import time

from vbuskit.base.wait import patient
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, transfer

# A few in each round: while somebody makes sure of one recovery, a good part of a transfer passes.
ROUNDS, KILLS = 4, 5
SIZE = 50 * MIB
TYPICAL = 1.5  # seconds; it takes 0.01 on a quiet machine, and must not take what a retry does


class Kill(Scenario):
    name = "kill"
    title = f"the worker is killed {ROUNDS * KILLS} times in the middle of transfers, both ways"
    order = 40
    far = True
    needs = ("transfer",)

    def run(self, bench: Bench, cell: Cell) -> None:
        card = bench.bus.net
        name = bring_up(bench, card)
        carrier = f"cat /sys/class/net/{name}/carrier_changes"
        changes, replays = bench.guest(carrier).strip(), bench.bus.replays(bench.guest, card)
        epochs = {bench.bus.status().epoch}
        silences = bench.bus.north(bench.guest)["silences"]
        for number in range(1, ROUNDS + 1):
            epochs |= self.killed(bench, cell, f"round {number}")
            # A guest that does not see the epoch asks after seconds without an answer, and goes on too.
            seen = bench.bus.north(bench.guest)["silences"]
            cell.compare(f"round {number}: times that silence was noticed", expected=silences, seen=seen)
        cell.compare("different epochs", expected=ROUNDS * KILLS + 1, seen=len(epochs))
        again = bench.bus.replays(bench.guest, card) - replays
        cell.compare("replays", expected=ROUNDS * KILLS, seen=again)
        cell.compare("carrier changes", expected=changes, seen=bench.guest(carrier).strip())

    def killed(self, bench: Bench, cell: Cell, when: str) -> set[int]:
        """One transfer each way, with the workers' deaths in it; the epochs that came."""
        card, epochs, seconds = bench.bus.net, set(), []
        with (
            transfer(bench, card, TO_HOST, SIZE) as to_host,
            transfer(bench, card, TO_GUEST, SIZE) as to_guest,
        ):
            for number in range(1, KILLS + 1):
                # Each kill in the middle: after another 1/25 of what will pass.
                bench.bus.moved(card, 2 * SIZE // 25)
                start = time.monotonic()
                epochs.add(bench.bus.kill_worker())
                seen = bench.bus.confirmed()
                seconds.append(time.monotonic() - start)
                cell.compare(f"{when}, kill {number}: the guest goes on", expected="confirmed", seen=seen)
            ends = {TO_HOST: to_host.ends(), TO_GUEST: to_guest.ends()}
        typical, most = statistics.median(seconds), patient(TYPICAL)
        cell.check(
            f"{when}: seconds from a kill until the guest goes on, median",
            expected=f"at most {most:g}",
            seen=f"{typical:.2f}",
            holds=typical <= most,
        )
        for direction, (sent, got) in ends.items():
            cell.compare(f"{when}, {direction}: bytes", expected=SIZE, seen=got.count)
            cell.compare(f"{when}, {direction}: got what was sent", expected=sent, seen=got)
        return epochs
