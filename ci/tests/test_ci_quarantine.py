# SPDX-License-Identifier: MIT
from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from vbuskit.base.errors import UsageError
from vbuskit.base.places import ROOT
from vbuskit.ci.quarantine import FILE, LONGEST, Entry, fits, read, remarks, standing
from vbuskit.compat.cells import Outcome
from vbuskit.compat.guests import guest_kinds
from vbuskit.compat.scenario import scenarios

TODAY = date(2026, 11, 23)
LATER = TODAY + timedelta(days=30)
KNOWN = ["debian-12/kill", "debian-12/killall", "debian-sid/kill", "debian-sid/update"]


def file(folder: Path, text: str) -> Path:
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text)
    return folder


def table(**words: str) -> str:
    given = {"id": '"debian-12/kill"', "owner": '"me"', "expires": str(LATER), "reason": '"issue 7"'} | words
    return "[[cell]]\n" + "".join(f"{word} = {value}\n" for word, value in given.items() if value)


def entry(name: str, expires: date = LATER) -> Entry:
    return Entry(id=name, owner="me", expires=expires, reason="issue 7")


def test_the_file_of_this_tree_is_sound_and_names_cells_that_there_are() -> None:
    known = [f"{guest}/{kind.name}" for guest in guest_kinds(ROOT) for kind in scenarios()]
    fits(read(ROOT, date.today()), known)


def test_entries_are_read_and_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read(tmp_path, TODAY) == []
    assert read(file(tmp_path, table()), TODAY) == [entry("debian-12/kill")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[cell]\n", "1:7: expected"),
        ("cell = 3\n", "cell: is nothing but tables"),
        ("[other]\n", "other: is nothing but tables"),
        ("cell = [3]\n", "cell: is nothing but tables"),
        ("cell = " + "[" * 5000, "nested too deeply"),
        (table(owner=""), r"\[\[cell\]\] 1: owner: an entry has id, owner, expires, reason"),
        (table(since='"x"'), "since: an entry has"),
        (table(owner='" "'), "owner: is a text, and not empty"),
        (table(id="3"), "id: is a text"),
        (table(expires='"2026-12-24"'), "expires: is a date such as 2026-12-23, without quotes"),
        (table(expires="2026-12-24T10:00:00"), "expires: is a date"),
        (
            table() + table(expires=str(TODAY + LONGEST + timedelta(days=1))),
            r"2: debian-12/kill: expires on",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{FILE}:.*{said}"):
        read(file(tmp_path, text), TODAY)


def test_sixty_days_ahead_are_allowed(tmp_path: Path) -> None:
    assert len(read(file(tmp_path, table(expires=str(TODAY + LONGEST))), TODAY)) == 1


@pytest.mark.parametrize("name", ["debian-12/kill", "*/kill", "debian-sid/*", "*/kill[drivers=0.1]", "*"])
def test_an_entry_that_fits_a_cell_is_taken(name: str) -> None:
    fits([entry(name)], KNOWN)


@pytest.mark.parametrize(
    "name", ["debian-12/kil", "debian-12", "debian-9/*", "debian.12/kill", "*/no[machine=q]"]
)
def test_an_entry_that_fits_no_cell_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match="there is no such cell"):
        fits([entry("*/kill"), entry(name)], KNOWN)


def test_a_cell_is_in_quarantine_until_the_day_on_which_it_ends() -> None:
    entries = [entry("debian-12/kill[drivers=0.1]"), entry("debian-sid/*", TODAY)]
    ids = ["debian-12/kill", "debian-12/kill[drivers=0.1]", "debian-sid/kill"]
    assert standing(entries, ids, TODAY) == {"debian-12/kill[drivers=0.1]": "me, until 2026-12-23: issue 7"}
    assert standing(entries, ids, TODAY - timedelta(days=1)).keys() == set(ids[1:])
    assert standing(entries, ids, LATER) == {}


def test_one_that_ended_says_that_its_red_cells_count_again() -> None:
    outcomes = {"debian-12/kill": Outcome.RED, "debian-12/boot": Outcome.GREEN}
    assert list(remarks([entry("debian-12/*", TODAY)], outcomes, TODAY)) == [
        "debian-12/kill: its quarantine ended on 2026-11-23 (me), it counts again"
    ]
    longer = entry("*/kill")
    assert list(remarks([entry("debian-12/*", TODAY), longer], outcomes, TODAY)) == []


def test_one_whose_cells_all_hold_can_be_taken_out() -> None:
    outcomes = {"debian-12/kill": Outcome.GREEN, "debian-sid/kill": Outcome.RED}
    entries = [entry("debian-12/*"), entry("debian-sid/kill"), entry("debian-13/*"), entry("*/kill")]
    assert list(remarks(entries, outcomes, TODAY)) == [
        f"debian-12/*: holds, and can be taken out of {FILE} (me, until 2026-12-23: issue 7)"
    ]
