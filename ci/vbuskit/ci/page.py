# SPDX-License-Identifier: MIT
"""`out/report.html`: one page for people, with one script of its own, and no request to anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from vbuskit.ci import results
from vbuskit.ci.compare import MOST_RUNS, Earlier, compare
from vbuskit.ci.facts import Guest, RunFacts
from vbuskit.ci.history import Past
from vbuskit.ci.plain import Room, bounded, plain
from vbuskit.ci.verdict import INFORMING, cell_id, judge, standing, word
from vbuskit.compat.cells import Cell, Outcome

LETTERS = {"green": "G", "red": "R", "skipped": "S", "interrupted": "I"}
BAR, BASE = 5, 12  # of the strip: width of a bar with its gap, and where green ones stand on


@dataclass(frozen=True, slots=True)
class Link:
    """A file, where it lies seen from the report, and for a log that is shown its last lines."""

    name: str
    href: str
    there: bool
    tail: str = ""

    @classmethod
    def of(cls, out: Path, path: Path, end: str = "") -> Link:
        # "./" so that a name with a colon is never taken for a scheme.
        href = quote(f"./{results.relative(out, path)}", errors="replace")
        return cls(path.name, href, path.is_file(), end)


@dataclass(frozen=True, slots=True)
class Bars:
    """How a cell fared before, oldest first: green stands up, red hangs down, skipped is a dot."""

    paths: dict[str, str]
    width: int
    said: str

    @classmethod
    def of(cls, past: Sequence[Past]) -> Bars:
        longest = max((each.seconds for each in past if each.outcome is Outcome.GREEN), default=0.0)
        paths: dict[str, str] = {}
        for place, each in enumerate(past):
            up = 2 + round(9 * each.seconds / longest) if longest else 2
            stroke = {Outcome.GREEN: -up, Outcome.RED: 6, Outcome.SKIPPED: -1}[each.outcome]
            paths[each.outcome] = paths.get(each.outcome, "") + f"M{BAR * place + 2} {BASE}v{stroke}"
        counts = Counter(each.outcome for each in past)
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        return cls(paths, BAR * len(past), f"earlier: {said}")


@dataclass(frozen=True, slots=True)
class Row:
    """A cell as the page shows it; `number` is its place among the cells of the run."""

    number: int
    cell: Cell
    logs: list[Link]
    bars: Bars | None
    standing: str
    quarantine: str

    @property
    def id(self) -> str:
        return cell_id(self.cell)

    @property
    def word(self) -> str:
        return word(self.cell)

    @property
    def letter(self) -> str:
        return LETTERS[self.word]

    @property
    def lane(self) -> str:
        """Its row in the matrix: the guest, and where that is off the usual axes."""
        axes = ", ".join(f"{key} {value}" for key, value in sorted(self.cell.axes.items()))
        return f"{self.cell.guest}, {axes}" if axes else self.cell.guest

    @property
    def attempt(self) -> int:
        return len(self.cell.retries) + 1

    @property
    def is_open(self) -> bool:
        return self.cell.outcome is Outcome.RED

    @property
    def said(self) -> str:
        """The whole of what its letter in the matrix stands for."""
        parts = [f"{self.id}: {self.word}", self.cell.blame or "", self.standing]
        parts += [f"attempt {self.attempt}"] if self.attempt > 1 else []
        return ", ".join(each for each in parts if each)

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


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the matrix, and a section of the list."""

    name: str
    rows: list[Row]

    @property
    def informing(self) -> bool:
        return self.rows[0].standing == INFORMING

    @property
    def spots(self) -> dict[str, Row]:
        return {row.cell.name: row for row in self.rows}


def html(out: Path, facts: RunFacts, cells: Sequence[Cell], past: Sequence[Earlier] = ()) -> str:
    rows = list(rows_of(out, facts, cells, past))
    script = files("vbuskit.ci").joinpath("templates", "report.js").read_text()
    compared = [compare(facts, cells, each) for each in past[:MOST_RUNS]]
    return page("report.html.j2").render(
        facts=facts,
        verdict=judge(cells, facts.informing, facts.quarantine),
        counts=Counter(row.word for row in rows),
        blames=sorted({row.cell.blame for row in rows if row.cell.blame}),
        again=sum(row.attempt > 1 for row in rows),
        rows=rows,
        lanes=lanes_of(rows),
        names=list(dict.fromkeys(cell.name for cell in cells)),
        letters=LETTERS,
        compared=compared,
        past=embedded([asdict(each) for each in compared]),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        artifacts=[(made, Link.of(out, made.path)) for made in facts.artifacts],
        tried=facts.guests or (Guest(name=""),),
        longest=max((step.seconds for step in facts.steps), default=0.0),
        total=sum(step.seconds for step in facts.steps),
    )


def rows_of(out: Path, facts: RunFacts, cells: Sequence[Cell], past: Sequence[Earlier]) -> Iterator[Row]:
    room = Room()
    for number, cell in enumerate(cells):
        is_red = cell.outcome is Outcome.RED
        logs = [Link.of(out, log, (room.tail(log) if is_red else None) or "") for log in cell.logs]
        name = cell_id(cell)
        found = [each.cells[name] for each in reversed(past) if each.remembered and name in each.cells]
        bars = Bars.of(found) if found else None
        aside = standing(cell, facts.informing, facts.quarantine)
        yield Row(number, cell, logs, bars, aside, facts.quarantine.get(name, ""))


def lanes_of(rows: Sequence[Row]) -> list[Lane]:
    """In the order in which they first appear; those of informing guests last."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.lane, []).append(row)
    return sorted((Lane(name, own) for name, own in groups.items()), key=lambda lane: lane.informing)


def embedded(data: object) -> Markup:
    """JSON that nothing in it can end: no `<`, no `&`, only ASCII."""
    text = json.dumps(data, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def page(name: str) -> Template:
    shelf = Environment(
        loader=PackageLoader("vbuskit.ci"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    shelf.filters.update(bounded=bounded, duration=duration, size=size)
    return shelf.get_template(name)


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
