# SPDX-License-Identifier: MIT
"""This run beside earlier ones: what became red or green, what takes longer; and each cell through time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from vbuskit.ci import results
from vbuskit.ci.facts import RunFacts
from vbuskit.ci.history import History, Past
from vbuskit.ci.verdict import INTERRUPTED, cell_id, word
from vbuskit.compat.cells import Cell, Outcome

MOST_RUNS = 8  # that a report can be compared with
LOOK_BACK = 60  # runs of the history that are looked at; many are of other guests
STRIP = 12  # earlier times that a cell is shown with
SLOWER, AT_LEAST = 1.25, 1.0  # times what it took, and seconds more: less than that is noise


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier run, newest first in every list; `cells`: id to what it came to.

    remembered: it is of the history, and no folder's that somebody named
    """

    label: str
    accelerator: str
    cells: Mapping[str, Past]
    remembered: bool = True


@dataclass(frozen=True, slots=True)
class Against:
    """What differs from one earlier run: numbers of this run's cells, in their order.

    slower: with the factor, both times green and under the same accelerator
    new:    not tried then; `gone` counts what was tried only then
    """

    label: str
    red: list[int] = field(default_factory=list)
    green: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    slower: list[tuple[int, float]] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    gone: int = 0

    @property
    def line(self) -> str:
        """2 became red, 1 became green, 3 slower."""
        counts: dict[str, Sequence[object]] = {
            "became red": self.red,
            "became green": self.green,
            "no longer tried": self.skipped,
            "slower": self.slower,
            "new": self.new,
        }
        said = [f"{len(found)} {what}" for what, found in counts.items() if found]
        said += [f"{self.gone} not in this run"] if self.gone else []
        return ", ".join(said) or "nothing differs"


def compare(facts: RunFacts, cells: Sequence[Cell], earlier: Earlier) -> Against:
    ids = [cell_id(cell) for cell in cells]
    against = Against(earlier.label, gone=len(earlier.cells.keys() - set(ids)))
    for number, (cell, name) in enumerate(zip(cells, ids, strict=True)):
        before = earlier.cells.get(name)
        if word(cell) == INTERRUPTED:
            continue
        if before is None:
            against.new.append(number)
        elif cell.outcome is Outcome.RED and before.outcome is not Outcome.RED:
            against.red.append(number)
        elif cell.outcome is Outcome.GREEN and before.outcome is Outcome.RED:
            against.green.append(number)
        elif cell.outcome is Outcome.SKIPPED and before.outcome is not Outcome.SKIPPED:
            against.skipped.append(number)
        elif cell.outcome is before.outcome is Outcome.GREEN and facts.accelerator == earlier.accelerator:
            times = cell.seconds / max(before.seconds, 0.001)
            if times >= SLOWER and cell.seconds - before.seconds >= AT_LEAST:
                against.slower.append((number, round(times, 2)))
    return against


def recall(history: History, facts: RunFacts, cells: Sequence[Cell]) -> list[Earlier]:
    """Runs before this one that tried a cell of it; none from the history of another machine."""
    runs = history.runs()
    here = next((place for place, run in enumerate(runs) if run.started == facts.started), len(runs))
    ids = {cell_id(cell) for cell in cells}
    looked = (
        Earlier(label(run.started, run.version, run.commit, run.accelerator), run.accelerator, found)
        for run in runs[here + 1 : here + 1 + LOOK_BACK]
        if ids & (found := history.cells_of(run)).keys()
    )
    return list(islice(looked, STRIP))


def of_folder(out: Path) -> Earlier:
    """Of the results that lie in another folder, without cells that were cut short, as in the history."""
    facts, cells = results.read(out)
    found = {
        cell_id(each): Past(each.outcome, each.seconds, len(each.retries))
        for each in cells
        if word(each) != INTERRUPTED
    }
    return Earlier(label_of(facts), facts.accelerator, found, remembered=False)


def label_of(facts: RunFacts) -> str:
    return label(facts.started, facts.version, facts.commit, facts.accelerator)


def label(started: datetime, version: str, commit: str, accelerator: str) -> str:
    """2026-11-23 14:05 UTC, 0.2.0, 679d650f, TCG."""
    said = [started.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"), version, commit[:8], accelerator.upper()]
    return ", ".join(each for each in said if each)
