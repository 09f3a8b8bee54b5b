# SPDX-License-Identifier: MIT
"""What a real guest did under each mask, as it is recorded, beside what the gate says of it today."""

from __future__ import annotations

from itertools import chain
from math import comb
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest
from msgspec.structs import replace

from vbuskit.compat import parity
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellRed
from vbuskit.compat.parity import (
    DATA,
    TABLE,
    Case,
    Row,
    document,
    foretold,
    page,
    record_of,
)
from vbuskit.compat.scenarios.parity import LESS, Trial, masks
from vbuskit.migration import GuestProfile, HostProfile, Judgement, Verdict, judge

RECORD = record_of(DATA.read_text())
CARD = UUID(int=7)
ALL = Case("venet", "venet-tap", {0: 0x4F, 3: 0x7}, {0: 0x4F, 3: 0x7})


@pytest.mark.parametrize("case", RECORD.cases, ids=lambda case: f"{case.type}-{parity.words(case.had)}")
def test_the_gate_says_today_what_the_guest_did_then(case: Case) -> None:
    for row in case.rows:
        assert foretold(CARD, case, row.mask) == row, row.mask


@pytest.mark.parametrize("case", RECORD.cases, ids=lambda case: f"{case.type}-{parity.words(case.had)}")
def test_none_one_and_two_bits_of_all_that_there_are_were_tried(case: Case) -> None:
    bits = sum(value.bit_count() for value in case.offered.values())
    assert len(case.rows) == 1 + bits + comb(bits, 2)
    assert [row.mask for row in case.rows] == list(masks(case))


def test_the_record_has_devices_that_use_all_and_such_as_do_not_and_both_verdicts_of_each() -> None:
    assert [case.type for case in RECORD.cases] == [kind for kind, _ in LESS]
    for case in RECORD.cases:
        assert {row.verdict for row in case.rows} == {Verdict.YES, Verdict.IF}
    assert all(row.agrees for row in chain.from_iterable(case.rows for case in RECORD.cases))


def test_the_page_is_what_is_made_of_the_record() -> None:
    assert TABLE.read_text() == page(RECORD)
    assert DATA.read_text() == document(RECORD)


def test_a_judge_that_misses_a_mask_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(guest: GuestProfile, host: HostProfile) -> Judgement:
        (mask,) = host.masks.values()
        return judge(
            guest, replace(host, masks={CARD: {group: mask[group] for group in mask if group != 3}})
        )

    right = foretold(CARD, ALL, {3: 0x1})
    monkeypatch.setattr(parity, "judge", blind)
    assert (right.state, foretold(CARD, ALL, {3: 0x1}).state) == ("failed", "open")


SAYS = "the host no longer offers what is in use"


class Peer:
    """A guest and a host with one card, which has what `keeps` leaves of the bits under the mask."""

    def __init__(self, keeps: dict[int, int], *, says: bool = True) -> None:
        self.name, self.client = "bus", self
        self.keeps, self.says = keeps, says
        self.masked: dict[int, int] = {}
        self.times, self.log = 1, ""

    def mask(self, bus: str, group: int, bits: int, *, uuid: UUID) -> None:
        self.masked = {number: value for number, value in {**self.masked, group: bits}.items() if value}

    def renew(self) -> None:
        self.times += 1
        if self.masked and self.state == "failed" and self.says:
            left = ":".join(f"{value:#x}" for value in self.active.values())
            self.log = f"[{self.times}] venet {CARD}: {SAYS}: 0x4f:0x7, now {left}"

    @property
    def active(self) -> dict[int, int]:
        return self.keeps if self.masked else {**ALL.had}

    @property
    def state(self) -> str:
        return "open" if self.active == ALL.had else "failed"

    def devices(self, bus: str) -> list[SimpleNamespace]:
        bits = {group: SimpleNamespace(active=value) for group, value in self.active.items()}
        return [SimpleNamespace(uuid=CARD, is_open=self.state == "open", groups=bits)]

    def __call__(self, command: str) -> str:
        return f"{self.times}\n{CARD} {self.state} {parity.words(self.active)}\n{self.log}"


def trial(peer: Peer) -> Trial:
    bench = cast(Bench, SimpleNamespace(guest=peer, bus=peer))
    return Trial(
        bench, Cell("parity", "x", "guest"), Case(ALL.type, ALL.klass, ALL.offered, ALL.had), [CARD]
    )


def test_a_guest_that_does_what_the_gate_says_is_recorded() -> None:
    tried = trial(Peer({0: 0x4F, 3: 0x5}))
    tried.of({CARD: {3: 0x2}})
    assert tried.case.rows == [Row({3: 0x2}, Verdict.IF, "failed", {0: 0x4F, 3: 0x5})]


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Peer({**ALL.had}), "the gate: yes-if: expected failed, 0:0x4f 3:0x5, saw open"),
        (Peer({0: 0x4D, 3: 0x5}), "expected failed, 0:0x4f 3:0x5, saw failed, 0:0x4d 3:0x5"),
        (Peer({0: 0x4F, 3: 0x5}, says=False), "what the guest's log says is missing"),
    ],
)
def test_a_guest_that_does_something_else_is_red_and_recorded(peer: Peer, reason: str) -> None:
    tried = trial(peer)
    with pytest.raises(CellRed, match=reason):
        tried.of({CARD: {3: 0x2}})
    assert tried.case.rows[0].granted == peer.keeps
