# SPDX-License-Identifier: MIT
"""What the gate said of masks beside what a real guest did: the record of scenario `parity`, its table.

`.venv/bin/python -m vbuskit.compat.parity RECORD` takes the record of a run into the tree; with or without
one it writes docs/gate-parity.md from what is in the tree.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from vbuskit.base.errors import UsageError
from vbuskit.base.places import ROOT
from vbuskit.compat.bus import groups
from vbuskit.migration import GuestProfile, HostProfile, Verdict, judge
from vbuskit.migration.features import bit_name, each_bit
from vbuskit.migration.profile import SCHEMA, DeviceClass, GuestBus, GuestDevice, HostBus

DATA = ROOT / "compat_tests/data/parity.json"
TABLE = ROOT / "docs/gate-parity.md"
OPEN, FAILED = "open", "failed"

HEAD = """\
# The gate and a real guest

Guest {record.guest}, kernel {record.kernel}, vbuskit {record.release}, {record.date}: {count} times a
device was re-opened by a worker that had nothing of the old one, under the mask of the left column: none,
each bit, and each two. The other columns have what the gate had said before, what became of the device,
and how many of its bits it was not granted. `open`: it goes on with the very bits. `failed`: it stands
still, the guest's log says which bits, and once the mask was lifted the next worker brought it back. In
{other} of them the guest did something else than the gate had said.

`./vbuskit matrix run --guest debian-12 --only parity` tries all of them again. This page is made from
`compat_tests/data/parity.json` by `.venv/bin/python -m vbuskit.compat.parity`; with the record of a run as
its argument it takes that one.
"""

Groups = Mapping[int, int]  # feature bits by group


@dataclass(frozen=True, slots=True)
class Row:
    """One mask: what the gate said before, how the device was afterwards, and what it had been granted."""

    mask: Groups
    verdict: Verdict
    state: str
    granted: Groups

    @property
    def agrees(self) -> bool:
        """Whether the guest went on just when the gate said that it would."""
        return (self.verdict is Verdict.YES) is (self.state == OPEN)


@dataclass(frozen=True, slots=True)
class Case:
    """Devices that were opened alike. `offered`: by the class where nothing is masked; `had`: agreed on."""

    type: str
    klass: str
    offered: Groups
    had: Groups
    rows: list[Row] = field(default_factory=list)

    def without(self, names: Iterable[str]) -> Groups:
        """What it had, less the bits of these names."""
        lost = set(names)
        return {
            group: sum(bit for bit in each_bit(bits) if bit_name(self.type, group, bit) not in lost)
            for group, bits in self.had.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`release` of the host's programs and of the drivers; `date` of the run."""

    release: str
    guest: str
    kernel: str
    date: str
    cases: list[Case]


# Not captured: rows of a record are judged anew by these. What a profile has besides is alike on both sides.
def profiles(device: UUID, case: Case, mask: Groups) -> tuple[GuestProfile, HostProfile]:
    """A guest with that device as it was opened, and its own host with that mask."""
    release, date, version = "0", "2026-11-24T00:00:00Z", 1
    guest = GuestProfile(
        schema=SCHEMA,
        identity=UUID(int=1),
        name="guest",
        release=release,
        captured=date,
        arch="x86_64",
        machine="pc-q35-7.2",
        cpu="qemu64",
        bus=GuestBus(version=version, window=16, vectors=8),
        devices=(
            GuestDevice(
                uuid=device,
                type=case.type,
                version=version,
                klass=case.klass,
                is_open=True,
                active=dict(case.had),
            ),
        ),
    )
    host = HostProfile(
        schema=SCHEMA,
        identity=UUID(int=2),
        name="host",
        release=release,
        captured=date,
        arch="x86_64",
        qemu="7.2",
        libvirt="9.0.0",
        bus=HostBus(version=version),
        machines=("pc-q35-7.2",),
        cpus=("qemu64",),
        classes=(DeviceClass(name=case.klass, type=case.type, version=version, groups=dict(case.offered)),),
        masks={device: dict(mask)},
    )
    return guest, host


