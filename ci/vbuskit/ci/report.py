# SPDX-License-Identifier: MIT
"""What a run leaves for people and for CI: files in `out/`, and a line in the history."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vbuskit.base import artifact
from vbuskit.base.errors import VbuskitError, printable
from vbuskit.base.places import Places
from vbuskit.ci import results
from vbuskit.ci.compare import Earlier, recall
from vbuskit.ci.facts import RunFacts
from vbuskit.ci.history import History, file_of
from vbuskit.ci.junit import junit
from vbuskit.ci.page import html
from vbuskit.ci.summary import markdown
from vbuskit.compat.cells import Cell


def write_report(
    places: Places, facts: RunFacts, cells: Sequence[Cell], environ: Mapping[str, str] = os.environ
) -> None:
    """Each of the files is whole or not there; results.json first, the others come from it."""
    artifact.write(places.out / "results.json", results.encode(places.out, facts, cells))
    remember(places, facts, cells)
    write_views(places.out, facts, cells, earlier(places, facts, cells))
    show_step(places.out / "summary.md", environ.get("GITHUB_STEP_SUMMARY", ""))


def write_views(out: Path, facts: RunFacts, cells: Sequence[Cell], past: Sequence[Earlier] = ()) -> None:
    artifact.write(out / "junit.xml", junit(facts, cells))
    artifact.write(out / "report.html", html(out, facts, cells, past))
    artifact.write(out / "summary.md", markdown(facts, cells, past))


def remember(places: Places, facts: RunFacts, cells: Sequence[Cell]) -> None:
    """A history that cannot be written is said, and spoils nothing."""
    try:
        said = History(file_of(places)).add(facts, cells)
    except VbuskitError as error:
        said = str(error)
    if said:
        say(said)


def earlier(places: Places, facts: RunFacts, cells: Sequence[Cell]) -> list[Earlier]:
    try:
        return recall(History(file_of(places)), facts, cells)
    except VbuskitError as error:
        say(f"{error}: the report compares with nothing")
        return []


def show_step(summary: Path, wanted: str) -> None:
    """GitHub shows what a step appends to that file."""
    if not wanted:
        return
    try:
        with Path(wanted).open("a", encoding="utf-8") as shown:
            shown.write(summary.read_text(encoding="utf-8"))
    except OSError as error:
        say(f"$GITHUB_STEP_SUMMARY: {wanted}: {error.strerror}; the summary is in {summary}")


def say(text: str) -> None:
    print(f"vbuskit: {printable(text)}", file=sys.stderr, flush=True)
