# SPDX-License-Identifier: MIT
"""The guest is saved with its bus and restored on another host's: the epoch heals what the window lost."""

from __future__ import annotations

from vbuskit.base.places import make
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.diskcheck import checking
from vbuskit.compat.disks import MIB, Plugged, add, plugged
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.disk import all_is_right
from vbuskit.compat.scenarios.kexec import boot_id
from vbuskit.compat.scenarios.power import BUSY, works
from vbuskit.compat.traffic import TO_GUEST, TO_HOST, bring_up, transfer

SIZE = 32 * MIB


class Restored(Scenario):
    name = "restored"
    title = "the guest is saved under traffic, reads and writes, and goes on with another vbusd's window"
    order = 77
    needs = ("install",)
    provokes = r"epoch [0-9a-f]+ \(the window holds another image\)"

    def run(self, bench: Bench, cell: Cell) -> None:
        name = bring_up(bench, bench.bus.net)
        carrier = f"cat /sys/class/net/{name}/carrier_changes"
        changes, kernel = bench.guest(carrier).strip(), boot_id(bench)
        with plugged(bench, BUSY) as disk, checking(bench, f"/dev/{disk.node}") as check:
            with (
                transfer(bench, bench.bus.net, TO_HOST, SIZE) as to_host,
                transfer(bench, bench.bus.net, TO_GUEST, SIZE) as to_guest,
            ):
                bench.bus.moved(bench.bus.net, SIZE // 4)
                disk.moved(MIB)
                self.goes_on(bench, cell, disk)
                ends = {TO_HOST: to_host.ends(), TO_GUEST: to_guest.ends()}
            for direction, (sent, got) in ends.items():
                cell.compare(f"meanwhile, {direction}: got what was sent", expected=sent, seen=got)
            disk.moved(MIB)
            all_is_right(cell, check)
        cell.compare("the disk afterwards", expected="gone", seen=disk.vanishes())
        cell.compare("the kernel", expected=kernel, seen=boot_id(bench))
        cell.compare("carrier changes", expected=changes, seen=bench.guest(carrier).strip())
        works(bench, cell, "after all")

    def goes_on(self, bench: Bench, cell: Cell, disk: Plugged) -> None:
        before = bench.bus.status().epoch
        replays, on_disk = replayed(bench), disk.replays()
        silences = bench.bus.north(bench.guest)["silences"]
        file = make(bench.places.work("work")) / f"{bench.guest.name}.saved"
        bench.guest.save(file)
        bench.bus.start_over()
        add(bench, disk.disk, disk.image)
        blank = bench.bus.status().epoch
        bench.guest.restore(file)
        file.unlink()
        bench.bus.confirmed()
        now = bench.bus.status()
        new = now.epoch not in (before, blank)
        cell.check(
            "epoch", expected=f"neither {before:#x} nor {blank:#x}", seen=f"{now.epoch:#x}", holds=new
        )
        foreign = now.counters["foreign"]
        cell.check(
            "foreign windows that the host saw", expected="1 or more", seen=foreign, holds=foreign > 0
        )
        works(bench, cell, "restored")
        # A guest that does not see the epoch asks after seconds without an answer, and goes on too.
        seen = bench.bus.north(bench.guest)["silences"]
        cell.compare("times that silence was noticed", expected=silences, seen=seen)
        for name, times in replayed(bench).items():
            more = times - replays[name]
            cell.check(f"{name}: replays", expected="1 or more", seen=more, holds=more > 0)
        for card in bench.bus.cards:
            ours, theirs = bench.bus.features_in(bench.guest, card), bench.bus.features(card)
            cell.compare(f"{card.name}: negotiated, both sides", expected=theirs.active, seen=ours.active)
        cell.compare("the disk", expected="open", seen=disk.state())
        more = disk.replays() - on_disk
        cell.check("the disk's replays", expected="1 or more", seen=more, holds=more > 0)
        violations = bench.bus.status().counters["violations"]
        cell.compare("host's counter `violations`", expected=0, seen=violations)


def replayed(bench: Bench) -> dict[str, int]:
    """How often each card has been replayed, by name."""
    return {card.name: bench.bus.replays(bench.guest, card) for card in bench.bus.cards}
