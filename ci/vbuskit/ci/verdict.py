# SPDX-License-Identifier: MIT
"""One verdict over all cells, and the word that each cell is shown with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vbuskit.base.errors import Exit
from vbuskit.compat.cells import Cell, Outcome

INTERRUPTED = "interrupted"
INFORMING = "informing"
QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`line` is a whole sentence; green only when something was tried and nothing failed."""

    outcome: Outcome
    line: str

    @property
    def exit_code(self) -> Exit:
        return {
            Outcome.GREEN: Exit.OK,
            Outcome.RED: Exit.FAILED,
            Outcome.SKIPPED: Exit.SKIPPED,
        }[self.outcome]


def judge(
    cells: Sequence[Cell], informing: Collection[str] = (), quarantined: Collection[str] = ()
) -> Verdict:
    """`informing` guests and `quarantined` cells, by their ids, are counted apart and make nothing red."""
    told = Counter(standing(cell, informing, quarantined) for cell in cells if cell.outcome is Outcome.RED)
    aside = [cell for cell in cells if standing(cell, informing, quarantined)]
    cells = [cell for cell in cells if not standing(cell, informing, quarantined)]
    counts = Counter(cell.outcome for cell in cells)
    green, red, skipped = counts[Outcome.GREEN], counts[Outcome.RED], counts[Outcome.SKIPPED]
    rest = f", {skipped} skipped" if skipped else ""
    rest += f"; {told[INFORMING]} of informing guests did not hold" if told[INFORMING] else ""
    rest += f"; {told[QUARANTINED]} in quarantine did not hold" if told[QUARANTINED] else ""
    if red:
        failed = f"{red} of {len(cells)} cells did not hold"
        cut = "; the run was interrupted" if any(word(cell) == INTERRUPTED for cell in cells) else ""
        return Verdict(Outcome.RED, f"{failed}{rest}{cut}.")
    if not green:
        held = sum(cell.outcome is Outcome.GREEN for cell in aside)
        counted = f"that counts was tried; {held} of {len(aside)} other cells hold" if aside else "was tried"
        return Verdict(Outcome.SKIPPED, f"Nothing {counted}{rest}.")
    count = f"{green} of {len(cells)}" if skipped else ("The only" if green == 1 else f"All {green}")
    return Verdict(Outcome.GREEN, f"{count} {'cell holds' if green == 1 else 'cells hold'}{rest}.")


def standing(cell: Cell, informing: Collection[str], quarantined: Collection[str]) -> str:
    """Why it makes nothing red, in a word; or nothing."""
    if cell.guest in informing:
        return INFORMING
    return QUARANTINED if cell_id(cell) in quarantined else ""


def word(cell: Cell) -> str:
    """Green, red, skipped; a cell that Ctrl-C cut short says so instead of red."""
    if cell.outcome is Outcome.RED and cell.reason == INTERRUPTED:
        return INTERRUPTED
    return cell.outcome.value


def cell_id(cell: Cell) -> str:
    """`debian-12/kill`, and where it lies off the usual axes `debian-12/kill[drivers=0.1]`."""
    return f"{cell.guest}/{cell.name}{axes(cell)}"


def axes(cell: Cell) -> str:
    """`[drivers=0.1]`, or nothing."""
    told = ",".join(f"{key}={value}" for key, value in sorted(cell.axes.items()))
    return f"[{told}]" if told else ""


def by_guest(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Guests in the order in which they first appear, each with its cells in their order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.guest, []).append(cell)
    return groups
