# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import Callable

import pytest

from vbuskit.compat.cells import Blame, Cell, Outcome
from vbuskit.compat.retry import retried

DISK = (Outcome.RED, Blame.INFRASTRUCTURE)
GREEN = (Outcome.GREEN, None)


def attempts(*results: tuple[Outcome, Blame | None]) -> Callable[[], Cell]:
    left = iter(results)

    def attempt() -> Cell:
        outcome, blame = next(left)
        return Cell("kill", "x", "guest", outcome, seconds=2.0, reason=f"{blame}", blame=blame)

    return attempt


@pytest.mark.parametrize("retries", [0, -1])
def test_nothing_is_tried_again_unless_it_is_asked_for(retries: int) -> None:
    cell = retried(attempts(DISK, GREEN), retries)
    assert (cell.outcome, cell.retries) == (Outcome.RED, [])


def test_what_was_tried_before_is_shown_beside_what_came_of_it() -> None:
    cell = retried(attempts(DISK, DISK, GREEN), retries=3)
    assert cell.outcome is Outcome.GREEN
    shown = [(each.outcome, each.seconds, each.reason, each.blame) for each in cell.retries]
    assert shown == [(*DISK[:1], 2.0, "infrastructure", DISK[1])] * 2


def test_it_is_not_tried_more_often_than_was_asked_for() -> None:
    cell = retried(attempts(DISK, DISK, DISK, GREEN), retries=2)
    assert (cell.outcome, len(cell.retries)) == (Outcome.RED, 2)


@pytest.mark.parametrize("blame", [Blame.PRODUCT, Blame.IMAGE, Blame.TIMEOUT, None])
def test_only_infrastructure_is_worth_another_try(blame: Blame | None) -> None:
    cell = retried(attempts((Outcome.RED, blame), GREEN), retries=9)
    assert (cell.outcome, cell.retries) == (Outcome.RED, [])


def test_a_defect_that_shows_after_a_retry_ends_it() -> None:
    cell = retried(attempts(DISK, (Outcome.RED, Blame.PRODUCT), GREEN), retries=9)
    assert (cell.blame, len(cell.retries)) == (Blame.PRODUCT, 1)
