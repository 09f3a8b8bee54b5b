# SPDX-License-Identifier: MIT
"""The plan as people read it."""

from __future__ import annotations

from vbuskit.compat.plan import Coordinates, Planned
from vbuskit.compat.plantable import table

NAMES = ("boot", "install", "kill", "kmp")


def planned(
    guest: str, excluded: dict[str, str], *, seconds: float = 60.0, drivers: str = "this"
) -> list[Planned]:
    cells = [Coordinates(guest, name, drivers) for name in NAMES]
    return [Planned(at, excluded.get(at.scenario, ""), seconds, at.group) for at in cells]


RPM = {"kmp": "for the family rpm"}
NEVER = dict.fromkeys(NAMES, "only when it is named")


def test_it_says_what_runs_what_does_not_and_why_and_how_long_it_takes() -> None:
    plan = [*planned("one", RPM), *planned("two", RPM, seconds=20.4), *planned("debug", NEVER)]
    assert (
        table(plan, workers=2)
        == """\
6 cells would run, in 2 groups; 6 cells would not
  one  3 min 00 s  boot install kill
  two  1 min 01 s  boot install kill
not tried, 2: for the family rpm
  one two: kmp
not tried, 4: only when it is named
  debug: all
expected: 4 min 01 s in total, 3 min 00 s on 2 workers; images and drivers are not in it
"""
    )


def test_all_groups_of_a_guest_and_most_scenarios_are_said_shortly() -> None:
    shard = {name: "shard 2/2 tries it" for name in NAMES if name != "kmp"}
    plan = [*planned("one", shard), *planned("one", shard, drivers="0.1"), *planned("two", RPM)]
    lines = table(plan).splitlines()
    assert lines[lines.index("not tried, 6: shard 2/2 tries it") + 1] == "  one[*]: all but kmp"


def test_a_group_may_wait_for_a_free_worker() -> None:
    plan = [each for name in ("a", "b", "c") for each in planned(name, {})]
    assert "expected: 12 min 00 s in total, 8 min 00 s on 2 workers;" in table(plan, workers=2)
    assert "expected: 12 min 00 s in total;" in table(plan)


def test_hours_are_said_as_hours() -> None:
    assert "expected: 4 h 01 min in total" in table(planned("one", {}, seconds=3620.0))


def test_nothing_to_run_is_said() -> None:
    assert table(planned("debug", NEVER)).startswith("0 cells would run, in 0 groups; 4 cells would not\n")
    assert table([]).startswith("0 cells would run, in 0 groups; 0 cells would not\n")
