# SPDX-License-Identifier: MIT
"""What ethtool -S and the worker both count, number by number: over pairs, a worker's death, and drops."""

from __future__ import annotations

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.nic import NAMES, PATIENCE, Counted, by_north, counters, mark, passed, queues
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.channels import flows, have_room
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, ping, transfer

SIZE = 10 * MIB
LONG = 50 * MIB  # still under way when somebody comes to kill the worker
PAIRS = 2
IN_FLIGHT = 256 * PAIRS  # VENET_RING_MAX: frames that died with the worker, each way, at most
PINGS = 5


class Counters(Scenario):
    name = "counters"
    title = "ethtool -S and the worker count alike: over two pairs, across a worker's death, what is dropped"
    order = 41
    needs = ("transfer", "channels")

    def run(self, bench: Bench, cell: Cell) -> None:
        have_room(bench)
        name = bring_up(bench, bench.bus.net)
        bench.guest(f"ethtool -L {name} combined {PAIRS}")
        try:
            alike(bench, cell, name, "before")
            across_a_death(bench, cell, name)
            alike(bench, cell, name, "after the death")
            dropped(bench, cell, name)
        finally:
            bench.guest(f"ethtool -L {name} combined 1")


def alike(bench: Bench, cell: Cell, name: str, when: str) -> None:
    """While nothing is lost both sides have the same numbers; a queue's are summed, a card has one."""
    before, faulty = mark(bench, bench.bus.net, name), faults(bench, name)
    both_ways(bench, cell, when)
    flows(bench, cell, name)
    north, south = passed(bench, bench.bus.net, name, before)
    for counter in NAMES:
        cell.compare(f"{when}: {counter}", expected=getattr(south, counter), seen=getattr(north, counter))
    for counter in ("tx_bytes", "rx_bytes"):
        seen = getattr(north, counter)
        cell.check(f"{when}: {counter}", expected=f"at least {SIZE}", seen=seen, holds=seen >= SIZE)
    cell.compare(f"{when}: drops and errors of both sides", expected=faulty, seen=faults(bench, name))
    same = until(lambda: by_stack(bench, name) == by_north(bench, name), PATIENCE)
    cell.compare(f"{when}: ip -s has the sums of ethtool -S", expected=True, seen=bool(same))


def both_ways(bench: Bench, cell: Cell, when: str, size: int = SIZE) -> None:
    """A transfer each way at once; the worker dies in the middle of a LONG one."""
    card = bench.bus.net
    with (
        transfer(bench, card, TO_HOST, size) as to_host,
        transfer(bench, card, TO_GUEST, size) as to_guest,
    ):
        if size == LONG:
            bench.bus.moved(card, 2 * LONG // 25)
            bench.bus.kill_worker()
            cell.compare(f"{when}: the guest goes on", expected="confirmed", seen=bench.bus.confirmed())
        ends = {TO_HOST: to_host.ends(), TO_GUEST: to_guest.ends()}
    for direction, (sent, got) in ends.items():
        cell.compare(f"{when}, {direction}: got what was sent", expected=sent, seen=got)


def across_a_death(bench: Bench, cell: Cell, name: str) -> None:
    """Counters outlive the worker; they differ by what died with it, and by no more."""
    card = bench.bus.net
    before, opens = mark(bench, card, name), bench.bus.device(card).counters["opens"]
    replays = bench.bus.replays(bench.guest, card)
    both_ways(bench, cell, "a death", LONG)
    now = mark(bench, card, name)
    north, south = now.north.since(before.north), now.south.since(before.south)
    sent, got = north.tx_frames - south.tx_frames, south.rx_frames - north.rx_frames
    for what, lost in (("sent, and not to the host", sent), ("got, and not by the guest", got)):
        holds = 0 <= lost <= IN_FLIGHT
        cell.check(f"a death: frames {what}", expected=f"0 to {IN_FLIGHT}", seen=lost, holds=holds)
    opened = bench.bus.device(card).counters["opens"] - opens
    replayed = bench.bus.replays(bench.guest, card) - replays
    cell.compare("a death: opens that the worker counts, replays", expected=opened, seen=replayed)


def dropped(bench: Bench, cell: Cell, name: str) -> None:
    """What the host cannot take counts as sent in the guest, as on a wire, and as dropped by the worker."""
    card = bench.bus.net
    bench.run(bench.host.command(["ip", "link", "set", card.tap, "down"]))
    try:
        before, drops = mark(bench, card, name), bench.bus.device(card).counters["drops"]
        lost = ping(bench, card, PINGS)
        cell.compare("dropped: ping", expected=f"0 of {PINGS}", seen=str(lost))
        now = mark(bench, card, name)
        drops = bench.bus.device(card).counters["drops"] - drops
        north, south = now.north.since(before.north), now.south.since(before.south)
        cell.check("dropped: frames", expected=f"at least {PINGS}", seen=drops, holds=drops >= PINGS)
        sent = north.tx_frames - south.tx_frames
        cell.compare("dropped: frames sent, and not to the host", expected=drops, seen=sent)
    finally:
        bench.run(bench.host.command(["ip", "link", "set", card.tap, "up"]))
    cell.compare("ping again", expected="20 of 20", seen=str(ping(bench, card)))


def faults(bench: Bench, name: str) -> dict[str, int]:
    """What has no counterpart, and must not move while all goes well."""
    north, south = counters(bench, name), bench.bus.device(bench.bus.net).counters
    mine = {f"{way} {what}": sum(queues(north, way, what)) for way, what in FAULTS}
    return mine | {f"the worker's {what}": south[what] for what in ("drops", "violations")}


FAULTS = (("rx", "drops"), ("rx", "errors"), ("tx", "drops"))


def by_stack(bench: Bench, name: str) -> Counted:
    """What `ip -s link` shows."""
    files = "tx_packets tx_bytes rx_packets rx_bytes"
    said = bench.guest(f"cd /sys/class/net/{name}/statistics && cat {files}").split()
    return Counted(*(int(number) for number in said))
