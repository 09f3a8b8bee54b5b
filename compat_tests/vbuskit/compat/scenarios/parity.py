# SPDX-License-Identifier: MIT
"""Each mask of one and of two bits: a guest that is re-opened there does what the gate has said before.

Re-opened as after a migration: the worker is replaced by one that has nothing of it. Many devices share one
replacement, each under a mask of its own. Then the masks are lifted, and the next one brings all back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, islice
from uuid import UUID

from vbuskit.base.errors import TimedOut
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import PATIENCE, Card, groups
from vbuskit.compat.cells import Cell
from vbuskit.compat.disks import Disk, plugged
from vbuskit.compat.parity import FAILED, OPEN, Case, Groups, Record, Row, document, foretold, named, words
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.masks import Mask, masked
from vbuskit.compat.traffic import bring_up, ping
from vbuskit.migration.features import each_bit

# And the bench's two: a device may have an eighth of the window, and the drivers take all of it.
TOGETHER = 5
# By type: what is masked while they are opened for the first time, so that the guest does without it.
LESS: tuple[tuple[str, Mask], ...] = (
    ("venet", {}),
    ("venet", {0: 0x48, 2: 0x1, 3: 0x2}),  # venet_abi.h: ECN and USO; all of L4RO; pairs
    ("vblk", {}),
    ("vblk", {1: 0x2, 3: 0x2}),  # vblk_abi.h: discards; queues
)

# Connections so far; state and bits of each device; what the kernel has said. In one question: to ask takes
# longer than all the rest.
LOOK = """
sed -n 's/^connections: //p' /sys/kernel/debug/vbus/*/counters
cd /sys/bus/vbus/devices
for uuid in {uuids}; do
    read -r state <$uuid/state; read -r active <$uuid/negotiated; echo $uuid $state $active
done
dmesg | grep -F 'no longer offers' | tail -n {many}
"""
REFUSED = re.compile(r"([0-9a-f-]{36}): the host no longer offers what is in use: (\S+), now (\S+)$")


class Parity(Scenario):
    name = "parity"
    title = "each mask of one and of two bits: a guest that is re-opened there does what the gate said"
    order = 63
    needs = ("negotiate",)
    long = True
    not_on = (("host=0.1", "a worker of 0.1 masks no bit of feature group 0"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        record = Record(
            release=bench.version,
            guest=bench.guest.name,
            kernel=bench.guest("uname -r").strip(),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            cases=[],
        )
        try:
            for kind, less in LESS:
                HANDLE[kind](bench, cell, less, record.cases)
        finally:
            log = bench.guest.serial.with_name(f"{bench.guest.name}-parity.json")
            log.write_text(document(record))
            cell.logs.append(log)


def with_cards(bench: Bench, cell: Cell, less: Mask, cases: list[Case]) -> None:
    """Cards that are up; afterwards they carry frames."""
    cards = [Card(name=f"parity{number}", number=number) for number in range(20, 20 + TOGETHER)]
    with ExitStack() as undo:
        with masked(bench, less):
            for card in cards:
                bench.bus.add(card)
                undo.callback(bench.bus.remove, card)
                cell.compare(card.name, expected=OPEN, seen=bench.bus.appears(bench.guest, card))
                bring_up(bench, card)
        tried(bench, cell, [card.uuid for card in cards], cases)
        for card in cards:
            cell.compare(f"{card.name}: ping after all", expected="20 of 20", seen=str(ping(bench, card)))
    for card in cards:
        cell.compare(f"{card.name}: removed", expected="gone", seen=bench.bus.vanishes(bench.guest, card))


def with_disks(bench: Bench, cell: Cell, less: Mask, cases: list[Case]) -> None:
    """Disks; afterwards they can be read."""
    kinds = [Disk(name=f"parity{number}", number=number, mib=8) for number in range(20, 20 + TOGETHER)]
    with ExitStack() as undo:
        with masked(bench, less):
            disks = [undo.enter_context(plugged(bench, kind)) for kind in kinds]
        tried(bench, cell, [kind.uuid for kind in kinds], cases)
        for disk in disks:
            done = bench.guest.execute(READ.format(node=disk.node))
            cell.compare(f"{disk.disk.name}: read after all", expected=(0, ""), seen=(done.code, done.err))
    for disk in disks:
        cell.compare(f"{disk.disk.name}: removed", expected="gone", seen=disk.vanishes())


HANDLE = {"venet": with_cards, "vblk": with_disks}
READ = "dd if=/dev/{node} of=/dev/null bs=1M iflag=direct status=none"


def tried(bench: Bench, cell: Cell, uuids: Sequence[UUID], cases: list[Case]) -> None:
    """All masks, on as many devices at once as there are; `cases` get another one."""
    case = case_of(bench, uuids[0])
    cases.append(case)
    trial = Trial(bench, cell, case, uuids)
    left = masks(case)
    while some := [*islice(left, len(uuids))]:
        trial.of(dict(zip(uuids, some, strict=False)))


def case_of(bench: Bench, uuid: UUID) -> Case:
    """What its class offers where nothing is masked, and what was agreed on, as the host says."""
    device = bench.bus.client.device(bench.bus.name, uuid)
    types = {klass.name: klass.type for klass in bench.bus.client.classes()}
    return Case(
        types[device.klass],
        device.klass,
        {group: bits.offered | bits.masked for group, bits in device.groups.items()},
        {group: bits.active for group, bits in device.groups.items()},
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as one side says it."""

    state: str
    active: Groups


def masks(case: Case) -> Iterator[Mask]:
    """None, each bit that is offered, and each two."""
    bits = [(group, bit) for group, value in sorted(case.offered.items()) for bit in each_bit(value)]
    for count in (0, 1, 2):
        for together in combinations(bits, count):
            mask: Mask = {}
            for group, bit in together:
                mask[group] = mask.get(group, 0) | bit
            yield mask


@dataclass(slots=True)
class Trial:
    """Devices of one case, which are open; the guest's connections and lines of its log at the last look."""

    bench: Bench
    cell: Cell
    case: Case
    uuids: Sequence[UUID]
    times: int = 0
    log: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.times, _, self.log = self.look()

    def of(self, batch: Mapping[UUID, Mask]) -> None:
        """A mask for each: a worker that offers less, and one that offers all again."""
        said = {uuid: foretold(uuid, self.case, mask) for uuid, mask in batch.items()}
        self.set_masks(batch)
        old, seen = {*self.log}, self.reopened()
        for uuid, row in said.items():
            self.judge(row, seen[uuid])
        self.look_south(seen)
        expected = {
            str(uuid): (bits_of(self.case.had), bits_of(each.active))
            for uuid, each in seen.items()
            if each.state == FAILED
        }
        told = refused(line for line in self.log if line not in old)
        self.cell.compare("what the guest's log says is missing", expected=expected, seen=told)
        self.set_masks({uuid: dict.fromkeys(mask, 0) for uuid, mask in batch.items()})
        again = {str(uuid): each for uuid, each in self.reopened().items()}
        had = {str(uuid): Seen(OPEN, self.case.had) for uuid in self.uuids}
        self.cell.compare("without the masks", expected=had, seen=again)

    def set_masks(self, batch: Mapping[UUID, Mask]) -> None:
        for uuid, mask in batch.items():
            for group, bits in mask.items():
                self.bench.bus.client.mask(self.bench.bus.name, group, bits, uuid=uuid)

    def judge(self, said: Row, seen: Seen) -> None:
        """What the gate foretold, and what became of the device."""
        self.case.rows.append(Row(said.mask, said.verdict, seen.state, seen.active))
        who = f"{self.case.type} with {words(self.case.had)}"
        self.cell.compare(
            f"{who}, masked: {named(self.case.type, said.mask)}; the gate: {said.verdict}",
            expected=f"{said.state}, {words(said.granted)}",
            seen=f"{seen.state}, {words(seen.active)}",
        )

    def reopened(self) -> dict[UUID, Seen]:
        """Each device as the guest has it after another worker came."""
        self.bench.bus.renew()

        def settled() -> tuple[int, dict[UUID, Seen], Sequence[str]] | None:
            times, seen, log = self.look()
            done = times > self.times and {each.state for each in seen.values()} <= {OPEN, FAILED}
            return (times, seen, log) if done else None

        found = until(settled, PATIENCE, pause=0.05)
        if found is None:
            raise TimedOut(f"another worker: the guest has not gone on, or given up, within {PATIENCE:g} s")
        self.times, seen, self.log = found
        return seen

    def look(self) -> tuple[int, dict[UUID, Seen], Sequence[str]]:
        uuids = " ".join(map(str, self.uuids))
        times, *lines = self.bench.guest(LOOK.format(uuids=uuids, many=2 * len(self.uuids))).splitlines()
        found = {}
        for line in lines[: len(self.uuids)]:
            uuid, state, *active = line.split()
            found[UUID(uuid)] = Seen(state, groups(" ".join(active)))
        return int(times), found, lines[len(self.uuids) :]

    def look_south(self, north: Mapping[UUID, Seen]) -> None:
        """The host has open what the guest has open, with the same bits."""
        devices = self.bench.bus.client.devices(self.bench.bus.name)
        south = {
            str(each.uuid): words({group: bits.active for group, bits in each.groups.items()})
            for each in devices
            if each.is_open and each.uuid in north
        }
        ours = {str(uuid): words(each.active) for uuid, each in north.items() if each.state == OPEN}
        self.cell.compare("open at the host", expected=sorted(ours.items()), seen=sorted(south.items()))


def refused(log: Iterable[str]) -> dict[str, tuple[list[int], list[int]]]:
    """By device, what it had and what it was granted, as the guest's log says it."""
    found = [match.groups() for line in log if (match := REFUSED.search(line))]
    return {uuid: (numbers(had), numbers(now)) for uuid, had, now in found}


def bits_of(bits: Groups) -> list[int]:
    return [bits[group] for group in sorted(bits)]


def numbers(said: str) -> list[int]:
    """`0x4f:0:0x7`, which the kernel says of one group after the other."""
    return [int(word, 16) for word in said.split(":")]
