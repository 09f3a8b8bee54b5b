# SPDX-License-Identifier: MIT
"""Pairs of rings, their sizes and their coalescing change while the card is up, and outlive a worker."""

from __future__ import annotations

import re
from dataclasses import replace

from vbuskit.base.errors import VbuskitError
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.nic import counters, queues
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import bring_up, ping

FLOWS = 64
CLOSED = 7000  # and FLOWS ports from there on: nobody listens
STRANGERS = 8  # frames of other flows that may come in between
LATE_MS = 20

# A connection to a port where nobody listens: one frame there and one back, on the flow's own pair.
KNOCK = "for i in $(seq {first} {last}); do (exec 3<>/dev/tcp/{address}/$i) 2>/dev/null; done; :"


class Channels(Scenario):
    name = "channels"
    title = "ethtool -L, -G and -C: two pairs carry their own flows, rings shrink, doorbells wait"
    order = 37
    needs = ("transfer",)
    cold = True

    def run(self, bench: Bench, cell: Cell) -> None:
        have_room(bench)
        name = bring_up(bench, bench.bus.net)
        bench.guest(f"ethtool -L {name} combined 2")
        flows(bench, cell, name)
        coalescing(bench, cell, name)
        refused = bench.guest.execute(f"ethtool -G {name} rx 32").code
        cell.check("a ring too small for a frame", expected="refused", seen=refused, holds=refused != 0)
        bench.guest(f"ethtool -G {name} rx 64 tx 64")
        cell.compare("small rings", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))
        bench.guest(f"ethtool -G {name} rx 256 tx 256; ethtool -L {name} combined 1")
        cell.compare("one pair again", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))


def have_room(bench: Bench) -> None:
    """For a second CPU, whose pair it is, or whom irqs move to.

    From 6.9 on Linux takes none later where it sees no hypervisor that it knows, as under TCG.
    """
    if bench.guest("cat /sys/devices/system/cpu/possible").strip() == "0":
        bench.guest.hardware = replace(bench.guest.hardware, cpus=2)
        bench.guest.restart()
        for card in bench.bus.cards:
            bench.bus.appears(bench.guest, card)


def flows(bench: Bench, cell: Cell, name: str) -> None:
    """Many connections: both pairs are used, and answers come back on the pair of the question."""
    before = counters(bench, name)
    knock = KNOCK.format(first=CLOSED, last=CLOSED + FLOWS - 1, address=bench.bus.net.host_address)
    bench.guest(["/bin/bash", "-c", knock], seconds=120)
    after = counters(bench, name)
    for pair in range(2):
        sent, back = (
            queues(after, way, "frames")[pair] - queues(before, way, "frames")[pair] for way in ("tx", "rx")
        )
        cell.check(f"pair {pair}: sent", expected="some flows", seen=sent, holds=sent >= FLOWS // 8)
        alike = abs(sent - back) <= STRANGERS
        cell.check(f"pair {pair}: came back", expected=f"about {sent}", seen=back, holds=alike)


def coalescing(bench: Bench, cell: Cell, name: str) -> None:
    """A doorbell that waits is felt by a ping, before and after the worker was killed."""
    bench.guest(f"ethtool -C {name} rx-usecs {LATE_MS * 1000} rx-frames 64")
    for when in ("coalescing", "coalescing after a recovery"):
        late = quickest(bench)
        cell.check(f"{when}: ms", expected=f"at least {LATE_MS}", seen=late, holds=late >= LATE_MS)
        if when == "coalescing":
            bench.bus.kill_worker()
            cell.compare("the worker is killed", expected="confirmed", seen=bench.bus.confirmed())
            cell.compare("ping", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))
    bench.guest(f"ethtool -C {name} rx-usecs 0 rx-frames 0")


def quickest(bench: Bench) -> float:
    """The fastest of a few round trips, in ms."""
    said = bench.guest(f"ping -n -c 5 -i 0.2 -W 2 {bench.bus.net.host_address}")
    found = re.search(r"rtt min/avg/max/mdev = ([\d.]+)/", said)
    if found is None:
        raise VbuskitError(f"ping: says no times: {said.strip()}")
    return float(found[1])