def foretold(device: UUID, case: Case, mask: Groups) -> Row:
    """What the gate says, and what must be seen if it is right."""
    judgement = judge(*profiles(device, case, mask))
    state = OPEN if judgement.verdict is Verdict.YES else FAILED
    return Row(mask, judgement.verdict, state, case.without(each.subject for each in judgement.findings))


# ---- As a file ----


def words(bits: Groups) -> str:
    """`0:0x1 3:0x2`, as sysfs has it; groups without bits as well."""
    return " ".join(f"{group}:{value:#x}" for group, value in sorted(bits.items()))


def document(record: Record) -> str:
    """A line a row, so that two runs can be compared by eye."""
    cases = [
        {
            "type": case.type,
            "class": case.klass,
            "offered": words(case.offered),
            "had": words(case.had),
            "rows": {
                words(row.mask): f"{row.verdict} {row.state} {words(row.granted)}" for row in case.rows
            },
        }
        for case in record.cases
    ]
    head = {"release": record.release, "guest": record.guest, "kernel": record.kernel, "date": record.date}
    return json.dumps({**head, "cases": cases}, indent=1) + "\n"


def record_of(text: str) -> Record:
    """The reverse."""
    said: dict[str, Any] = json.loads(text)
    return Record(
        release=said["release"],
        guest=said["guest"],
        kernel=said["kernel"],
        date=said["date"],
        cases=[
            Case(
                case["type"],
                case["class"],
                groups(case["offered"]),
                groups(case["had"]),
                [row_of(mask, row) for mask, row in case["rows"].items()],
            )
            for case in said["cases"]
        ],
    )


def row_of(mask: str, said: str) -> Row:
    verdict, state, granted = said.split(" ", 2)
    return Row(groups(mask), Verdict(verdict), state, groups(granted))


# ---- As a page ----


def page(record: Record) -> str:
    return "\n".join(lines(record)) + "\n"


def lines(record: Record) -> Iterator[str]:
    count = sum(len(case.rows) for case in record.cases)
    other = sum(not row.agrees for case in record.cases for row in case.rows)
    yield HEAD.format(record=record, count=count, other=other).rstrip()
    for kind in dict.fromkeys(case.type for case in record.cases):
        yield from table([case for case in record.cases if case.type == kind])


def table(cases: Sequence[Case]) -> Iterator[str]:
    kind, klass = cases[0].type, cases[0].klass
    yield from ("", f"## {kind} ({klass})", "")
    for letter, case in zip("ABC", cases, strict=False):
        idle = named(kind, {group: bits & ~case.had.get(group, 0) for group, bits in case.offered.items()})
        yield f"- {letter}: uses {named(kind, case.had)}; does not use {idle}"
    yield from ("", "| masked |" + "".join(f" {each} |" for each in "ABC"[: len(cases)]))
    yield "|---|" + "---|" * len(cases)
    for rows in zip(*(case.rows for case in cases), strict=True):
        told = (outcome(case, row) for case, row in zip(cases, rows, strict=True))
        yield f"| {named(kind, rows[0].mask)} | " + " | ".join(told) + " |"


def outcome(case: Case, row: Row) -> str:
    lost = sum((bits & ~row.granted.get(group, 0)).bit_count() for group, bits in case.had.items())
    return f"{row.verdict}: {row.state}" + (f", {lost} lost" if lost else "")


def named(kind: str, bits: Groups) -> str:
    """`sg.csum, config.mtu`"""
    names = [
        bit_name(kind, group, bit).removeprefix(f"{kind} ")
        for group, value in sorted(bits.items())
        for bit in each_bit(value)
    ]
    return ", ".join(names) or "nothing"


def main(arguments: Sequence[str]) -> None:
    if len(arguments) > 1:
        raise UsageError(f"{len(arguments)} records", hint="one, or none")
    for name in arguments:
        record_of(text := Path(name).read_text())
        DATA.write_text(text)
    TABLE.write_text(page(record_of(DATA.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
