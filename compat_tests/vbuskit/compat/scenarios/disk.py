# SPDX-License-Identifier: MIT
"""vblk: a disk appears under its names, keeps what is written, and the host finds it in the image."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from vbuskit.base.run import Runner
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.diskcheck import Check, checking
from vbuskit.compat.disks import MIB, Disk, Plugged, image_of, plugged
from vbuskit.compat.scenario import Scenario

DATA = Disk(name="data", number=1, mib=256, serial="vbuskit-data")
KEPT = Disk(name="kept", number=2, mib=16, read_only=True)
SIZED = Disk(name="sized", number=3, mib=64, block_size=4096)
CHECKED = Disk(name="checked", number=4, mib=128)
LABEL, FS_UUID = "vbdata", "76627573-6b69-4000-a000-000000000001"
FILES = 8
KILLS, PART = 10, 4 * MIB


class Disks(Scenario):
    name = "disk"
    title = "vblk: a disk appears by all its names, and what is written there is in the image"
    order = 60
    needs = ("negotiate",)

    def run(self, bench: Bench, cell: Cell) -> None:
        with plugged(bench, DATA) as disk:
            cell.compare("state", expected="open", seen=disk.state())
            cell.compare("size, sectors", expected=str(DATA.mib * MIB // 512), seen=disk.attribute("size"))
            cell.compare("serial", expected=DATA.serial, seen=disk.attribute("serial"))
            cell.compare("cache", expected="write back", seen=disk.attribute("queue/write_cache"))
            self.has_links(bench, cell, disk)
            sums = self.write(bench, cell, disk)
            self.is_in_the_image(bench.run, cell, disk.image, sums)
        cell.compare("afterwards", expected="gone", seen=disk.vanishes())

    def has_links(self, bench: Bench, cell: Cell, disk: Plugged) -> None:
        bench.guest(f"mke2fs -q -t ext4 -L {LABEL} -U {FS_UUID} /dev/{disk.node}", seconds=120)
        bench.guest("udevadm settle")
        names = (
            f"by-uuid/{FS_UUID}",
            f"by-label/{LABEL}",
            f"by-id/vblk-{DATA.serial}",
            f"by-id/vbus-{DATA.uuid}",
            f"by-path/vbus-{DATA.uuid}",
        )
        for name in names:
            seen = bench.guest(f"readlink -f /dev/disk/{name}").strip()
            cell.compare(f"/dev/disk/{name}", expected=f"/dev/{disk.node}", seen=seen)

    def write(self, bench: Bench, cell: Cell, disk: Plugged) -> list[str]:
        """Files with random content, read back from the disk and not from memory; their sums."""
        bench.guest(f"mkdir -p /mnt && mount /dev/disk/by-label/{LABEL} /mnt")
        bench.guest(
            f"for n in $(seq {FILES}); do head -c $((n * 700000)) /dev/urandom >/mnt/$n; done; sync",
            seconds=120,
        )
        look = f"cd /mnt && for n in $(seq {FILES}); do sha256sum <$n; done"
        before = bench.guest(look, seconds=120).split()[::2]
        bench.guest("echo 3 >/proc/sys/vm/drop_caches")
        reads = disk.counters()["reads"]
        after = bench.guest(look, seconds=120).split()[::2]
        torn = [n for n, sums in enumerate(zip(before, after, strict=True), 1) if len(set(sums)) > 1]
        cell.compare("files that differ when they are read back", expected=[], seen=torn)
        moved = disk.counters()["reads"] - reads
        cell.check("reads that reached the host", expected="some", seen=moved, holds=moved > 0)
        bench.guest("umount /mnt")
        return before

    def is_in_the_image(self, run: Runner, cell: Cell, image: Path, sums: list[str]) -> None:
        """The host's own tools look, after the guest let go."""
        done = run.attempt(["e2fsck", "-f", "-n", image])
        cell.compare("e2fsck on the image", expected=0, seen=done.code)
        for number, expected in enumerate(sums, 1):
            copy = image.parent / "copy"
            run(["debugfs", "-R", f"dump /{number} {copy}", image])
            seen = hashlib.sha256(copy.read_bytes()).hexdigest()
            cell.compare(f"file {number}, as the host reads it", expected=expected, seen=seen)
            copy.unlink()


