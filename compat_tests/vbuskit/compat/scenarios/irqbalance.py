# SPDX-License-Identifier: MIT
"""irqbalance takes the bus's irqs for what they are, and what it decides about them comes true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.channels import CLOSED, FLOWS, KNOCK, have_room
from vbuskit.compat.scenarios.irqs import SECONDS, counts, grows, lines, plug, steer
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, flood, transfer

PAIRS = 2
SIZE = 32 * MIB
KNOCKING = "/dev/shm/knocking"
# One decision, a second's load after the start; without an answer it would look every ten seconds.
ONCE = "irqbalance --oneshot --debug --interval=1"
SEEN = re.compile(r"^[ .]*Interrupt (\d+) ", re.MULTILINE)  # indented by blanks, from 1.9.4 on by dots


class Irqbalance(Scenario):
    name = "irqbalance"
    title = "irqbalance sees the signals of two pairs and moves them over the CPUs under traffic"
    order = 48
    needs = ("irqs",)

    def run(self, bench: Bench, cell: Cell) -> None:
        have_room(bench)
        plug(bench)
        name = bring_up(bench, bench.bus.net)
        bench.guest(f"ethtool -L {name} combined {PAIRS}")
        ours = [f"{name}-{way}{pair}" for pair in range(PAIRS) for way in ("rx", "tx")]
        for line in ours:
            steer(bench, line, 0)
        with (
            flood(bench, bench.bus.net),
            flows(bench),
            transfer(bench, bench.bus.net, TO_GUEST, SIZE) as to_guest,
            transfer(bench, bench.bus.net, TO_HOST, SIZE) as to_host,
        ):
            moves(bench, cell, "CPU 0 is banned", ours, "IRQBALANCE_BANNED_CPULIST=0", {1})
            moves(bench, cell, "CPU 1 is banned", ours, "IRQBALANCE_BANNED_CPULIST=1", {0})
            moves(bench, cell, "as it likes", ours, "", {0, 1})
            ends = {TO_GUEST: to_guest.ends(), TO_HOST: to_host.ends()}
        for direction, (sent, got) in ends.items():
            cell.compare(f"meanwhile, {direction}: got what was sent", expected=sent, seen=got)
        bench.guest(f"ethtool -L {name} combined 1")


def moves(bench: Bench, cell: Cell, when: str, ours: list[str], setting: str, cpus: set[int]) -> None:
    """What it says it saw has our irqs; afterwards they are on all of these CPUs, and count there."""
    said = bench.guest(f"{setting} {ONCE} 2>&1", seconds=120)
    seen, now = [int(irq) for irq in SEEN.findall(said)], lines(bench)
    missed = [name for name in ours if now[name].irq not in seen]
    cell.compare(f"{when}: not seen by irqbalance", expected=[], seen=missed)
    until(lambda: {lines(bench)[name].cpu for name in ours} == cpus, SECONDS, pause=0.1)
    now = lines(bench)
    on = {name: now[name].cpu for name in ours}
    cell.check(f"{when}: CPUs", expected=f"all of {cpus}", seen=on, holds=set(on.values()) == cpus)
    for name in ours:
        if "-rx" in name:
            counts_on(bench, cell, when, name, on[name])


def counts_on(bench: Bench, cell: Cell, when: str, name: str, cpu: int) -> None:
    more = grows(lambda: counts(bench)[name][cpu], counts(bench)[name][cpu])
    cell.compare(f"{when}: {name} counts on CPU {cpu}", expected=True, seen=more)


@contextmanager
def flows(bench: Bench) -> Iterator[None]:
    """One connection after the other, so that each pair has its own."""
    knock = KNOCK.format(first=CLOSED, last=CLOSED + FLOWS - 1, address=bench.bus.net.host_address)
    bench.guest(f": >{KNOCKING}")
    bench.guest.agent.start(["/bin/bash", "-c", f"while [ -e {KNOCKING} ]; do {knock}; done"])
    try:
        yield
    finally:
        bench.guest.execute(f"rm -f {KNOCKING}")
