# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from vbuskit.base.errors import Blocked
from vbuskit.compat.cells import Cell, CellSkipped, Comparison, Outcome, judged


def cell() -> Cell:
    return Cell("boot", "The guest boots", "debian-12")


def test_a_cell_is_green_when_what_was_compared_holds() -> None:
    with judged(cell()) as boot:
        boot.compare("epoch", expected=2, seen=2)
        boot.check("replays", expected="more than 0", seen=118, holds=True)
    assert (boot.outcome, boot.reason) == (Outcome.GREEN, "")
    assert boot.comparisons[1] == Comparison("replays", "more than 0", "118", holds=True)
    assert boot.seconds > 0


def test_a_cell_that_compared_nothing_is_red() -> None:
    with judged(cell()) as boot:
        pass
    assert boot.outcome is Outcome.RED
    assert "nothing was compared" in boot.reason


def test_a_mismatch_makes_a_cell_red_and_ends_it() -> None:
    reached = False
    with judged(cell()) as boot:
        boot.compare("epoch", expected=2, seen=1)
        reached = True
    assert not reached
    assert (boot.outcome, boot.reason) == (Outcome.RED, "epoch: expected 2, saw 1")
    assert boot.comparisons == [Comparison("epoch", "2", "1", holds=False)]


def test_an_expected_failure_is_the_reason_with_its_hint() -> None:
    def start_guest() -> None:
        raise Blocked("qemu: not installed", hint="install it")

    with judged(cell()) as boot:
        start_guest()
    assert (boot.outcome, boot.reason) == (Outcome.RED, "qemu: not installed (install it)")


def test_an_interruption_is_noted_and_passed_on() -> None:
    boot = cell()
    with pytest.raises(KeyboardInterrupt), judged(boot):
        boot.compare("epoch", expected=2, seen=2)
        raise KeyboardInterrupt
    assert (boot.outcome, boot.reason) == (Outcome.RED, "interrupted")
    assert boot.seconds > 0


def test_a_cell_that_was_never_tried_is_skipped() -> None:
    assert cell().outcome is Outcome.SKIPPED


def test_a_cell_that_its_guest_cannot_try_is_skipped_and_names_what_is_missing() -> None:
    def look() -> None:
        raise CellSkipped("needs x")

    with judged(cell()) as boot:
        boot.compare("epoch", expected=2, seen=2)
        look()
    assert (boot.outcome, boot.reason) == (Outcome.SKIPPED, "needs x")
