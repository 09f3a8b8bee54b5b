# SPDX-License-Identifier: MIT
"""`out/summary.md`: what a CI server shows of a run; GitHub and GitLab read the same Markdown.

Text that comes from guests is put into code spans: no markup, no mention, no link is read there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from vbuskit.ci.compare import Earlier, compare
from vbuskit.ci.facts import RunFacts
from vbuskit.ci.page import duration
from vbuskit.ci.plain import bounded
from vbuskit.ci.verdict import by_guest, cell_id, judge, standing, word
from vbuskit.compat.cells import Cell, Outcome

MOST = 50  # of each list
LONGEST = 300  # characters of a reason
MARKS = {Outcome.GREEN: "✅", Outcome.RED: "❌", Outcome.SKIPPED: "⚪"}


def markdown(facts: RunFacts, cells: Sequence[Cell], past: Sequence[Earlier] = ()) -> str:
    verdict = judge(cells, facts.informing, facts.quarantine)
    reds = [(aside_of(facts, cell), cell) for cell in cells if cell.outcome is Outcome.RED]
    reds.sort(key=lambda each: bool(each[0]))
    parts = [
        f"## {MARKS[verdict.outcome]} vbuskit {code(facts.version)}: {verdict.line}",
        told_of(facts),
        table(facts, cells),
        listed("Red", [red(*each) for each in reds]),
        listed("Tried more than once", [tries(cell) for cell in cells if cell.retries]),
        *(changes(facts, cells, each) for each in past[:1]),
        "All of it: `report.html`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def told_of(facts: RunFacts) -> str:
    dirty = " with local changes" if facts.dirty else ""
    said = [f"commit {code(facts.commit[:12])}{dirty}"] if facts.commit else []
    said += [f"with the planted defect {code(facts.defect)}"] if facts.defect else []
    said += [f"under {code(facts.accelerator.upper())}"] if facts.accelerator else []
    said += [duration(sum(step.seconds for step in facts.steps))] if facts.steps else []
    return ", ".join(said)


def table(facts: RunFacts, cells: Sequence[Cell]) -> str:
    groups = by_guest(cells)
    if not groups:
        return ""
    lines = ["| guest | green | red | skipped |", "|---|--:|--:|--:|"]
    for guest, group in list(groups.items())[:MOST]:
        counts = Counter(cell.outcome for cell in group)
        informing = " (informing)" if guest in facts.informing else ""
        numbers = " | ".join(str(counts[each]) for each in (Outcome.GREEN, Outcome.RED, Outcome.SKIPPED))
        # A bar ends a column, in a code span, too.
        lines.append(f"| {code(guest).replace('|', '¦')}{informing} | {numbers} |")
    return "\n".join(lines) + more(len(groups))


def aside_of(facts: RunFacts, cell: Cell) -> str:
    return standing(cell, facts.informing, facts.quarantine)


def red(aside: str, cell: Cell) -> str:
    aside = f", {aside}" if aside else ""
    blame = f", put down to {cell.blame}" if cell.blame else ""
    again = f"\n  - again: {code(cell.again)}" if cell.again else ""
    return f"{code(cell_id(cell))} {word(cell)}{blame}{aside}: {code(cell.reason)}{again}"


def tries(cell: Cell) -> str:
    earlier = ", then ".join(f"{each.outcome} ({code(each.reason)})" for each in cell.retries[-3:])
    return f"{code(cell_id(cell))}: {earlier}, then {cell.outcome}"


def changes(facts: RunFacts, cells: Sequence[Cell], past: Earlier) -> str:
    against = compare(facts, cells, past)
    kinds = {"became red": against.red, "became green": against.green, "no longer tried": against.skipped}
    found = [
        f"{code(cell_id(cells[number]))} {kind}" for kind, numbers in kinds.items() for number in numbers
    ]
    found += [
        f"{code(cell_id(cells[number]))} takes {times:.1f} times as long" for number, times in against.slower
    ]
    title = f"Against {code(against.label)}"
    return listed(title, found) or f"### {title}\n\n{against.line}"


def listed(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return "\n".join([f"### {title}", "", *(f"- {line}" for line in lines[:MOST])]) + more(len(lines))


def more(count: int) -> str:
    return f"\n\nand {count - MOST} more" if count > MOST else ""


def code(text: str) -> str:
    """A code span that its text cannot leave: one line, between more backticks than it has in a row."""
    line = " ".join(bounded(text, LONGEST).split()) or "?"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
