# SPDX-License-Identifier: MIT
"""fio's own verification of a disk on the bus, through many deaths of the worker."""

from __future__ import annotations

import json

from vbuskit.base.errors import TimedOut
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.disks import MIB, Disk, plugged
from vbuskit.compat.scenario import Scenario

VERIFIED = Disk(name="verified", number=9, mib=192)
KILLS, PART, LOOPS = 50, 4 * MIB, 8
SECONDS = 1200.0
REPORT, CODE = "/dev/shm/fio.json", "/dev/shm/fio.code"
# Blocks of every size up to what a request takes, each with its own checksum, read back soon after.
FIO = (
    "fio --name=verify --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=4k-64k"
    f" --verify=crc32c --verify_fatal=1 --verify_backlog=256 --loops={LOOPS}"
    f" --output-format=json --output={REPORT}"
)


class Fio(Scenario):
    name = "fio"
    title = f"vblk: fio verifies what it writes while the worker is killed {KILLS} times"
    order = 66
    needs = ("negotiate",)
    soak = True
    packages = ("fio",)

    def run(self, bench: Bench, cell: Cell) -> None:
        with plugged(bench, VERIFIED) as disk:
            bench.guest(f"rm -f {REPORT} {CODE}")
            bench.guest.agent.start(f"{FIO} --filename=/dev/{disk.node}; echo $? >{CODE}")
            for number in range(KILLS):
                disk.moved(PART)
                bench.bus.kill_worker()
                seen = bench.bus.confirmed()
                cell.compare(f"kill {number + 1}: the guest goes on", expected="confirmed", seen=seen)
            cell.compare("fio: not done before the last kill", expected=False, seen=has_ended(bench))
            if not until(lambda: has_ended(bench), SECONDS, pause=1):
                raise TimedOut(f"fio: still runs after {SECONDS:g} s")
            cell.compare("fio: exit code", expected="0", seen=bench.guest(f"cat {CODE}").strip())
            verified, error = told(bench.guest.read(REPORT).decode())
            cell.compare("fio: error", expected=0, seen=error)
            least = VERIFIED.mib * MIB * LOOPS
            cell.check(
                "bytes read back", expected=f"{least} or more", seen=verified, holds=verified >= least
            )
            cell.compare("replays", expected=KILLS, seen=disk.replays())
            cell.compare("errors that the host counts", expected=0, seen=disk.counters()["errors"])
        cell.compare("afterwards", expected="gone", seen=disk.vanishes())


def has_ended(bench: Bench) -> bool:
    return not bench.guest.execute(f"test -s {CODE}").code


def told(report: str) -> tuple[int, int]:
    """From fio's JSON, behind its warnings: bytes that were read, and its first error's number or 0."""
    (job,) = json.loads(report[report.index("{") :])["jobs"]
    return int(job["read"]["io_bytes"]), int(job["error"])
