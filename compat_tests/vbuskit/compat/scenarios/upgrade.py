# SPDX-License-Identifier: MIT
"""vbusd and its worker are replaced in the middle of transfers, killed or as planned; nobody notices."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, transfer

KILLS, RENEWALS = 5, 2
SIZE = 100 * MIB
# Each change in the middle: after another such part of what will pass.
PART = 2 * SIZE // (KILLS + RENEWALS + 1 + 12)


class Upgrade(Scenario):
    name = "upgrade"
    title = f"vbusd is killed {KILLS} times, its worker renewed {RENEWALS} times, in the middle of transfers"
    order = 45
    needs = ("transfer",)

    def run(self, bench: Bench, cell: Cell) -> None:
        card = bench.bus.net
        name = bring_up(bench, card)
        carrier = f"cat /sys/class/net/{name}/carrier_changes"
        changes, replays = bench.guest(carrier).strip(), bench.bus.replays(bench.guest, card)
        before = bench.bus.status()
        with (
            transfer(bench, card, TO_HOST, SIZE) as to_host,
            transfer(bench, card, TO_GUEST, SIZE) as to_guest,
        ):
            kill_vbusd(bench, cell)
            cell.compare("replays so far", expected=0, seen=bench.bus.replays(bench.guest, card) - replays)
            epochs = [before.epoch, *renew_worker(bench, cell)]
            bench.bus.moved(card, PART)
            epochs.append(bench.bus.kill_worker())
            cell.compare(
                "the worker is killed: the guest goes on", expected="confirmed", seen=bench.bus.confirmed()
            )
            ends = {TO_HOST: to_host.ends(), TO_GUEST: to_guest.ends()}
        for direction, (sent, got) in ends.items():
            cell.compare(f"{direction}: bytes", expected=SIZE, seen=got.count)
            cell.compare(f"{direction}: got what was sent", expected=sent, seen=got)
        now = bench.bus.status()
        cell.compare("workers taken over", expected=KILLS, seen=now.takeovers - before.takeovers)
        cell.compare("workers that died", expected=1, seen=now.restarts - before.restarts)
        cell.compare("different epochs", expected=RENEWALS + 2, seen=len(set(epochs)))
        again = bench.bus.replays(bench.guest, card) - replays
        cell.compare("replays", expected=RENEWALS + 1, seen=again)
        cell.compare("carrier changes", expected=changes, seen=bench.guest(carrier).strip())


def kill_vbusd(bench: Bench, cell: Cell) -> None:
    """The worker serves on without it, and the next vbusd finds the session as it was."""
    for number in range(1, KILLS + 1):
        bench.bus.moved(bench.bus.net, PART)
        before = bench.bus.status()
        after = bench.bus.kill_vbusd()
        for what in ("worker", "epoch", "restarts"):
            cell.compare(
                f"vbusd is killed, {number}: {what}",
                expected=getattr(before, what),
                seen=getattr(after, what),
            )


def renew_worker(bench: Bench, cell: Cell) -> list[int]:
    """The epochs that came; the guest has taken up each before the next one comes."""
    epochs = []
    for number in range(1, RENEWALS + 1):
        bench.bus.moved(bench.bus.net, PART)
        epochs.append(bench.bus.renew())
        cell.compare(
            f"renewal {number}: the guest goes on", expected="confirmed", seen=bench.bus.confirmed()
        )
    return epochs
