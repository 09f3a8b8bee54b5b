# SPDX-License-Identifier: MIT
"""venet: a host that lies about a card, its rings or its frames costs the guest that card, or the frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.liars import PATIENCE, goes, module
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import bring_up, ping

# host/liar_card.c's `enum lie`, in its order from 1 on, and what the guest says of each.
CANNOT_BE = 2
OF_RINGS = (*["receive ring"] * 7, *["transmit ring"] * 3)
OF_FRAMES = 5
EPOCH_JUMPS = CANNOT_BE + len(OF_RINGS) + OF_FRAMES + 1
FRAMES = 5


class CardLies(Scenario):
    name = "cardlies"
    title = "venet: a card that cannot be, false rings, false frames, a type of nobody, an epoch that jumps"
    order = 58
    needs = ("transfer",)
    provokes = r"epoch [0-9a-f]+ \(the window holds another image\)"

    def run(self, bench: Bench, cell: Cell) -> None:
        with lying(bench, "venet") as klass:
            for number in range(1, CANNOT_BE + 1):
                self.cannot_be(bench, cell, Lie(bench, klass, number))
            for number, ring in enumerate(OF_RINGS, CANNOT_BE + 1):
                self.stops(bench, cell, Lie(bench, klass, number), ring)
            for number in range(CANNOT_BE + len(OF_RINGS) + 1, EPOCH_JUMPS):
                self.is_counted(bench, cell, Lie(bench, klass, number))
            self.comes_back(bench, cell, Lie(bench, klass, EPOCH_JUMPS))
        with lying(bench, "nonsense") as klass, Lie(bench, klass, 0).told() as lie:
            seen = lie.drivers()
            cell.compare("a type that nobody knows: driver", expected="none", seen=seen)
        bring_up(bench, bench.bus.net)
        cell.compare("ping of an honest card", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))

    def cannot_be(self, bench: Bench, cell: Cell, lie: Lie) -> None:
        with lie.told():
            line = "the host tells of a card that cannot be: MAC address"
            cell.compare(f"{lie}: what is said", expected=[line], seen=lie.said(line))
            cell.compare(f"{lie}: driver", expected="none", seen=lie.drivers())
        cell.compare(f"{lie}: removed", expected=True, seen=lie.goes())

    def stops(self, bench: Bench, cell: Cell, lie: Lie, ring: str) -> None:
        with lie.told():
            lie.provoked()
            line = f"the host broke the contract: {ring}; the device stops"
            cell.compare(f"{lie}: what is said", expected=[line], seen=lie.said(line))
            cell.compare(f"{lie}: state", expected="failed", seen=lie.becomes("failed"))
        cell.compare(f"{lie}: removed", expected=True, seen=lie.goes())

    def is_counted(self, bench: Bench, cell: Cell, lie: Lie) -> None:
        with lie.told():
            name = lie.provoked()
            look = f"cat /sys/class/net/{name}/statistics/rx_errors"
            seen = until(lambda: int(bench.guest(look)) >= FRAMES, PATIENCE)
            cell.compare(f"{lie}: counted, each frame", expected=True, seen=seen)
            cell.compare(f"{lie}: state", expected="open", seen=lie.becomes("open"))
            cell.compare(f"{lie}: what is said", expected=[], seen=lie.lines())
        cell.compare(f"{lie}: removed", expected=True, seen=lie.goes())

    def comes_back(self, bench: Bench, cell: Cell, lie: Lie) -> None:
        before = bench.bus.status().epoch
        with lie.told():
            lie.provoked()
            moved = until(lambda: bench.bus.status().epoch != before, PATIENCE)
            cell.compare(f"{lie}: the worker draws another epoch", expected=True, seen=moved)
        cell.compare(f"{lie}: removed", expected=True, seen=lie.goes())
        cell.compare(f"{lie}: host", expected="confirmed", seen=bench.bus.confirmed())
        seen = until(lambda: states(bench) == {"open"}, PATIENCE)
        cell.compare(f"{lie}: all cards are open again", expected=True, seen=seen)


def states(bench: Bench) -> set[str]:
    return {bench.bus.state(bench.guest, card) for card in bench.bus.cards}


@contextmanager
def lying(bench: Bench, kind: str) -> Iterator[str]:
    """The class of lying cards that say that they are of this type; its name."""
    bench.bus.client.add_class(module(bench, "liar_card", kind))
    yield f"liar-{kind}"
    bench.bus.client.remove_class(f"liar-{kind}")


@dataclass(frozen=True, slots=True)
class Lie:
    """One device that lies; `number` says how."""

    bench: Bench
    klass: str
    number: int

    def __str__(self) -> str:
        return f"lie {self.number}"

    @property
    def uuid(self) -> UUID:
        return UUID(f"76627573-6b69-4000-c000-{self.number:012x}")

    @property
    def base(self) -> str:
        return f"/sys/bus/vbus/devices/{self.uuid}"

    @contextmanager
    def told(self) -> Iterator[Lie]:
        """While the guest has it."""
        client, bus = self.bench.bus.client, self.bench.bus.name
        client.add_device(bus, self.uuid, self.klass, mac="02:00:00:00:00:01")  # which it does not tell
        try:
            self.bench.guest(f"until [ -e {self.base}/state ]; do sleep 0.1; done; udevadm settle")
            yield self
        finally:
            client.remove_device(bus, self.uuid)

    def provoked(self) -> str:
        """Frames go out; the interface that sent them."""
        name = self.bench.guest(f"ls {self.base}/net").strip()
        there = "10.99.0.2"
        self.bench.guest(
            f"ip address add 10.99.0.1/24 dev {name} && ip link set {name} up"
            f" && ip neighbour add {there} lladdr 02:00:00:00:00:02 dev {name} nud permanent"
        )
        # The queue may stop for good at any of them.
        self.bench.guest.execute(f"ping -n -q -c {FRAMES} -i 0.1 -W 1 {there}")
        return name

    def lines(self) -> list[str]:
        """What the kernel's log says of it, without who says it."""
        mine = f"{self.uuid}: "
        said = (line.partition(mine)[2] for line in self.bench.guest.dmesg().splitlines() if mine in line)
        return [line for line in said if "renamed from" not in line]

    def said(self, line: str) -> list[str]:
        until(lambda: line in self.lines(), PATIENCE)
        return self.lines()

    def drivers(self) -> str:
        return self.bench.guest.execute(f"readlink {self.base}/driver").out.strip() or "none"

    def becomes(self, state: str) -> str:
        until(lambda: self.state() == state, PATIENCE)
        return self.state()

    def state(self) -> str:
        return self.bench.guest(f"cat {self.base}/state").strip()

    def goes(self) -> bool:
        return goes(self.bench, self.base)
