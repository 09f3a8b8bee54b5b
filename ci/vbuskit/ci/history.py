# SPDX-License-Identifier: MIT
"""What earlier runs found, in one SQLite file: how long a cell takes, and how it fared.

It is a help and never a condition: whatever is wrong with the file is said in one line, and the run goes on.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TypeVar

from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.places import Places, make
from vbuskit.ci.facts import RunFacts
from vbuskit.ci.verdict import INTERRUPTED, cell_id, word
from vbuskit.compat.cells import Cell, Outcome

T = TypeVar("T")

SCHEMA = 1
# Older runs go first when there are more; a row takes some 50 bytes, so the file stays below 10 MB.
MOST_RUNS = 500
MOST_ROWS = 150_000
RECENT = 5  # green ones that the expected time is the median of
PATIENCE = 10.0  # seconds that a writer waits for another one

TABLES = """
CREATE TABLE run (
  id INTEGER PRIMARY KEY, started TEXT NOT NULL UNIQUE CHECK (datetime(started) IS NOT NULL),
  version TEXT NOT NULL, revision TEXT NOT NULL, accelerator TEXT NOT NULL, machine TEXT NOT NULL
) STRICT;
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE cell (
  run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name INTEGER NOT NULL REFERENCES name,
  outcome TEXT NOT NULL CHECK (outcome IN ('green', 'red', 'skipped')), seconds REAL NOT NULL,
  retries INTEGER NOT NULL, blame TEXT NOT NULL, PRIMARY KEY (name, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX cell_of_run ON cell (run);
"""
HINT = "the run itself is not touched by that; its results are in results.json"
DAMAGE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: f"another run has been writing to it for {PATIENCE:g} s",
    sqlite3.SQLITE_READONLY: "it may not be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
}


@dataclass(frozen=True, slots=True)
class Past:
    """What one cell came to in one run."""

    outcome: Outcome
    seconds: float
    retries: int = 0
    blame: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """An earlier run; `number` grows."""

    number: int
    started: datetime
    version: str
    commit: str
    accelerator: str


def file_of(places: Places) -> Path:
    return places.state / "history.sqlite"


class History:
    """Opened for each question anew, so that several runs may use it at once.

    Blocked when it cannot be read or written, Refused when a newer vbuskit wrote it. A file that is damaged
    is moved aside by the next `add`; the questions that only read take it for an empty one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, facts: RunFacts, cells: Sequence[Cell]) -> str:
        """Remember a run, instead of an earlier one that started in the same microsecond.

        Cells that were cut short say nothing, and those of a run with a planted defect nothing that anybody
        may expect. Returns what the user should know, mostly nothing.
        """
        if facts.defect:
            return ""
        cells = [cell for cell in cells if word(cell) != INTERRUPTED]
        if not cells:
            return ""
        make(self.path.parent, 0o700)
        try:
            self.store(facts, cells)
        except Damaged:
            with in_words(self.path):
                return self.start_anew(facts, cells)
        return ""

    def store(self, facts: RunFacts, cells: Sequence[Cell]) -> None:
        with self.opened("rwc") as base:
            base.execute("BEGIN IMMEDIATE")
            if schema_of(self.path, base) == 0:
                create(base)
            elif base.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise Damaged(f"{self.path}: is damaged")
            base.execute("DELETE FROM run WHERE started = ?", [facts.started.isoformat()])
            number = base.execute(
                "INSERT INTO run (started, version, revision, accelerator, machine) VALUES (?, ?, ?, ?, ?)",
                [facts.started.isoformat(), facts.version, facts.commit, facts.accelerator, this_machine()],
            ).lastrowid
            ids = [clean(cell_id(cell)) for cell in cells]
            base.executemany("INSERT OR IGNORE INTO name (text) VALUES (?)", [[each] for each in ids])
            base.executemany(
                "INSERT OR REPLACE INTO cell (run, name, outcome, seconds, retries, blame)"
                " SELECT ?, id, ?, ?, ?, ? FROM name WHERE text = ?",
                [
                    (number, cell.outcome, round(cell.seconds, 3), len(cell.retries), cell.blame or "", each)
                    for cell, each in zip(cells, ids, strict=True)
                ],
            )
            trim(base)
            base.execute("COMMIT")

    def start_anew(self, facts: RunFacts, cells: Sequence[Cell]) -> str:
        """The damaged file goes aside; of several runs that see it, the first does that."""
        aside = self.path.with_suffix(".damaged")
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.store(facts, cells)
            except Damaged:
                self.path.replace(aside)
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                self.store(facts, cells)
                return f"{self.path}: was damaged; it is {aside.name} now, and a new history begins"
        return ""

    def expected(self, accelerator: str = "") -> dict[str, float]:
        """Seconds that each cell should take: the median of its last green ones.

        With the given accelerator, or else with that of the newest run; those of a machine like this one
        are preferred.
        """
        question = (
            "SELECT name.text, run.machine = ?, cell.seconds FROM cell JOIN run ON run.id = cell.run"
            " JOIN name ON name.id = cell.name WHERE cell.outcome = 'green' AND run.accelerator ="
            " CASE ? WHEN '' THEN (SELECT accelerator FROM run ORDER BY id DESC LIMIT 1) ELSE ? END"
            " ORDER BY name.text, run.machine = ? DESC, run.id DESC"
        )
        here = this_machine()
        rows = self.rows(lambda *row: row, question, here, accelerator, accelerator, here)
        found = {}
        for name, group in groupby(rows, lambda row: row[0]):
            told = list(group)
            found[name] = median([seconds for _, like, seconds in told if like == told[0][1]][:RECENT])
        return found

    def runs(self) -> list[Run]:
        """Newest first."""
        return self.rows(
            run_of, "SELECT id, started, version, revision, accelerator FROM run ORDER BY id DESC"
        )

    def cell(self, name: str) -> list[tuple[Run, Past]]:
        """One cell through the runs, newest first."""
        question = (
            "SELECT id, started, version, revision, accelerator, outcome, seconds, retries, cell.blame"
            " FROM cell JOIN run ON run.id = cell.run"
            " WHERE name = (SELECT id FROM name WHERE text = ?) ORDER BY run DESC"
        )
        return self.rows(lambda *row: (run_of(*row[:5]), past_of(*row[5:])), question, clean(name))

    def cells_of(self, run: Run) -> dict[str, Past]:
        """Cell id to what it came to in that run."""
        question = (
            "SELECT name.text, outcome, seconds, retries, blame FROM cell JOIN name ON name.id = cell.name"
            " WHERE run = ?"
        )
        return dict(self.rows(lambda name, *row: (str(name), past_of(*row)), question, run.number))

    def rows(self, make: Callable[..., T], question: str, *values: str | int) -> list[T]:
        """The answer; none from a file that is not there, is damaged, or was not filled yet."""
        with in_words(self.path):
            if not self.path.exists():
                return []
        try:
            with self.opened("ro") as base:
                if schema_of(self.path, base) == 0:
                    return []
                return [make(*row) for row in base.execute(question, values)]
        except (Damaged, ValueError):
            return []

    @contextmanager
    def opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        """A connection in autocommit mode; what SQLite says is an error of ours, in words."""
        where = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(where, uri=True, timeout=PATIENCE, isolation_level=None)) as base:
                base.execute("PRAGMA foreign_keys = ON")
                yield base
        except sqlite3.Error as error:
            code = error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else 0
            if code in DAMAGE:
                raise Damaged(f"{self.path}: is damaged") from error
            raise Blocked(
                f"{self.path}: {WORDS.get(code, str(error))}",
                hint=HINT,
            ) from error


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """What the system says, as an error of ours."""
    try:
        yield
    except OSError as error:
        raise Blocked(f"{path}: {error.strerror}", hint=HINT) from error