class DiskKinds(Scenario):
    name = "diskkinds"
    title = (
        "vblk: read-only, other block and disk sizes, discards and zeroes, partitions, as the host sees them"
    )
    order = 61
    needs = ("disk",)

    def run(self, bench: Bench, cell: Cell) -> None:
        self.is_read_only(bench, cell)
        with plugged(bench, SIZED) as disk:
            self.grows_and_shrinks(cell, disk)
            self.gives_room_back(cell, disk)
        cell.compare("afterwards", expected="gone", seen=disk.vanishes())

    def is_read_only(self, bench: Bench, cell: Cell) -> None:
        """With a partition table, which the host wrote: nobody else may."""
        image = image_of(bench, KEPT)
        with image.open("r+b") as file:
            file.write(os.urandom(KEPT.mib * MIB))
            file.seek(0)
            file.write(partitioned(SIGNATURE))
        expected = hashlib.sha256(image.read_bytes()).hexdigest()
        with plugged(bench, KEPT, image) as disk:
            cell.compare("read-only", expected="1", seen=disk.attribute("ro"))
            seen = bench.guest(f"sha256sum </dev/{disk.node}", seconds=120).split()[0]
            cell.compare("read-only: content", expected=expected, seen=seen)
            for name in (f"by-partuuid/{SIGNATURE:08x}-01", f"by-id/vbus-{KEPT.uuid}-part1"):
                link = bench.guest(f"readlink -f /dev/disk/{name}").strip()
                cell.compare(f"/dev/disk/{name}", expected=f"/dev/{disk.node}1", seen=link)
            # Last: udev reads the partitions anew when somebody has had the disk open for writing.
            tried = bench.guest.execute(f"echo 1 >/dev/{disk.node}")
            cell.check("read-only: a write", expected="refused", seen=tried.err, holds=tried.code != 0)
        cell.compare("read-only: afterwards", expected="gone", seen=disk.vanishes())
        cell.compare(
            "read-only: image", expected=expected, seen=hashlib.sha256(image.read_bytes()).hexdigest()
        )

    def grows_and_shrinks(self, cell: Cell, disk: Plugged) -> None:
        block = disk.attribute("queue/logical_block_size")
        cell.compare("logical block", expected=str(SIZED.block_size), seen=block)
        for mib in (2 * SIZED.mib, SIZED.mib // 2, SIZED.mib):
            disk.resize(mib)
            cell.compare(f"{mib} MiB: the guest sees it", expected=True, seen=disk.becomes(mib))

    def gives_room_back(self, cell: Cell, disk: Plugged) -> None:
        guest, node, half = disk.bench.guest, f"/dev/{disk.node}", SIZED.mib // 2
        guest(f"tr '\\0' x </dev/zero | head -c {2 * half * MIB} >{node}; sync", seconds=120)
        cell.compare("written: MiB that the image takes", expected=2 * half, seen=room(disk.image))
        before = disk.counters()["discards"]
        guest(f"blkdiscard -l {half * MIB} {node}")
        cell.check(
            "discarded: requests", expected="some", seen="", holds=disk.counters()["discards"] > before
        )
        cell.compare("discarded: MiB that the image takes", expected=half, seen=room(disk.image))
        guest(f"blkdiscard -z -o {half * MIB} {node}")
        cell.compare("zeroed: MiB that the image takes", expected=half, seen=room(disk.image))
        nothing = guest(
            f"echo 3 >/proc/sys/vm/drop_caches; tr -d '\\0' <{node} | wc -c", seconds=120
        ).strip()
        cell.compare("bytes that are not zero", expected="0", seen=nothing)


SIGNATURE = 0x76627573


def partitioned(signature: int) -> bytes:
    """A boot sector with one partition, from sector 2048 on."""
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 2048, 4096)
    return struct.pack("<440sIH", b"", signature, 0) + entry.ljust(64, b"\0") + b"\x55\xaa"


def room(image: Path) -> int:
    """MiB that the image takes on the host's disk; what the file system adds is less than one."""
    return image.stat().st_blocks * 512 // MIB


class DiskKill(Scenario):
    name = "diskkill"
    title = f"vblk: the worker is killed {KILLS} times under checked reads and writes, nothing is lost"
    order = 62
    needs = ("disk",)

    def run(self, bench: Bench, cell: Cell) -> None:
        with plugged(bench, CHECKED) as disk:
            before = disk.counters()["errors"]
            with checking(bench, f"/dev/{disk.node}") as check:
                for number in range(KILLS):
                    disk.moved(PART)
                    bench.bus.kill_worker()
                    seen = bench.bus.confirmed()
                    cell.compare(f"kill {number + 1}: the guest goes on", expected="confirmed", seen=seen)
                disk.moved(PART)
                all_is_right(cell, check)
            cell.compare("replays", expected=KILLS, seen=disk.replays())
            cell.compare("errors that the host counts", expected=0, seen=disk.counters()["errors"] - before)
        cell.compare("afterwards", expected="gone", seen=disk.vanishes())


def all_is_right(cell: Cell, check: Check) -> None:
    """End a check; it has read and written, and has found everything as it was written."""
    said = check.ends()
    words = dict(word.split("=", 1) for word in said.split() if "=" in word)
    cell.compare("wrong blocks, errors", expected=("0", "0"), seen=(words.get("wrong"), words.get("errors")))
    cell.check("reads and writes", expected="some", seen=said, holds=int(words["reads"]) > KILLS)


class DiskRemove(Scenario):
    name = "diskremove"
    title = "vblk: a disk is removed under reads and writes; who uses it gets an error, and nothing hangs"
    order = 63
    needs = ("disk",)

    def run(self, bench: Bench, cell: Cell) -> None:
        with plugged(bench, DATA) as disk:
            opened = int(bench.bus.north(bench.guest)["pool_free"])
            with checking(bench, f"/dev/{disk.node}") as check:
                disk.moved(PART)
                disk.remove()
                cell.compare("in the guest", expected="gone", seen=disk.vanishes())
                said = check.ends()
                cell.check(
                    "who used it",
                    expected="input/output error",
                    seen=said[:200],
                    holds="errors=0" not in said,
                )
        closed = int(bench.bus.north(bench.guest)["pool_free"])
        cell.check("window memory", expected=f"more than {opened} bytes", seen=closed, holds=closed > opened)
        with plugged(bench, DATA) as disk:
            cell.compare("once more", expected="open", seen=disk.state())
        cell.compare("afterwards", expected="gone", seen=disk.vanishes())
        again = int(bench.bus.north(bench.guest)["pool_free"])
        cell.compare("window memory after the second round", expected=closed, seen=again)
