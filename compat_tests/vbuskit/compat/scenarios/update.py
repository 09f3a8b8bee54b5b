# SPDX-License-Identifier: MIT
"""The kernel is updated while the root disk is on the bus: what follows boots there, and back on virtio."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Blocked
from vbuskit.base.places import make
from vbuskit.compat.bench import Bench, Delivery
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.disks import added, found
from vbuskit.compat.guest import Guest
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import installed, loaded
from vbuskit.compat.scenarios.rootdisk import ROOT, Moved, RootDisk, dumped, move, rooted
from vbuskit.compat.scenarios.swap import KEEPS, booted, lacking, refused, returned
from vbuskit.initrd.check import check
from vbuskit.initrd.image import read_image

HOOK, AWAY = "/usr/share/initramfs-tools/hooks/vbus", "/srv/hook"
LACKS = "has no vbus.ko vblk.ko 61-vblk.rules"


class KernelUpdate(Scenario):
    name = "update"
    title = "a new kernel, installed with root on the bus: booted there and on virtio, the old one removed"
    order = 86
    needs = ("install",)
    cold = True
    long = True
    not_on = (("drivers", "the packages that it brings are this checkout's"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        update = arrived(bench.update)
        bench.guest.shut_down()
        try:
            moved = move(bench)
            debs = brought(bench, moved.image, [*update.kernel.values(), *ours(update)])
            with on_the_bus(bench, cell, moved) as old:
                self.gets(old, cell, update, debs)
            newer = updated(bench, moved.image, update.release)
            moved = replace(moved, initrd=initrd_in(newer, moved.image))
            cell.compare("the new kernel's initrd", expected=[], seen=lacking(newer, moved.initrd))
            with on_the_bus(newer, cell, moved) as new:
                self.lives(new, cell, moved.image, bench.image.recipe.release)
            back_and_out(newer, cell, moved, self.back)
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def gets(self, bench: Bench, cell: Cell, update: Delivery, debs: str) -> None:
        """First without our hook, which must be said before anybody boots it; then as the words say."""
        cell.compare("host", expected="confirmed", seen=bench.bus.confirmed())
        before = installed(bench)
        bench.guest(f"mv {HOOK} {AWAY}")
        done = bench.guest.execute(f"dpkg --install {debs}", seconds=900)
        cell.compare("without the hook, dpkg says", expected=LACKS, seen=refused(done, LACKS))
        faults = faults_of(bench, update.release)
        holds = any("vblk" in fault for fault in faults)
        cell.check("without the hook, the initrd", expected="no vblk in it", seen=faults, holds=holds)
        bench.guest(f"mv {AWAY} {HOOK}")
        bench.guest("dpkg --configure --pending", seconds=600)
        new = [package for package in update.packages if package.endswith(update.release)]
        cell.compare("packages", expected=sorted([*before, *new]), seen=installed(bench))
        bench.guest(f"rm {debs}")

    def lives(self, bench: Bench, cell: Cell, image: Path, old: str) -> None:
        """The new kernel's drivers hold its root; those of the old one, and that kernel, may go."""
        runs(bench, cell, "on the bus")
        RootDisk().is_root(bench, cell, found(bench, ROOT, image))
        release = bench.image.recipe.release
        done = bench.guest.execute(["/usr/bin/dpkg", "--remove", f"vbus-modules-{release}"], seconds=180)
        cell.compare("on the bus: removal", expected=KEEPS, seen=refused(done, KEEPS))
        theirs = bench.guest(["/usr/bin/dpkg-query", "-W", "-f", "${Package}\\n", f"linux-*-{old}"]).split()
        bench.guest(["/usr/bin/dpkg", "--purge", f"vbus-modules-{old}", *theirs], seconds=600)
        left = bench.guest(f"ls -d /boot/*{old}* /lib/modules/{old} 2>/dev/null; :").split()
        cell.compare("left of the old kernel", expected=[], seen=left)
        kept = ["vbus-common", f"vbus-modules-{release}"]
        cell.compare("packages, without the old kernel", expected=kept, seen=installed(bench))
        cell.compare("kernel log, on the bus", expected="no complaint", seen=complaints(bench))

    def back(self, bench: Bench, cell: Cell) -> None:
        runs(bench, cell, "on virtio")
        source = bench.guest("findmnt -n -o SOURCE /").strip()
        cell.compare("root file system, back again", expected="/dev/vda", seen=source)
        cell.compare("kernel log, on virtio", expected="no complaint", seen=complaints(bench))
        bench.guest(["/usr/bin/dpkg", "--purge", *installed(bench)], seconds=600)
        cell.compare("packages, purged", expected=[], seen=installed(bench))


