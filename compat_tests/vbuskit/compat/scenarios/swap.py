# SPDX-License-Identifier: MIT
"""The boot disk goes from virtio to the bus and back, as an operator does it: looked at, then moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import make
from vbuskit.base.run import Finished
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.disks import added, found
from vbuskit.compat.guest import Guest
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import installed, loaded
from vbuskit.compat.scenarios.rootdisk import BY_LABEL, ROOT, Moved, RootDisk, dumped, move, rooted
from vbuskit.initrd.check import check
from vbuskit.initrd.image import read_image
from vbuskit.kmp.keyring import chosen_key
from vbuskit.kmp.signing import verify_module

WRITTEN = "/srv/written"
KEEPS = "(the root file system); the next boot would not find them"


class Swap(Scenario):
    name = "swap"
    title = "boot disk from virtio to the bus and back: looked at, booted, kept from removal, moved back"
    order = 85
    needs = ("install",)
    cold = True
    long = True

    def run(self, bench: Bench, cell: Cell) -> None:
        bench.guest.shut_down()
        try:
            moved = move(bench)
            cell.compare("the initrd, before", expected=[], seen=lacking(bench, moved.initrd))
            with added(bench, ROOT, moved.image), rooted(bench, moved) as guest:
                cell.logs.append(guest.serial)
                guest.boot()
                written, new = self.on_the_bus(replace(bench, guest=guest), cell, moved)
                guest.shut_down()
            made = dumped(bench, moved.image, f"/boot/{moved.initrd.name}")
            cell.compare("the initrd that was made there", expected=new, seen=Artifact.of(made).sha256)
            cell.compare("the initrd, made there", expected=[], seen=lacking(bench, made))
            with returned(bench, moved) as disk:
                with booted(bench, cell, disk, made) as back:
                    self.back(back, cell, written)
                # By the initrd of the image, which has nothing of ours.
                with booted(bench, cell, disk, bench.guest.hardware.initrd) as without:
                    self.without(without, cell)
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def on_the_bus(self, bench: Bench, cell: Cell, moved: Moved) -> tuple[str, str]:
        """A removal would leave a guest that does not boot, and is refused; the initrd is made anew.

        What sha256sum says of a file that is written, and of that initrd.
        """
        RootDisk().is_root(bench, cell, found(bench, ROOT, moved.image))
        packages = installed(bench)
        done = bench.guest.execute(["/usr/bin/dpkg", "--remove", *packages], seconds=180)
        cell.compare("removal", expected=KEEPS, seen=refused(done, KEEPS))
        cell.compare("packages, as before", expected=packages, seen=installed(bench))
        cell.compare("loaded, as before", expected="vblk vbus venet", seen=loaded(bench))
        look = "sha256sum </boot/initrd.img-$(uname -r)"
        old = bench.guest(look, seconds=120)
        bench.guest("update-initramfs -u -k $(uname -r)", seconds=300)
        new = bench.guest(look, seconds=120)
        cell.check("initrd, made anew", expected="another one", seen=new.split()[0], holds=new != old)
        cell.compare("kernel log, on the bus", expected="no complaint", seen=complaints(bench))
        written = bench.guest(f"head -c 1000000 /dev/urandom >{WRITTEN}; sync; sha256sum {WRITTEN}")
        return written, new.split()[0]

    def back(self, bench: Bench, cell: Cell, written: str) -> None:
        """What was written on the bus is there, and nothing holds the packages any more."""
        source = bench.guest("findmnt -n -o SOURCE /").strip()
        cell.compare("root file system, back again", expected="/dev/vda", seen=source)
        seen = bench.guest(f"sha256sum {WRITTEN}")
        cell.compare("what was written on the bus", expected=written, seen=seen)
        bench.guest(["/usr/bin/dpkg", "--purge", *installed(bench)], seconds=180)

    def without(self, bench: Bench, cell: Cell) -> None:
        cell.compare("loaded, after the removal", expected="", seen=loaded(bench))
        cell.compare("kernel log, back again", expected="no complaint", seen=complaints(bench))


def refused(done: Finished, words: str) -> str:
    """`words`, where it failed with them; else what it did instead."""
    return words if done.code and words in done.out + done.err else f"{done.code}: {done.err.strip()}"


def lacking(bench: Bench, initrd: Path) -> list[str]:
    """What `vbuskit initrd check` has against it; our key is the only one that is trusted."""
    trusted = chosen_key(bench.places).certificate

    def signer(module: bytes) -> str:
        verify_module(module, trusted)
        return "signed by the key that is trusted"

    findings = check(read_image(initrd), root=BY_LABEL, kernel=bench.image.recipe.release, signer=signer)
    return [finding.text for finding in findings if not finding.holds]


@contextmanager
def returned(bench: Bench, moved: Moved) -> Iterator[Path]:
    """What is in the image now, as a virtio disk again; the one that it came from is as it was."""
    disk = make(bench.places.work("work", "disks")) / "returned.qcow2"
    bench.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", moved.image, disk])
    moved.image.unlink()
    try:
        yield disk
    finally:
        disk.unlink()


@contextmanager
def booted(bench: Bench, cell: Cell, disk: Path, initrd: Path) -> Iterator[Bench]:
    """The same guest with these two, until it is off again."""
    name = f"{bench.guest.name}-back"
    serial = bench.guest.serial.with_name(f"{name}-serial.log")
    hardware = replace(bench.guest.hardware, name=name, serial=serial, disk=disk, initrd=initrd)
    cell.logs.append(serial)
    with Guest(bench.host.connection, hardware) as guest:
        guest.boot()
        yield replace(bench, guest=guest)
        guest.shut_down()
