# SPDX-License-Identifier: MIT
"""What a run leaves for people and for CI: `out/report.html`, `out/junit.xml`, `out/results.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from vbuskit.base import artifact
from vbuskit.base.places import Places
from vbuskit.ci import results
from vbuskit.ci.facts import Guest, RunFacts
from vbuskit.ci.junit import junit
from vbuskit.ci.plain import bounded, plain, tail
from vbuskit.ci.verdict import by_guest, judge, word
from vbuskit.compat.cells import Cell, Outcome


def write_report(places: Places, facts: RunFacts, cells: Sequence[Cell]) -> None:
    """Each of the three files is whole or not there; results.json first, the others come from it."""
    artifact.write(places.out / "results.json", results.encode(places.out, facts, cells))
    write_views(places.out, facts, cells)


def write_views(out: Path, facts: RunFacts, cells: Sequence[Cell]) -> None:
    artifact.write(out / "junit.xml", junit(facts, cells))
    artifact.write(out / "report.html", html(out, facts, cells))


@dataclass(frozen=True, slots=True)
class Link:
    """A file, where it lies seen from the report, and for a log its last lines."""

    name: str
    href: str
    tail: str | None

    @classmethod
    def of(cls, out: Path, path: Path, end: str | None) -> Link:
        # "./" so that a name with a colon is never taken for a scheme.
        return cls(path.name, quote(f"./{results.relative(out, path)}", errors="replace"), end)


@dataclass(frozen=True, slots=True)
class Row:
    """A cell as the page shows it."""

    cell: Cell
    word: str
    logs: list[Link]

    @classmethod
    def of(cls, out: Path, cell: Cell) -> Row:
        return cls(cell, word(cell), [Link.of(out, log, tail(log)) for log in cell.logs])

    @property
    def is_open(self) -> bool:
        return self.cell.outcome is Outcome.RED

    @property
    def summary(self) -> str:
        """The line below the title: why not, or how much was compared."""
        looks = len(self.cell.comparisons)
        count = "1 comparison" if looks == 1 else f"{looks} comparisons"
        return {
            "green": f"{count} {'holds' if looks == 1 else 'hold'}",
            "interrupted": f"cut short after {count}",
            "red": self.cell.reason,
            "skipped": self.cell.reason or "not tried",
        }[self.word]


def html(out: Path, facts: RunFacts, cells: Sequence[Cell]) -> str:
    return page().render(
        facts=facts,
        verdict=judge(cells, facts.informing),
        counts=Counter(word(cell) for cell in cells),
        guests={name: [Row.of(out, cell) for cell in group] for name, group in by_guest(cells).items()},
        artifacts=[(made, Link.of(out, made.path, None)) for made in facts.artifacts],
        tried=facts.guests or (Guest(name=""),),
        longest=max((step.seconds for step in facts.steps), default=0.0),
        total=sum(step.seconds for step in facts.steps),
    )


def page() -> Template:
    shelf = Environment(
        loader=PackageLoader("vbuskit.ci"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    shelf.filters.update(bounded=bounded, duration=duration, size=size)
    return shelf.get_template("report.html.j2")


def duration(seconds: float) -> str:
    """0.4 s, 12.3 s, 3 min 05 s."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def size(count: int) -> str:
    """12 B, 3.4 KiB, 5.6 MiB."""
    for power, unit in ((2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count} B"
