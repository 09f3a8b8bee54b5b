# SPDX-License-Identifier: MIT
"""A guest that has the bus beside virtio, as most do that move: both carry frames and blocks at once."""

from __future__ import annotations

from contextlib import ExitStack

from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card
from vbuskit.compat.cells import Cell
from vbuskit.compat.diskcheck import MIB_EACH, THREADS, checking
from vbuskit.compat.disks import Disk, Plugged, plugged
from vbuskit.compat.domain import Nic
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.disk import all_is_right
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, prepare, transfer

BESIDE = Disk(name="beside", number=6, mib=THREADS * MIB_EACH)
ON_ROOT = "/srv/beside"
SIZE = 20 * MIB


class Together(Scenario):
    name = "together"
    title = "virtio and the bus in one guest: two cards and two disks at once, all of it checked"
    order = 65
    needs = ("transfer", "disk")

    def run(self, bench: Bench, cell: Cell) -> None:
        nic = bench.guest.hardware.nic
        if nic is None:
            raise RuntimeError(f"{bench.guest.name} has no card but those on its bus")
        cards: tuple[Card | Nic, ...] = (bench.bus.net, nic)
        drivers = {driver_of(bench, bring_up(bench, card)) for card in cards}
        cell.compare("drivers of the two cards", expected={"venet", "virtio_net"}, seen=drivers)
        for card in cards:
            prepare(bench, card, TO_HOST, SIZE)
        bench.guest(f"fallocate -l {BESIDE.mib}M {ON_ROOT}")
        before = completed(bench, "vda")
        with plugged(bench, BESIDE) as disk:
            self.carries(bench, cell, cards, disk)
        moved = completed(bench, "vda") - before
        cell.check("virtio-blk: requests", expected="some", seen=moved, holds=moved > 0)
        bench.guest(f"rm {ON_ROOT}")
        cell.compare("afterwards", expected="gone", seen=disk.vanishes())

    def carries(self, bench: Bench, cell: Cell, cards: tuple[Card | Nic, ...], disk: Plugged) -> None:
        """Four transfers while both disks are at work, and for as long as one of them lasts."""
        with (
            checking(bench, f"/dev/{disk.node}") as on_bus,
            checking(bench, ON_ROOT) as on_virtio,
            ExitStack() as stack,
        ):
            ways = {
                f"{card.name}, {direction}": stack.enter_context(transfer(bench, card, direction, SIZE))
                for card in cards
                for direction in (TO_HOST, TO_GUEST)
            }
            ends = {name: way.ends(300) for name, way in ways.items()}
            for name, (sent, got) in ends.items():
                cell.compare(f"{name}: bytes", expected=SIZE, seen=got.count)
                cell.compare(f"{name}: got what was sent", expected=sent, seen=got)
            all_is_right(cell, on_bus)
            all_is_right(cell, on_virtio)


def driver_of(bench: Bench, interface: str) -> str:
    return bench.guest(f"basename $(readlink /sys/class/net/{interface}/device/driver)").strip()


def completed(bench: Bench, node: str) -> int:
    """Reads and writes of a disk, from its first request on (Documentation/block/stat.rst)."""
    words = bench.guest(f"cat /sys/block/{node}/stat").split()
    return int(words[0]) + int(words[4])
