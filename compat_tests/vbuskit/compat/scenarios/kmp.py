# SPDX-License-Identifier: MIT
"""The life of a kernel module package: rpm and dracut, the bus, a newer kernel that borrows, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.compat import standins
from vbuskit.compat.bench import Bench, Delivery
from vbuskit.compat.cells import Cell
from vbuskit.compat.disks import found
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import MODULES, loaded, said
from vbuskit.compat.scenarios.rootdisk import ROOT, RootDisk, move
from vbuskit.compat.scenarios.swap import KEEPS, lacking, refused
from vbuskit.compat.scenarios.update import (
    arrived,
    back_and_out,
    brought,
    initrd_in,
    on_the_bus,
    runs,
    updated,
)
from vbuskit.initrd.image import read_image

CONFIG = "/etc/dracut.conf.d/vbuskit.conf"
# An image for any machine takes minutes under TCG; what is left out has nothing to do with the bus.
LEAN = """\
hostonly="no"
compress="gzip -1"
do_strip="no"
drivers+=" virtio_pci virtio_blk ext4 "
omit_dracutmodules+=" systemd systemd-initrd dracut-systemd crypt i18n terminfo qemu "
"""
RPM = ("/usr/bin/rpm", "--force-debian")


class Kmp(Scenario):
    name = "kmp"
    title = "RPM: rpm and dracut put it in, root on the bus, a newer kernel borrows the modules, back, out"
    order = 11
    cold = True
    long = True
    families = ("rpm",)
    not_on = (("drivers", "the packages that it brings are this checkout's"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        first, update = arrived(bench.first), arrived(bench.update)
        self.gets(bench, cell, first)
        bench.guest.shut_down()
        try:
            moved = move(bench)
            cell.compare("the initrd that dracut made", expected=[], seen=lacking(bench, moved.initrd))
            packages = [standins.module_tools(bench), standins.kernel(bench, update)]
            rpms = brought(bench, moved.image, packages)
            with on_the_bus(bench, cell, moved) as old:
                self.lives(old, cell, moved.image, first)
                old.guest(f"{' '.join(RPM)} --install {rpms} && rm {rpms}", seconds=900)
            newer = updated(bench, moved.image, update.release)
            moved = replace(moved, initrd=initrd_in(newer, moved.image))
            cell.compare("the newer kernel's initrd", expected=[], seen=lacking(newer, moved.initrd))
            held = read_image(moved.initrd).dependencies(update.release)["vblk"][0]
            cell.compare("vblk in there", expected="weak-updates/updates/vblk.ko", seen=held)
            with on_the_bus(newer, cell, moved) as new:
                borrowed = [f"/lib/modules/{update.release}/weak-updates/updates/{m}.ko" for m in MODULES]
                seen = [new.guest(["/sbin/modinfo", "-n", name]).strip() for name in MODULES]
                cell.compare("modules of the newer kernel", expected=borrowed, seen=seen)
                self.lives(new, cell, moved.image, first)
            back_and_out(newer, cell, moved, partial(self.leaves, first))
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def gets(self, bench: Bench, cell: Cell, first: Delivery) -> None:
        """Without the kernel's package rpm refuses ours; with it our scriptlets index, and start dracut."""
        # It made the image's first initrd; in a guest of rpm's kind there is only dracut.
        bench.guest("dpkg --force-depends --purge initramfs-tools initramfs-tools-core")
        bench.guest.write(CONFIG, LEAN.encode())
        bench.guest(["/usr/bin/rpmdb", "--initdb"])
        put(bench, [standins.system(bench)])
        files = written(bench, first.packages.values())
        wanted = f"ksym({'-'.join(first.release.split('-')[2:])}:module_layout)"
        done = bench.guest.execute([*RPM, "--install", *files], seconds=120)
        cell.compare("without a kernel of rpm's, it asks for", expected=wanted, seen=refused(done, wanted))
        put(bench, [standins.kernel_there(bench, first)])
        # rpm goes on, and ends well, whatever a scriptlet at the end of its transaction says.
        done = bench.guest.execute([*RPM, "--install", *files], seconds=900)
        cell.compare("the packages complain", expected=[], seen=said(done))
        cell.check("rpm", expected="exit code 0", seen=f"{done.code}: {done.err}", holds=done.code == 0)
        rpm(bench, "--verify", *first.packages)
        cell.compare("loaded before the next boot", expected="", seen=loaded(bench))

    def lives(self, bench: Bench, cell: Cell, image: Path, first: Delivery) -> None:
        runs(bench, cell, "on the bus")
        disk = found(bench, ROOT, image)
        RootDisk().is_root(bench, cell, disk, mounted=f"/dev/{disk.node}")  # dracut's mount follows links
        modules = [name for name in first.packages if name.startswith("vbus-kmp-")]
        for names in (modules, list(first.packages)):
            done = bench.guest.execute([*RPM, "--erase", *names], seconds=600)
            cell.compare(
                f"on the bus: removal of {', '.join(names)}", expected=KEEPS, seen=refused(done, KEEPS)
            )
        rpm(bench, "--verify", *first.packages)
        cell.compare("kernel log, on the bus", expected="no complaint", seen=complaints(bench))

    def leaves(self, first: Delivery, bench: Bench, cell: Cell) -> None:
        runs(bench, cell, "on virtio")
        source = bench.guest("findmnt -n -o SOURCE /").strip()
        cell.compare("root file system, back again", expected="/dev/vda", seen=source)
        rpm(bench, "--erase", *first.packages)
        look = "find /lib/modules/ /usr/lib | grep -E '/(vbus|venet|vblk|90vbus|61-v|81-v)'; :"
        left = bench.guest(look).split()
        cell.compare("left of it", expected=[], seen=left)
        cell.compare("kernel log, on virtio", expected="no complaint", seen=complaints(bench))


def rpm(bench: Bench, *words: str) -> str:
    return bench.guest([*RPM, *words], seconds=900)


def put(bench: Bench, packages: Iterable[Artifact]) -> None:
    rpm(bench, "--install", *written(bench, packages))


def written(bench: Bench, packages: Iterable[Artifact]) -> list[str]:
    """Copies in the guest, which runs."""
    paths = {f"/srv/{package.path.name}": package for package in packages}
    for path, package in paths.items():
        bench.guest.write(path, package.path.read_bytes())
    return list(paths)
