# SPDX-License-Identifier: MIT
"""The real drivers, from source to ISO: the same bytes in two folders, on two dates, in two time zones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.ci.iso import unsigned_digest
from vbuskit.kmp.keys import new_key, store

# Both after the day on which the key is made: a certificate that is not valid yet signs nothing.
DATES = {"2030-01-01 00:00:01": "UTC0", "2035-07-31 23:59:59": "NPT-5:45"}


def key_in(folder: Path) -> list[str | Path]:
    store(new_key(), folder)
    return ["--key", folder / "module.key", "--certificate", folder / "module.pem"]


def iso(out: Path, date: str, key: list[str | Path]) -> Path:
    """What `./vbuskit iso` makes into `out` when the machine's clock says `date`."""
    command: list[str | Path] = ["faketime", date, ROOT / "vbuskit", "iso", "--out", out, *key]
    # The clock alone: faketime would shift the times of files as well, those that we set on purpose too.
    env = {"TZ": DATES[date], "NO_FAKE_STAT": "1"}
    return Path(Runner()(command, env=env).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def isos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One key on two dates in two folders, and another key."""
    top = tmp_path_factory.mktemp("isos")
    one, other = key_in(top / "key"), key_in(top / "other")
    early, late = DATES
    return [iso(top / "a", early, one), iso(top / "b-longer-name", late, one), iso(top / "c", early, other)]


def test_two_folders_and_two_dates_give_the_same_iso(isos: list[Path]) -> None:
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in isos]
    assert sums[0] == sums[1] != sums[2]


def test_another_key_gives_the_same_iso_once_signatures_are_cut_off(isos: list[Path]) -> None:
    assert len({unsigned_digest(path) for path in isos}) == 1
