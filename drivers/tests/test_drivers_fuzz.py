# SPDX-License-Identifier: MIT
"""What a guest, an administrator or a worker says breaks neither worker nor vbusd, as fuzzing finds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers.fuzz import JUDGED, TARGETS, Lines, coverage, fuzz, report, targets, total

SMOKE, DEFECT, COVERAGE, LONG = 20, 60, 90, 600  # seconds
ENOUGH = 85.0  # percent of the lines of JUDGED

pytestmark = pytest.mark.skipif(shutil.which("clang") is None, reason="clang: is not installed")


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    return targets(Runner(), Places.from_environment())


@pytest.mark.parametrize("name", TARGETS)
def test_twenty_seconds_from_the_seeds_find_nothing(
    programs: dict[str, Path], name: str, tmp_path: Path
) -> None:
    done = fuzz(Runner(), programs[name], tmp_path, seconds=SMOKE)
    print(f"{name}: {done.inputs} inputs, {done.rate} a second")
    assert done.finding == ""
    assert done.inputs > len(list((tmp_path / "seeds").iterdir())) > 0
    assert any((tmp_path / "corpus").iterdir())


def test_a_length_that_is_believed_is_found_within_a_minute(tmp_path: Path) -> None:
    program = targets(Runner(), Places.from_environment(), defect="overflow")["fuzz_window"]
    done = fuzz(Runner(), program, tmp_path, seconds=DEFECT)
    print(f"{done.inputs} inputs: {done.finding}")
    # By the length that was hit upon: past the end, or over the very block that is copied.
    assert re.search("AddressSanitizer: (stack-buffer-overflow|memcpy-param-overlap)", done.finding)


@pytest.mark.full
def test_most_lines_that_take_words_from_others_are_come_through(
    programs: dict[str, Path], tmp_path: Path
) -> None:
    done = [fuzz(Runner(), program, tmp_path, seconds=COVERAGE) for program in programs.values()]
    assert [each.finding for each in done] == ["" for _ in programs]
    table = coverage(Runner(), programs.values(), [each.profile for each in done], tmp_path)
    print(report(table))
    assert list(table) == list(JUDGED)
    assert total(table).percent >= ENOUGH, report(table)


@pytest.mark.full
@pytest.mark.parametrize("name", TARGETS)
def test_ten_minutes_find_nothing(programs: dict[str, Path], name: str, tmp_path: Path) -> None:
    done = fuzz(Runner(), programs[name], tmp_path, seconds=LONG)
    print(f"{name}: {done.inputs} inputs, {done.rate} a second")
    assert done.finding == ""


def test_the_table_of_lines_has_a_sum() -> None:
    table = {"a.c": Lines(10, 5), "b.c": Lines(30, 30)}
    assert total(table) == Lines(40, 35)
    assert report(table).splitlines()[-1].split() == ["all", "35", "of", "40", "87.5", "%"]
