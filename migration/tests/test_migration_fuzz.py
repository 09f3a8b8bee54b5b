# SPDX-License-Identifier: MIT
"""Whatever a profile is made of, it is refused, or read, written and judged; as fuzzing finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.drivers.fuzz import Fuzzed, fuzz

SMOKE, DEFECT, LONG = 15, 120, 600  # seconds
SCRIPT = ROOT / "migration/fuzz/fuzz_profiles.py"


def fuzzed(folder: Path, *, seconds: int, defect: str = "") -> Fuzzed:
    target = folder / "fuzz_profiles"
    target.write_text(f'#!/bin/sh\nVBUS_FUZZ_DEFECT={defect} exec "{sys.executable}" -P "{SCRIPT}" "$@"\n')
    target.chmod(0o755)
    done = fuzz(Runner(), target, folder, seconds=seconds)
    print(f"{done.inputs} inputs, {done.rate} a second; {done.finding or 'nothing was found'}")
    return done


def test_a_few_seconds_from_the_seeds_find_nothing(tmp_path: Path) -> None:
    done = fuzzed(tmp_path, seconds=SMOKE)
    assert done.finding == "", (tmp_path / "fuzz_profiles.log").read_text()[-3000:]
    assert done.inputs > len(list((tmp_path / "seeds").iterdir())) > 0
    assert any((tmp_path / "corpus").iterdir())


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ("shown", ("surrogates not allowed", "AssertionError")),  # written, or in a finding, as it comes
        ("names", ("zip() argument 2 is shorter",)),
    ],
)
def test_a_planted_defect_is_found_within_two_minutes(
    defect: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    assert fuzzed(tmp_path, seconds=DEFECT, defect=defect).finding
    log = (tmp_path / "fuzz_profiles.log").read_text()
    assert any(each in log for each in said)


@pytest.mark.full
def test_ten_minutes_find_nothing(tmp_path: Path) -> None:
    done = fuzzed(tmp_path, seconds=LONG)
    assert done.finding == "", (tmp_path / "fuzz_profiles.log").read_text()[-3000:]