def back_and_out(bench: Bench, cell: Cell, moved: Moved, leaves: Callable[[Bench, Cell], None]) -> None:
    """On virtio again, where `leaves` takes the drivers away; then by the initrd that this made."""
    with returned(bench, moved) as disk:
        with booted(bench, cell, disk, moved.initrd) as back:
            leaves(back, cell)
        after = move(back)
        after.image.unlink()
        with booted(bench, cell, disk, after.initrd) as without:
            runs(without, cell, "uninstalled")
            cell.compare("uninstalled: loaded", expected="", seen=loaded(without))


@contextmanager
def on_the_bus(bench: Bench, cell: Cell, moved: Moved) -> Iterator[Bench]:
    """The guest with that disk behind the bus and no other, until it is off again."""
    with added(bench, ROOT, moved.image), rooted(bench, moved) as guest:
        cell.logs.append(guest.serial)
        guest.boot()
        yield replace(bench, guest=guest)
        guest.shut_down()


def arrived(made: Callable[[], Delivery] | None) -> Delivery:
    """Skipped where there is none, and where the machine cannot get it: that says nothing of the drivers."""
    if made is None:
        raise CellSkipped("guests.toml has no `update` for this guest")
    try:
        return made()
    except Blocked as error:
        raise CellSkipped(str(error)) from error


def ours(update: Delivery) -> list[Artifact]:
    """The modules; what all kernels share is there already."""
    return [package for name, package in update.packages.items() if name.endswith(update.release)]


def brought(bench: Bench, image: Path, files: Iterable[Artifact]) -> str:
    """Copy files into an image that nobody writes to; their names in the guest, for a shell."""
    names = {file.path.name: file.path for file in files}
    for name, path in names.items():
        bench.run(["debugfs", "-w", "-R", f"write {path} /srv/{name}", image])
    return " ".join(shlex.quote(f"/srv/{name}") for name in names)


def updated(bench: Bench, image: Path, release: str) -> Bench:
    """The same bench, whose guest boots the kernel that is in the image beside the first one."""
    kernel = Artifact.of(dumped(bench, image, f"/boot/vmlinuz-{release}"))
    guest = Guest(bench.host.connection, replace(bench.guest.hardware, kernel=kernel.path))
    recipe = replace(bench.image.recipe, release=release)
    return replace(bench, guest=guest, image=replace(bench.image, recipe=recipe, kernel=kernel))


def runs(bench: Bench, cell: Cell, where: str) -> None:
    seen = bench.guest("uname -r").strip()
    cell.compare(f"{where}: kernel", expected=bench.image.recipe.release, seen=seen)


def initrd_in(bench: Bench, image: Path) -> Path:
    return dumped(bench, image, f"/boot/initrd.img-{bench.image.recipe.release}")


def faults_of(bench: Bench, release: str) -> list[str]:
    """What a look from outside finds wrong with the initrd that the running guest has for that kernel."""
    image = make(bench.places.work("work", "disks")) / "seen.img"
    image.write_bytes(bench.guest.read(f"/boot/initrd.img-{release}"))
    findings = check(read_image(image), root="LABEL=guest", kernel=release)
    return [finding.text for finding in findings if not finding.holds]
