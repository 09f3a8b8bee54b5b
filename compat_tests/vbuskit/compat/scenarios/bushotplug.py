# SPDX-License-Identifier: MIT
"""The whole bus comes and goes while the guest runs: idle, under load, and when its host has died before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.diskcheck import checking
from vbuskit.compat.disks import MIB, plugged
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import loaded
from vbuskit.compat.scenarios.leaks import is_watched, lost
from vbuskit.compat.scenarios.lost import SOUTH
from vbuskit.compat.scenarios.power import BUSY, works
from vbuskit.compat.traffic import flood

SECONDS = 60
ROUNDS = 3
# Of the driver, by bridge: what it maps, where its interrupts come from, what it says of itself.
LEFT = (
    "grep -h vbus /proc/interrupts; grep vbus /proc/iomem; ls /sys/kernel/debug/vbus; "
    "ls /sys/bus/vbus/devices; ls -d /sys/bus/pci/devices/{bridge} 2>/dev/null; :"
)


class BusHotplug(Scenario):
    name = "bushotplug"
    title = "the bus is plugged in and out: idle, under reads, writes and pings, and after its host has died"
    order = 83
    needs = ("install",)
    provokes = SOUTH
    cold = True
    long = True
    not_on = (("machine=i440fx", "a bus is plugged into a PCI Express root port, and i440fx has none"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        with behind_a_port(bench):
            self.comes(bench, cell, "plugged in")
            for number in range(1, ROUNDS + 1):
                self.goes(bench, cell, f"{number}: idle")
                bench.guest.plug(bench.bus.socket)
                self.comes(bench, cell, f"{number}: again")
            self.goes_under_load(bench, cell)
            bench.guest.plug(bench.bus.socket)
            self.comes(bench, cell, "after the load")
            self.goes_after_its_host(bench, cell)
            bench.guest.plug(bench.bus.socket)
            self.comes(bench, cell, "after the host's death")
            if is_watched(bench):
                cell.compare("objects that our modules lost", expected=[], seen=lost(bench))

    def comes(self, bench: Bench, cell: Cell, when: str) -> None:
        works(bench, cell, when)
        start, port = window(bench), behind(bench)
        cell.check(
            f"{when}: the window's address",
            expected=f"in the port's {port}",
            seen=start,
            holds=start in port,
        )
        mapping = bench.bus.north(bench.guest)["mapping"]
        cell.check(f"{when}: mapping", expected="write-back", seen=mapping, holds="write-back" in mapping)

    def goes(self, bench: Bench, cell: Cell, when: str) -> None:
        modules = loaded(bench)
        bench.guest.unplug()
        cell.compare(f"{when}: modules", expected=modules, seen=loaded(bench))
        cell.compare(f"{when}: left in the guest", expected="", seen=left(bench))
        alone = until(lambda: not bench.bus.status().connected, SECONDS)
        cell.compare(f"{when}: the host has a guest", expected=False, seen=not alone)
        cell.compare(f"{when}: kernel log", expected="no complaint", seen=complaints(bench))

    def goes_under_load(self, bench: Bench, cell: Cell) -> None:
        """Who reads and writes gets errors, and nobody hangs."""
        with plugged(bench, BUSY) as disk, checking(bench, f"/dev/{disk.node}") as check:
            disk.moved(MIB)
            with flood(bench, bench.bus.net):
                self.goes(bench, cell, "under load")
            said = check.ends()
            cell.check("reads and writes", expected="ended", seen=said, holds="errors=" in said)

    def goes_after_its_host(self, bench: Bench, cell: Cell) -> None:
        """What the guest shared with the host is lost, and no other host takes it over."""
        with flood(bench, bench.bus.net):
            bench.bus.lose_both()
            self.goes(bench, cell, "the host has died")


@contextmanager
def behind_a_port(bench: Bench) -> Iterator[None]:
    """The guest has a bus that can be unplugged; one with another is started for that, and afterwards."""
    usual = bench.guest.hardware
    if usual.pluggable:
        yield
        return
    bench.guest.shut_down()
    bench.guest.hardware = replace(usual, bus=None)
    try:
        bench.guest.boot()
        bench.guest.plug(bench.bus.socket)
        yield
        bench.guest.shut_down()
    finally:
        bench.guest.hardware = usual
    bench.guest.boot()
    for card in bench.bus.cards:
        bench.bus.appears(bench.guest, card)


def left(bench: Bench) -> str:
    """What the guest still has of a bus that is gone."""
    seen = bench.guest(LEFT.format(bridge=bench.guest.hardware.bridge))
    return " ".join(seen.split())


def window(bench: Bench) -> int:
    """Where the guest has put the window: line 3 of `resource` is BAR 2."""
    lines = bench.guest(f"cat /sys/bus/pci/devices/{bench.guest.hardware.bridge}/resource").splitlines()
    return int(lines[2].split()[0], 16)


def behind(bench: Bench) -> range:
    """What the port passes on to memory that may be prefetched."""
    lines = bench.guest(f"cat /sys/bus/pci/devices/{bench.guest.hardware.bridge}/../resource").splitlines()
    spans = [range(int(start, 16), int(end, 16) + 1) for start, end, flags in map(str.split, lines[13:])]
    return max(spans, key=len)
