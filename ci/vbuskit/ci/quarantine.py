# SPDX-License-Identifier: MIT
"""Cells whose red does not count for a while: by somebody, until a day, for a reason (quarantine.toml)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from vbuskit.base.errors import UsageError
from vbuskit.compat import tomlfile
from vbuskit.compat.cells import Outcome

FILE = Path("compat_tests/quarantine.toml")
LONGEST = timedelta(days=60)
WORDS = ("id", "owner", "expires", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One of the file. It holds until the day before `expires`."""

    id: str
    owner: str
    expires: date
    reason: str

    def covers(self, cell: str) -> bool:
        """Whether it is about the cell of that id; `*` is anything, all else is itself."""
        return re.fullmatch(re.escape(self.id).replace(r"\*", ".*"), cell) is not None

    def __str__(self) -> str:
        return f"{self.owner}, until {self.expires}: {self.reason}"


def read(tree: Path, today: date) -> list[Entry]:
    """All entries. Raises UsageError that says which one is wrong, and how."""
    raw = tomlfile.read(tree / FILE, str(FILE)).tables if (tree / FILE).exists() else {}
    tables = raw.pop("cell", [])
    if raw or not (isinstance(tables, list) and all(isinstance(each, dict) for each in tables)):
        raise UsageError(f"{FILE}: {', '.join(raw) or 'cell'}: is nothing but tables [[cell]]")
    return [entry(number, table, today) for number, table in enumerate(tables, 1)]


def entry(number: int, table: dict[str, Any], today: date) -> Entry:
    where = f"{FILE}: [[cell]] {number}"
    if wrong := table.keys() ^ set(WORDS):
        raise UsageError(
            f"{where}: {', '.join(sorted(wrong))}: an entry has {', '.join(WORDS)}, and no other"
        )
    for word in ("id", "owner", "reason"):
        if not isinstance(table[word], str) or not table[word].strip():
            raise UsageError(f"{where}: {word}: is a text, and not empty")
    if type(table["expires"]) is not date:
        raise UsageError(f"{where}: expires: is a date such as {today + timedelta(days=30)}, without quotes")
    if table["expires"] > today + LONGEST:
        hint = f"at most {LONGEST.days} days: {today + LONGEST}"
        raise UsageError(f"{where}: {table['id']}: expires on {table['expires']}, too far ahead", hint=hint)
    return Entry(**table)


def fits(entries: Iterable[Entry], known: Collection[str]) -> None:
    """Raise UsageError for an entry about no cell of `known`, which are all that there could be."""
    for each in entries:
        # Of a cell on other axes only guest and scenario can be told: which values there are is a run's.
        there = replace(each, id=each.id.partition("[")[0])
        if not any(there.covers(cell) for cell in known):
            raise UsageError(
                f"{FILE}: {each.id}: there is no such cell", hint="./vbuskit matrix list says what there is"
            )


def standing(entries: Iterable[Entry], ids: Iterable[str], today: date) -> dict[str, str]:
    """Of these cells those that are in quarantine today: whose they are, until when, and why."""
    holding = [each for each in entries if today < each.expires]
    found = ((name, next((each for each in holding if each.covers(name)), None)) for name in ids)
    return {name: str(each) for name, each in found if each}


def remarks(entries: Sequence[Entry], outcomes: Mapping[str, Outcome], today: date) -> Iterator[str]:
    """What somebody should do about the file, a line each, after cells of these ids came out like that."""
    quiet = standing(entries, outcomes, today)
    for each in entries:
        tried = {name: outcome for name, outcome in outcomes.items() if each.covers(name)}
        if today >= each.expires:
            counted = [name for name, out in tried.items() if out is Outcome.RED and name not in quiet]
            for name in counted:
                yield f"{name}: its quarantine ended on {each.expires} ({each.owner}), it counts again"
        elif tried and all(outcome is Outcome.GREEN for outcome in tried.values()):
            yield f"{each.id}: holds, and can be taken out of {FILE} ({each})"
