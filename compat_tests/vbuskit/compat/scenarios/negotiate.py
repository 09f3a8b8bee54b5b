# SPDX-License-Identifier: MIT
"""Both sides of the bus say the same of their connection."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card
from vbuskit.compat.cells import Cell
from vbuskit.compat.domain import STRANGER_SLOT
from vbuskit.compat.scenario import Scenario

LEFT_ALONE = "no driver, 'not a vbus window' once in the log"


class Negotiate(Scenario):
    name = "negotiate"
    title = "north and south agree on epoch, devices and features"
    order = 20
    far = True
    needs = ("install",)

    def run(self, bench: Bench, cell: Cell) -> None:
        bench.bus.confirmed()
        north, south = bench.bus.north(bench.guest), bench.bus.status()
        cell.compare("epoch", expected=f"{south.epoch:#018x}", seen=north["epoch"])
        mapping = north["mapping"]
        cell.check("window mapping", expected="write-back", seen=mapping, holds="write-back" in mapping)
        for card in bench.bus.cards:
            cell.compare(f"{card.name}: state", expected="open", seen=bench.bus.appears(bench.guest, card))
            ours, theirs = bench.bus.features_in(bench.guest, card), bench.bus.features(card)
            cell.compare(f"{card.name}: MAC address", expected=card.mac, seen=mac_of(bench, card))
            cell.compare(f"{card.name}: offered, both sides", expected=theirs.offered, seen=ours.offered)
            cell.compare(f"{card.name}: negotiated, both sides", expected=theirs.active, seen=ours.active)
            some = any(ours.active.values())
            cell.check(f"{card.name}: features", expected="some in force", seen=ours.active, holds=some)
        cell.compare("a stranger's ivshmem device", expected=LEFT_ALONE, seen=stranger(bench))
        for name in ("stale", "violations"):
            cell.compare(f"host's counter `{name}`", expected=0, seen=bench.bus.status().counters[name])


def mac_of(bench: Bench, card: Card) -> str:
    """The guest's; the administrator has given it to the host."""
    return bench.guest(f"cat /sys/bus/vbus/devices/{card.uuid}/net/*/address").strip()


def stranger(bench: Bench) -> str:
    """What became of the device that has our PCI id and no window behind it."""
    slot = f"0000:00:{STRANGER_SLOT:02x}.0"
    driver = bench.guest(f"basename $(readlink /sys/bus/pci/devices/{slot}/driver) 2>/dev/null; :").strip()
    lines = [
        line for line in bench.guest.dmesg().splitlines() if slot in line and "not a vbus window" in line
    ]
    times = "once" if len(lines) == 1 else f"{len(lines)} times"
    return f"{driver or 'no'} driver, 'not a vbus window' {times} in the log"
