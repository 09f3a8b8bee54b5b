# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked
from vbuskit.base.places import ROOT, Places, make

NAMES = ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "VBUSKIT_STATE", "VBUSKIT_CACHE")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_the_tree_is_the_checkout() -> None:
    assert (ROOT / "vbuskit").is_file()
    assert Places.from_environment().tree == ROOT


def test_results_lie_in_the_checkout_unless_told_otherwise(tmp_path: Path) -> None:
    assert Places.from_environment().out == ROOT / "out"
    assert Places.from_environment(tmp_path / "x" / ".." / "elsewhere").out == tmp_path / "elsewhere"


def test_state_and_cache_follow_home_then_xdg_then_our_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = Places.from_environment()
    assert (places.state, places.cache) == (tmp_path / ".local/state/vbuskit", tmp_path / ".cache/vbuskit")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    places = Places.from_environment()
    assert (places.state, places.cache) == (tmp_path / "s/vbuskit", tmp_path / "c/vbuskit")

    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "ours"))
    monkeypatch.setenv("VBUSKIT_CACHE", str(tmp_path / "theirs"))
    places = Places.from_environment()
    assert (places.state, places.cache) == (tmp_path / "ours", tmp_path / "theirs")


def test_without_home_the_user_database_knows() -> None:
    home = Path(pwd.getpwuid(os.getuid()).pw_dir).resolve()
    assert Places.from_environment().cache == home / ".cache/vbuskit"


def test_a_work_folder_is_made_when_asked_for(tmp_path: Path) -> None:
    assert Places.from_environment(tmp_path).work("cells", "boot").is_dir()


def test_a_folder_that_cannot_be_made_is_blocked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Blocked, match="cannot be made") as caught:
        make(tmp_path / "file" / "folder")
    assert caught.value.hint
