# SPDX-License-Identifier: MIT
"""Each signal is an irq: it has a name, a count and a CPU, and loses nothing when that changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.channels import have_room
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, flood, ping, transfer

SIZE = 32 * MIB
SECONDS = 30
CPU1 = "/sys/devices/system/cpu/cpu1"
SIGNAL = re.compile(r"(\d+): hwirq (\d+) signal (\d+) queue (\d+) cpu (\d+) count (\d+) name (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One signal, as the bus in the guest tells it."""

    irq: int
    hwirq: int
    signal: int
    queue: int
    cpu: int
    count: int


class Irqs(Scenario):
    name = "irqs"
    title = "signals are irqs with names, counts and an affinity that moves them under traffic"
    order = 47
    needs = ("transfer",)

    def run(self, bench: Bench, cell: Cell) -> None:
        have_room(bench)
        name = bring_up(bench, bench.bus.net)
        rx, ours = f"{name}-rx0", [f"{name}-rx0", f"{name}-tx0", f"{name}-status", "vbus0-bus"]
        cell.compare(
            "lines of /proc/interrupts", expected=ours, seen=[n for n in ours if n in counts(bench)]
        )
        self.counts_move(bench, cell, ours)
        plug(bench)
        steer(bench, rx, 0)
        with (
            flood(bench, bench.bus.net),
            transfer(bench, bench.bus.net, TO_GUEST, SIZE) as to_guest,
            transfer(bench, bench.bus.net, TO_HOST, SIZE) as to_host,
        ):
            self.follows(bench, cell, rx, 1)
            self.follows(bench, cell, rx, 0)
            self.follows(bench, cell, rx, 1)
            self.survives_a_worker(bench, cell, rx)
            bench.guest(f"echo 0 >{CPU1}/online")
            self.comes_on(bench, cell, "CPU 1 is offline", rx, 0)
            ends = {TO_GUEST: to_guest.ends(), TO_HOST: to_host.ends()}
        for direction, (sent, got) in ends.items():
            cell.compare(f"meanwhile, {direction}: got what was sent", expected=sent, seen=got)

    def counts_move(self, bench: Bench, cell: Cell, ours: list[str]) -> None:
        """A ping moves the card's irq, and going down and up, which takes calls, the bus's."""
        before = counts(bench)
        ping(bench, bench.bus.net)
        cell.compare("down: lines of the card", expected=[], seen=self.down(bench, ours[0].split("-")[0]))
        bring_up(bench, bench.bus.net)
        now = counts(bench)
        for name in (ours[0], ours[-1]):
            least, seen = sum(before[name]) + 1, sum(now[name])
            cell.check(f"{name}: count", expected=f"{least} or more", seen=seen, holds=seen >= least)
        agreed = until(lambda: agrees(bench, ours), SECONDS, pause=0.1)
        cell.compare("debugfs and /proc/interrupts count alike", expected=True, seen=bool(agreed))

    def follows(self, bench: Bench, cell: Cell, name: str, cpu: int) -> None:
        """The affinity is written under traffic, and the signal comes by another queue on that CPU."""
        old = lines(bench)[name].queue
        steer(bench, name, cpu)
        self.comes_on(bench, cell, f"smp_affinity {1 << cpu}", name, cpu)
        new = lines(bench)[name]
        cell.check(f"on CPU {cpu}: queue", expected=f"not {old}", seen=new.queue, holds=new.queue != old)
        effective = bench.guest(f"cat /proc/irq/{new.irq}/effective_affinity_list").strip()
        cell.compare(f"on CPU {cpu}: effective affinity", expected=str(cpu), seen=effective)
        injected = bench.bus.status().queues[new.queue]["inject"]
        more = grows(lambda: bench.bus.status().queues[new.queue]["inject"], injected)
        cell.compare(f"on CPU {cpu}: the host injects on queue {new.queue}", expected=True, seen=more)

    def comes_on(self, bench: Bench, cell: Cell, when: str, name: str, cpu: int) -> None:
        until(lambda: lines(bench)[name].cpu == cpu, SECONDS, pause=0.05)
        cell.compare(f"{when}: CPU of {name}'s queue", expected=cpu, seen=lines(bench)[name].cpu)
        more = grows(lambda: counts(bench)[name][cpu], counts(bench)[name][cpu])
        cell.compare(f"{when}: {name} counts on CPU {cpu}", expected=True, seen=more)

    def survives_a_worker(self, bench: Bench, cell: Cell, name: str) -> None:
        before = lines(bench)[name]
        bench.bus.kill_worker()
        bench.bus.confirmed()
        self.comes_on(bench, cell, "another worker", name, before.cpu)
        after = lines(bench)[name]
        for what in ("irq", "hwirq", "queue"):
            cell.compare(
                f"another worker: {what}", expected=getattr(before, what), seen=getattr(after, what)
            )

    def down(self, bench: Bench, name: str) -> list[str]:
        bench.guest(f"ip link set {name} down")
        return [line for line in counts(bench) if line.startswith(f"{name}-")]


def lines(bench: Bench) -> dict[str, Line]:
    """What debugfs says, by name; a card that was never up has no names."""
    said = bench.guest("cat /sys/kernel/debug/vbus/*/signals")
    return {
        name: Line(irq=irq, hwirq=hwirq, signal=signal, queue=queue, cpu=cpu, count=count)
        for *numbers, name in SIGNAL.findall(said)
        for irq, hwirq, signal, queue, cpu, count in [map(int, numbers)]
    }


def counts(bench: Bench) -> dict[str, list[int]]:
    """What /proc/interrupts says of the irqs whose chip is ours: name -> a count for each CPU online."""
    return counted(bench.guest("cat /proc/interrupts"))


def counted(said: str) -> dict[str, list[int]]:
    head, *rest = said.splitlines()
    cpus = len(head.split())
    rows = [line.split() for line in rest]
    return {
        row[-1]: [int(n) for n in row[1 : cpus + 1]] for row in rows if row[cpus + 1 : cpus + 2] == ["vbus"]
    }


def agrees(bench: Bench, names: list[str]) -> bool:
    """Whether both count alike; between the two looks something may come."""
    kernel = counts(bench)
    bus = lines(bench)
    return all(sum(kernel[name]) == bus[name].count for name in names)


def grows(look: Callable[[], int], least: int) -> bool:
    return bool(until(lambda: look() > least, SECONDS, pause=0.05))


def plug(bench: Bench) -> None:
    """The second CPU: plugged in, or there since the boot and offline."""
    if bench.guest.hardware.cpus == 1:
        bench.guest.domain.set_vcpus(2)
    until(lambda: not bench.guest.execute(f"test -e {CPU1}").code, SECONDS, pause=0.1)
    bench.guest(f"grep -q 1 {CPU1}/online || echo 1 >{CPU1}/online")


def steer(bench: Bench, name: str, cpu: int) -> None:
    bench.guest(f"echo {1 << cpu:x} >/proc/irq/{lines(bench)[name].irq}/smp_affinity")
