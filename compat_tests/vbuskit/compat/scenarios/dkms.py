# SPDX-License-Identifier: MIT
"""The drivers by DKMS: built in the guest, root on the bus, a newer kernel gets its own, back, and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vbuskit.compat.bench import Bench, Delivery
from vbuskit.compat.cells import Cell
from vbuskit.compat.disks import found
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import MODULES, field, installed
from vbuskit.compat.scenarios.kmp import written
from vbuskit.compat.scenarios.rootdisk import BY_LABEL, ROOT, RootDisk, move
from vbuskit.compat.scenarios.swap import KEEPS, refused
from vbuskit.compat.scenarios.update import (
    arrived,
    back_and_out,
    brought,
    initrd_in,
    on_the_bus,
    runs,
    updated,
)
from vbuskit.initrd.check import check
from vbuskit.initrd.image import read_image

PATIENCE = 3600  # seconds for a compiler under TCG; natively it needs some ten
SIGNER = "DKMS module signing key"


class Dkms(Scenario):
    name = "dkms"
    title = "DKMS: built in the guest, root on the bus, a newer kernel gets its own drivers, back, out"
    order = 12
    cold = True
    long = True
    families = ("dkms",)
    not_on = (("drivers", "the packages that it brings are this checkout's"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        first, update = arrived(bench.first), arrived(bench.update)
        self.gets(bench, cell, first)
        bench.guest.shut_down()
        try:
            moved = move(bench)
            cell.compare("the initrd", expected=[], seen=lacking(bench, moved.initrd))
            debs = brought(bench, moved.image, [*update.kernel.values(), *update.headers.values()])
            with on_the_bus(bench, cell, moved) as old:
                self.lives(old, cell, moved.image)
                old.guest(f"dpkg --install {debs} && rm {debs}", seconds=PATIENCE)
            newer = updated(bench, moved.image, update.release)
            moved = replace(moved, initrd=initrd_in(newer, moved.image))
            cell.compare("the newer kernel's initrd", expected=[], seen=lacking(newer, moved.initrd))
            with on_the_bus(newer, cell, moved) as new:
                self.lives(new, cell, moved.image)
            back_and_out(newer, cell, moved, self.leaves)
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def gets(self, bench: Bench, cell: Cell, first: Delivery) -> None:
        files = written(bench, first.packages.values())
        bench.guest(["/usr/bin/dpkg", "--install", *files], seconds=PATIENCE)
        cell.compare("packages", expected=sorted(first.packages), seen=installed(bench))
        for name in MODULES:
            cell.compare(f"{name}: signed by", expected=SIGNER, seen=field(bench, name, "signer"))
            cell.compare(f"{name}: version", expected=bench.version, seen=field(bench, name, "version"))
        cell.compare("kernel log", expected="no complaint", seen=complaints(bench))

    def lives(self, bench: Bench, cell: Cell, image: Path) -> None:
        """With drivers of this kernel's own, which may not be taken away now."""
        runs(bench, cell, "on the bus")
        RootDisk().is_root(bench, cell, found(bench, ROOT, image))
        own = [f"/lib/modules/{bench.image.recipe.release}/updates/dkms/{name}" for name in MODULES]
        seen = [bench.guest(["/sbin/modinfo", "-n", name]).strip().partition(".ko")[0] for name in MODULES]
        cell.compare("modules", expected=own, seen=seen)
        done = bench.guest.execute(["/usr/bin/dpkg", "--remove", "vbus-dkms"], seconds=180)
        cell.compare("on the bus: removal", expected=KEEPS, seen=refused(done, KEEPS))
        cell.compare("kernel log, on the bus", expected="no complaint", seen=complaints(bench))

    def leaves(self, bench: Bench, cell: Cell) -> None:
        runs(bench, cell, "on virtio")
        source = bench.guest("findmnt -n -o SOURCE /").strip()
        cell.compare("root file system, back again", expected="/dev/vda", seen=source)
        bench.guest(["/usr/bin/dpkg", "--purge", *installed(bench)], seconds=900)
        cell.compare("packages, purged", expected=[], seen=installed(bench))
        left = bench.guest(
            "find /lib/modules/ /usr/src /var/lib/dkms | grep -E '/(vbus|venet|vblk)'; :"
        ).split()
        cell.compare("left of it", expected=[], seen=left)
        cell.compare("kernel log, on virtio", expected="no complaint", seen=complaints(bench))


def lacking(bench: Bench, initrd: Path) -> list[str]:
    """What `vbuskit initrd check` has against it; the key that signs is the guest's own."""
    findings = check(read_image(initrd), root=BY_LABEL, kernel=bench.image.recipe.release)
    return [finding.text for finding in findings if not finding.holds]
