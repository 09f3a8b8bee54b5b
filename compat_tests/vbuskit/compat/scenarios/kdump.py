# SPDX-License-Identifier: MIT
"""The guest crashes with its root on the bus: nobody takes leave, and a crash kernel meets the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vbuskit.base.errors import TimedOut
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.disks import MIB, added, found
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.kexec import boot_id, negotiations
from vbuskit.compat.scenarios.power import lie_down, works
from vbuskit.compat.scenarios.rootdisk import ROOT, RootDisk, move, rooted
from vbuskit.compat.traffic import flood

SECONDS = 240
MEMORY_MIB, CRASH_MIB = 768, 256
LOADED = "/sys/kernel/kexec_crash_loaded"
LOAD = (
    "kexec -p /boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r) --reuse-cmdline"
    " --append='nr_cpus=1 reset_devices'"
)
KEPT, CORE, CORE_BYTES = "/srv/kept", "/srv/vmcore", 64 * MIB
WRITE = "while dd if=/dev/zero of=/srv/busy bs=64k count=128 oflag=direct; do :; done"


class Kdump(Scenario):
    name = "kdump"
    title = (
        "the guest crashes with its root disk busy; the crash kernel has root on it, and saves what is left"
    )
    order = 83
    needs = ("install",)
    cold = True
    long = True
    provokes = "sysrq triggered crash|Call Trace"

    def run(self, bench: Bench, cell: Cell) -> None:
        if bench.guest.execute(f"test -e {LOADED}").code:
            raise CellSkipped(f"needs {LOADED}, which the guest's kernel does not have")
        bench.guest.shut_down()
        try:
            moved = move(bench)
            with added(bench, ROOT, moved.image), rooted(bench, moved) as guest:
                guest.hardware = replace(guest.hardware, memory=MEMORY_MIB, crash=CRASH_MIB)
                cell.logs.append(guest.serial)
                guest.boot(SECONDS)
                self.crashes(replace(bench, guest=guest), cell, moved.image)
                guest.shut_down()
            moved.image.unlink()
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def crashes(self, bench: Bench, cell: Cell, image: Path) -> None:
        disk = found(bench, ROOT, image)
        RootDisk().is_root(bench, cell, disk)
        kept = bench.guest(f"head -c {MIB} /dev/urandom >{KEPT}; sync; sha256sum {KEPT}")
        bench.guest(LOAD, seconds=120)
        cell.compare("crash kernel", expected="1", seen=bench.guest(f"cat {LOADED}").strip())
        before, boot = bench.bus.status(), boot_id(bench)
        with flood(bench, bench.bus.net):
            bench.guest.agent.start(WRITE)
            disk.moved(MIB)
            lie_down(bench, "sleep 1; echo c >/proc/sysrq-trigger")
            if not until(lambda: boot_id(bench, boot) != boot, SECONDS, pause=0.5):
                raise TimedOut(f"{bench.guest.name}: no crash kernel within {SECONDS} s")
        RootDisk().is_root(bench, cell, found(bench, ROOT, image))
        works(bench, cell, "after the crash")
        after = bench.bus.status()
        for what in ("sessions", "worker", "epoch", "lost"):
            cell.compare(f"the host's {what}", expected=getattr(before, what), seen=getattr(after, what))
        more = negotiations(after) - negotiations(before)
        cell.check("NEGOTIATEs", expected="1 or more", seen=more, holds=more >= 1)
        cell.compare("what was synced", expected=kept, seen=bench.guest(f"sha256sum {KEPT}"))
        self.saves(bench, cell)

    def saves(self, bench: Bench, cell: Cell) -> None:
        """A part of the dead kernel's memory; what it says of itself is in a note at its beginning."""
        dead = bench.guest("grep -a -o -m 1 'OSRELEASE=[^[:space:]]*' /proc/vmcore", seconds=120).strip()
        release = bench.image.recipe.release
        cell.compare("the dead kernel", expected=f"OSRELEASE={release}", seen=dead)
        save = f"head -c {CORE_BYTES} /proc/vmcore >{CORE}; sync; echo 3 >/proc/sys/vm/drop_caches"
        bench.guest(save, seconds=SECONDS)
        same = bench.guest.execute(f"cmp -n {CORE_BYTES} /proc/vmcore {CORE}", seconds=SECONDS)
        cell.compare("its memory, as it was saved", expected="", seen=(same.out + same.err).strip())