class Damaged(Blocked):
    """SQLite says that this is not, or no longer, a database."""


def schema_of(path: Path, base: sqlite3.Connection) -> int:
    """0: nothing is in it yet. Raises Refused for what this vbuskit cannot read."""
    version = int(base.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, SCHEMA):
        raise Refused(
            f"{path}: schema {version}, this vbuskit reads {SCHEMA}",
            hint="use the vbuskit that wrote it, or move the file away: a new one begins",
        )
    return version


def create(base: sqlite3.Connection) -> None:
    for statement in TABLES.split(";"):
        base.execute(statement)
    base.execute(f"PRAGMA user_version = {SCHEMA}")


def trim(base: sqlite3.Connection) -> None:
    """The oldest runs go; the newest one stays, however large it is."""
    sizes = base.execute("SELECT run, count(*) FROM cell GROUP BY run ORDER BY run DESC").fetchall()
    total = 0
    for kept, (run, size) in enumerate(sizes):
        total += size
        if kept and (total > MOST_ROWS or kept >= MOST_RUNS):
            base.execute("DELETE FROM run WHERE id <= ?", [run])
            base.execute("DELETE FROM name WHERE id NOT IN (SELECT name FROM cell)")
            break


def run_of(number: int, started: str, version: str, commit: str, accelerator: str) -> Run:
    return Run(number, datetime.fromisoformat(started), version, commit, accelerator)


def past_of(outcome: str, seconds: float, retries: int, blame: str) -> Past:
    return Past(Outcome(outcome), seconds, retries, blame)


def clean(name: str) -> str:
    """SQLite stores no lone surrogates."""
    return name.encode(errors="replace").decode()


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What decides how fast it is: the CPUs. A host's name would make a new machine of each container."""
    text = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else ""
