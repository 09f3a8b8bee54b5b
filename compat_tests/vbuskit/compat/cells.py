# SPDX-License-Identifier: MIT
"""A cell: one thing that was tried on one guest, what was compared, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from vbuskit.base.errors import VbuskitError


class Outcome(StrEnum):
    GREEN = "green"
    RED = "red"
    SKIPPED = "skipped"


class Blame(StrEnum):
    """What a red cell is put down to, by evidence."""

    PRODUCT = "product"
    IMAGE = "guest image"
    INFRASTRUCTURE = "infrastructure"
    TIMEOUT = "timeout"


class CellRed(VbuskitError):
    """A comparison did not hold; what was expected and seen is in the cell."""


class CellSkipped(VbuskitError):
    """It cannot be tried on this guest; the text names what is missing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One look: what was looked at, what it should have been, what it was."""

    what: str
    expected: str
    seen: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Retry:
    """An earlier attempt at a cell that was tried again; it is shown beside what came of the last one."""

    outcome: Outcome
    seconds: float
    reason: str
    blame: Blame | None = None


@dataclass(slots=True)
class Cell:
    """What the report shows: `seconds` of wall time, `reason` in one line when not green, paths of logs.

    axes:     where it lies beside its guest, such as {"drivers": "0.1"}; usual values are left out
    blame:    of a red one, with `evidence`, a line each
    again:    the command that tries it again
    retries:  earlier attempts, oldest first
    """

    name: str
    title: str
    guest: str
    outcome: Outcome = Outcome.SKIPPED
    seconds: float = 0.0
    reason: str = ""
    comparisons: list[Comparison] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)
    blame: Blame | None = None
    evidence: list[str] = field(default_factory=list)
    again: str = ""
    retries: list[Retry] = field(default_factory=list)

    def compare(self, what: str, *, expected: object, seen: object) -> None:
        """Note the comparison and go on only when it holds."""
        self.check(what, expected=str(expected), seen=str(seen), holds=expected == seen)

    def check(self, what: str, *, expected: str, seen: object, holds: bool) -> None:
        """Like `compare`, for what is not an equality: `expected` says in words what must hold."""
        self.comparisons.append(Comparison(what, expected, str(seen), holds))
        if not holds:
            raise CellRed(f"{what}: expected {expected}, saw {seen}")


@contextmanager
def judged(cell: Cell) -> Iterator[Cell]:
    """Run a cell's body; an expected failure makes it red, a skip leaves it so; neither is passed on."""
    start = time.monotonic()
    try:
        yield cell
        if not cell.comparisons:
            raise CellRed("nothing was compared", hint="a cell that compares nothing proves nothing")
        cell.outcome = Outcome.GREEN
    except CellSkipped as error:
        cell.outcome, cell.reason = Outcome.SKIPPED, str(error)
    except VbuskitError as error:
        cell.outcome = Outcome.RED
        cell.reason = f"{error} ({error.hint})" if error.hint else str(error)
    except KeyboardInterrupt:
        cell.outcome = Outcome.RED
        cell.reason = "interrupted"
        raise
    except BaseException as error:
        cell.outcome = Outcome.RED
        cell.reason = f"a defect of vbuskit itself: {type(error).__name__}: {error}"
        raise
    finally:
        cell.seconds = time.monotonic() - start
