# SPDX-License-Identifier: MIT
"""The guest writes itself to a disk and ends (S4); another QEMU, another session, and it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vbuskit.base.places import make
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.diskcheck import checking
from vbuskit.compat.disks import MIB, Plugged, plugged
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.disk import all_is_right
from vbuskit.compat.scenarios.kexec import boot_id
from vbuskit.compat.scenarios.power import BUSY, lie_down, works
from vbuskit.compat.scenarios.rootdisk import move
from vbuskit.compat.traffic import flood

SECONDS = 240
SWAP_MIB = 1024  # sparse; a guest writes a part of its memory, compressed
NODE = "/dev/vdb"
# A smaller image is written and read sooner; what is dropped comes back from the disk.
SLEEP = "echo 3 >/proc/sys/vm/drop_caches; echo disk >/sys/power/state"


class Hibernate(Scenario):
    name = "hibernate"
    title = "the guest hibernates under traffic and checked reads and writes, and goes on in another session"
    order = 82
    needs = ("install",)
    cold = True
    long = True

    def run(self, bench: Bench, cell: Cell) -> None:
        if "disk" not in bench.guest("cat /sys/power/state").split():
            raise CellSkipped("needs a kernel that can hibernate, which the guest's cannot")
        usual = bench.guest.hardware
        bench.guest.shut_down()
        disks = (swap(bench), *usual.raw)
        bench.guest.hardware = replace(usual, initrd=own_initrd(bench), raw=disks, resume=NODE)
        try:
            bench.guest.boot(SECONDS)
            for card in bench.bus.cards:
                bench.bus.appears(bench.guest, card)
            bench.guest(f"swapon {NODE}")
            with plugged(bench, BUSY) as disk, checking(bench, f"/dev/{disk.node}") as check:
                disk.moved(MIB)
                self.goes_on(bench, cell, disk)
                all_is_right(cell, check)
            cell.compare("the disk afterwards", expected="gone", seen=disk.vanishes())
            bench.guest(f"swapoff {NODE}")
        finally:
            bench.guest.hardware = usual

    def goes_on(self, bench: Bench, cell: Cell, disk: Plugged) -> None:
        before, kernel = bench.bus.status(), boot_id(bench)
        with flood(bench, bench.bus.net):
            lie_down(bench, SLEEP)
            ended = until(lambda: not bench.guest.domain.is_running(), SECONDS, pause=0.1)
            cell.compare("QEMU", expected="ended", seen="ended" if ended else "running")
            left = until(lambda: not bench.bus.status().connected, SECONDS)
            cell.compare("the host has a guest", expected=False, seen=not left)
            bench.guest.boot(SECONDS)
        cell.compare("the kernel", expected=kernel, seen=boot_id(bench))
        works(bench, cell, "after S4")
        after = bench.bus.status()
        cell.compare("sessions", expected=before.sessions + 1, seen=after.sessions)
        other = after.epoch != before.epoch
        cell.check("epoch", expected=f"not {before.epoch:#x}", seen=f"{after.epoch:#x}", holds=other)
        # The kernel that read the image, and the one that was in it.
        times = after.counters["negotiations"] - before.counters["negotiations"]
        cell.check("NEGOTIATEs since", expected="3 or more", seen=times, holds=times >= 3)
        disk.moved(MIB)


def own_initrd(bench: Bench) -> Path:
    """With our modules: the kernel that reads the image back has a connection, too, and takes its leave."""
    moved = move(bench)
    moved.image.unlink()
    return moved.initrd


def swap(bench: Bench) -> Path:
    """Made here: the guest's initrd waits half a minute for a disk on which it knows nothing."""
    path = make(bench.places.work("work", "disks")) / "swap.img"
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.truncate(SWAP_MIB * MIB)
    bench.run(["mkswap", "--quiet", path])
    return path
