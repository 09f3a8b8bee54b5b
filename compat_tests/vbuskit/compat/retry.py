# SPDX-License-Identifier: MIT
"""Trying a red cell again: only when asked, only for infrastructure, and never in silence."""

from __future__ import annotations

from collections.abc import Callable

from vbuskit.compat.cells import Blame, Cell, Outcome, Retry


def retried(attempt: Callable[[], Cell], retries: int = 0) -> Cell:
    """The last attempt's cell; what came of those before it is in its `retries`, oldest first.

    A product, an image or a time that ran out is not tried again: a green one would hide a defect that comes
    and goes, which is the kind that users meet.
    """
    earlier: list[Retry] = []
    while True:
        cell = attempt()
        cell.retries = [*earlier]
        if (
            cell.outcome is not Outcome.RED
            or cell.blame is not Blame.INFRASTRUCTURE
            or len(earlier) >= retries
        ):
            return cell
        earlier.append(Retry(cell.outcome, cell.seconds, cell.reason, cell.blame))
