# SPDX-License-Identifier: MIT
"""`bench disk`: random 4 KiB, 32 at a time, on vblk-file and virtio-blk, both O_DIRECT by io_uring."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import VbuskitError
from vbuskit.compat.bench import Bench
from vbuskit.compat.disks import MIB, Disk, plugged
from vbuskit.compat.guestbench import (
    BUS_LINES,
    SECONDS,
    VBUS,
    VIRTIO,
    Amount,
    Counters,
    Machine,
    Moved,
    Side,
    Trial,
    compared,
    virtio_lines,
)
from vbuskit.drivers.figures import Result

OURS = Disk(name="bench", number=7, mib=256)
THEIRS = "vdb"  # the guest's, a raw image of the same size
DEPTH = 32
LEFT_OUT = {
    "doorbells of virtio": "virtio-blk does not count them",
    "copies": "nobody counts them; docs/performance.md says how many there are by design",
}
FIO = (
    *("/usr/bin/env", "fio", "--output-format=json", "--name=bench", "--direct=1", "--ioengine=libaio"),
    *("--bs=4k", f"--iodepth={DEPTH}"),
)


@dataclass(frozen=True, slots=True)
class DiskSide(Side):
    """A disk: requests are counted by the guest's block layer, alike for both.

    lines: of /proc/interrupts, as a pattern
    """

    name: str
    machine: Machine
    node: str
    lines: str

    def look(self) -> Counters:
        words = self.machine.bench.guest(f"cat /sys/block/{self.node}/stat").split()
        # virtio-blk counts no doorbells.
        doorbells = self.machine.doorbells() if self.name == VBUS else 0
        return self.machine.counters(self.lines, doorbells=doorbells, units=int(words[0]) + int(words[4]))


def bench_disk(bench: Bench, amount: Amount) -> Result:
    machine = Machine.of(bench)
    image = bench.places.work("work", "disks") / f"{OURS.name}.img"
    filled(image)
    with plugged(bench, OURS, image) as disk:
        sides = (
            DiskSide(VBUS, machine, disk.node, BUS_LINES),
            DiskSide(VIRTIO, machine, THEIRS, virtio_lines(bench, f"/sys/block/{THEIRS}")),
        )
        trials: list[Trial[DiskSide]] = [
            Trial("disk", "read 4 KiB", "request", "requests/s", lambda side: fio(side, "randread", amount)),
            Trial(
                "disk", "write 4 KiB", "request", "requests/s", lambda side: fio(side, "randwrite", amount)
            ),
        ]
        return compared(sides, trials, amount.pairs, LEFT_OUT)


def filled(path: Path) -> Path:
    """An image of which every block is on the disk: a hole costs nothing to read."""
    with path.open("wb") as file:
        for _ in range(OURS.mib):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    return path


def fio(side: DiskSide, kind: str, amount: Amount) -> Moved:
    command = [*FIO, f"--filename=/dev/{side.node}", f"--rw={kind}", f"--io_size={amount.disk_mib}m"]
    return done(side.machine.bench.guest(command, SECONDS))


def done(said: str) -> Moved:
    """From fio's JSON; reads and writes together, of which there is one kind."""
    # fio puts what it has to warn of in front.
    (job,) = json.loads(said[said.index("{") :])["jobs"]
    if job["error"]:
        raise VbuskitError(f"fio: error {job['error']}")
    ways = [job[way] for way in ("read", "write")]
    return Moved(sum(way["io_bytes"] for way in ways), max(way["runtime"] for way in ways) / 1000)
