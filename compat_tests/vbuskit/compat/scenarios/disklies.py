# SPDX-License-Identifier: MIT
"""vblk: a host that lies about its disk costs the guest that disk and one line, and nothing else."""

from __future__ import annotations

from uuid import UUID

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.liars import PATIENCE, goes, module
from vbuskit.compat.scenario import Scenario

# host/liar.c's `enum lie`, in its order from 1 on, and what the guest says of each.
OF_QUERY = (
    *["logical block"] * 3,
    "physical block",
    "preferred sizes of I/O",
    "capacity",
    *["size of a request"] * 4,
    "size of a discard",
    *["number of queues"] * 2,
    "flags",
    "serial number",
)
OF_COMPLETION = (
    *["completes what it does not have"] * 3,
    *["completes another length than was asked for"] * 2,
    "completes with a status that there is not",
)


class DiskLies(Scenario):
    name = "disklies"
    title = (
        "vblk: a disk that cannot be is refused, a host that completes falsely loses it, both in one line"
    )
    order = 64
    needs = ("disk",)

    def run(self, bench: Bench, cell: Cell) -> None:
        bench.bus.client.add_class(module(bench, "liar"))
        for lie, line in enumerate((*OF_QUERY, *OF_COMPLETION), 1):
            uuid = UUID(f"76627573-6b69-4000-b000-{lie:012x}")
            before = bench.guest.dmesg().count(f"{uuid}: ")
            bench.bus.client.add_device(bench.bus.name, uuid, "liar")
            self.is_told(bench, cell, lie, f"{uuid}: {told(lie, line)}", before)
            base = f"/sys/bus/vbus/devices/{uuid}"
            if lie <= len(OF_QUERY):
                seen = bench.guest(f"cat {base}/state; ls -d {base}/block 2>/dev/null; :").split()
                cell.compare(f"lie {lie}: state, disk", expected=["closed"], seen=seen)
            else:
                self.fails_at_once(bench, cell, lie, base)
            bench.bus.client.remove_device(bench.bus.name, uuid)
            gone = goes(bench, base)
            cell.compare(f"lie {lie}: removed", expected=True, seen=gone)
        bench.bus.client.remove_class("liar")

    def is_told(self, bench: Bench, cell: Cell, lie: int, line: str, before: int) -> None:
        until(lambda: line in bench.guest.dmesg(), PATIENCE)
        lines = [said for said in bench.guest.dmesg().splitlines() if line.split(":")[0] in said]
        cell.compare(f"lie {lie}: lines", expected=1, seen=len(lines) - before)
        cell.check(f"lie {lie}: what is said", expected=line, seen=lines[-1], holds=line in lines[-1])

    def fails_at_once(self, bench: Bench, cell: Cell, lie: int, base: str) -> None:
        state = until(lambda: "failed" in bench.guest(f"cat {base}/state"), PATIENCE)
        cell.compare(f"lie {lie}: failed", expected=True, seen=state)
        node = until(lambda: bench.guest.execute(f"ls {base}/block 2>/dev/null").out.strip(), PATIENCE)
        done = bench.guest.execute(f"timeout 20 dd if=/dev/{node} of=/dev/null bs=4k count=1 iflag=direct")
        cell.compare(f"lie {lie}: a read ends with an error", expected=1, seen=done.code)


def told(lie: int, line: str) -> str:
    if lie <= len(OF_QUERY):
        return f"the host tells of a disk that cannot be: {line}"
    return f"the host broke the contract: {line}; the device stops"
