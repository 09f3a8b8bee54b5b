# SPDX-License-Identifier: MIT
"""vblk: the guest's root file system on the bus, found by its own initrd, and no other disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import make
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.diskcheck import MIB_EACH, THREADS, checking
from vbuskit.compat.disks import Disk, Plugged, added, found
from vbuskit.compat.guest import Guest
from vbuskit.compat.recipe import DISK_MIB
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.disk import PART, all_is_right
from vbuskit.compat.scenarios.install import loaded

ROOT = Disk(name="root", number=5, mib=DISK_MIB)
# Not LABEL=guest: for that, initramfs-tools asks blkid, which knows our disks without a rule of udev.
BY_LABEL = "/dev/disk/by-label/guest"
KILLS, BYTES = 5, 3_000_000
KEPT, CHECKED = "/srv/kept", "/srv/checked"


@dataclass(frozen=True, slots=True)
class Moved:
    """What the guest's virtio disk had, when it was off: all of it, and its own initrd."""

    image: Path
    initrd: Path


class RootDisk(Scenario):
    name = "rootdisk"
    title = (
        f"vblk: the guest boots from it by label, without other disks; the worker is killed {KILLS} times"
    )
    order = 79
    needs = ("install",)
    cold = True

    def run(self, bench: Bench, cell: Cell) -> None:
        initrd = bench.guest("sha256sum </boot/initrd.img-$(uname -r)", seconds=120).split()[0]
        bench.guest.shut_down()
        try:
            moved = move(bench)
            seen = Artifact.of(moved.initrd).sha256
            cell.compare("initrd, taken out of the image", expected=initrd, seen=seen)
            with added(bench, ROOT, moved.image), rooted(bench, moved) as guest:
                cell.logs.append(guest.serial)
                guest.boot()
                kept = self.lives(replace(bench, guest=guest), cell, moved.image)
                guest.shut_down()
            self.is_in_the_image(bench, cell, moved.image, kept)
            moved.image.unlink()
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def lives(self, bench: Bench, cell: Cell, image: Path) -> str:
        """Everything while it runs; the sum of the file that is written meanwhile."""
        disk = found(bench, ROOT, image)
        self.is_root(bench, cell, disk)
        kept = self.survives(bench, cell, disk)
        bad = bench.guest("dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'; :").strip()
        cell.compare("kernel log: complaints of the file system", expected="", seen=bad)
        cell.compare("kernel log", expected="no complaint", seen=complaints(bench))
        return kept

    def is_root(self, bench: Bench, cell: Cell, disk: Plugged, mounted: str = BY_LABEL) -> None:
        node = bench.guest("basename $(readlink /sys/dev/block/$(findmnt -n -o MAJ:MIN /))").strip()
        cell.compare("root file system, as the kernel has it", expected=disk.node, seen=node)
        source = bench.guest("findmnt -n -o SOURCE /").strip()
        cell.compare("root file system, as the initrd found it", expected=mounted, seen=source)
        link = bench.guest(f"readlink -f {BY_LABEL}").strip()
        cell.compare(BY_LABEL, expected=f"/dev/{disk.node}", seen=link)
        others = bench.guest("ls /sys/block | grep -v -e '^sr' -e '^vb'; :").split()
        cell.compare("other disks", expected=[], seen=others)
        cell.compare("loaded", expected="vblk vbus venet", seen=loaded(bench))
        cell.compare("host", expected="confirmed", seen=bench.bus.confirmed())

    def survives(self, bench: Bench, cell: Cell, disk: Plugged) -> str:
        """Direct reads and writes, and a file that goes through the page cache, while the worker dies."""
        before, replays = disk.counters()["errors"], disk.replays()
        bench.guest(f"fallocate -l {THREADS * MIB_EACH}M {CHECKED}")
        with checking(bench, CHECKED) as check:
            for number in range(1, KILLS + 1):
                disk.moved(PART)
                bench.guest(f"head -c {BYTES} /dev/urandom >>{KEPT}")
                bench.bus.kill_worker()
                seen = bench.bus.confirmed()
                cell.compare(f"kill {number}: the guest goes on", expected="confirmed", seen=seen)
            disk.moved(PART)
            all_is_right(cell, check)
        cell.compare("replays", expected=KILLS, seen=disk.replays() - replays)
        cell.compare("errors that the host counts", expected=0, seen=disk.counters()["errors"] - before)
        look = f"sha256sum <{KEPT}"
        kept = bench.guest(look, seconds=120).split()[0]
        again = bench.guest(f"sync; echo 3 >/proc/sys/vm/drop_caches; {look}", seconds=120).split()[0]
        cell.compare("file, read back", expected=kept, seen=again)
        return kept

    def is_in_the_image(self, bench: Bench, cell: Cell, image: Path, kept: str) -> None:
        """It was let go cleanly: nothing is left in the journal, and the host's own tools find the file."""
        head = bench.run(["dumpe2fs", "-h", image])
        clean = "needs_recovery" not in head
        cell.check("its journal", expected="empty", seen="empty" if clean else "not empty", holds=clean)
        done = bench.run.attempt(["e2fsck", "-f", "-n", image])
        cell.compare("e2fsck on the image", expected=0, seen=done.code)
        copy = dumped(bench, image, KEPT)
        content = copy.read_bytes()
        cell.compare("file, as the host reads it: bytes", expected=KILLS * BYTES, seen=len(content))
        seen = hashlib.sha256(content).hexdigest()
        cell.compare("file, as the host reads it", expected=kept, seen=seen)


def move(bench: Bench) -> Moved:
    """The guest's disk, which nobody writes to now, as a raw image; nothing is mounted for it."""
    image = make(bench.places.work("work", "disks")) / f"{ROOT.name}.img"
    overlay = bench.guest.hardware.disk
    if overlay is None:
        raise RuntimeError(f"{bench.guest.name} has no disk that could be moved")
    bench.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, image])
    return Moved(image, dumped(bench, image, f"/boot/initrd.img-{bench.image.recipe.release}"))


def dumped(bench: Bench, image: Path, path: str) -> Path:
    """A copy of a file in the image, beside the image; debugfs says nothing of one that is not there."""
    copy = image.with_name(Path(path).name)
    copy.unlink(missing_ok=True)
    bench.run(["debugfs", "-R", f"dump {path} {copy}", image])
    if not copy.exists():
        raise VbuskitError(f"{path}: is not in {bench.guest.name}'s disk")
    return copy


def rooted(bench: Bench, moved: Moved) -> Guest:
    """The same guest, without its virtio disk, and from its own initrd."""
    name = f"{bench.guest.name}-root"
    serial = bench.guest.serial.with_name(f"{name}-serial.log")
    hardware = replace(
        bench.guest.hardware, name=name, disk=None, initrd=moved.initrd, root=BY_LABEL, serial=serial
    )
    return Guest(bench.host.connection, hardware)
