# SPDX-License-Identifier: MIT
"""Folders of the cache: what a living process holds is not removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.errors import Refused
from vbuskit.base.run import Runner
from vbuskit.base.shelf import hold, is_held, removed
from vbuskit.base.wait import until


def test_what_this_process_holds_is_not_removed_and_its_last_use_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    assert not is_held(folder)
    before = folder.stat().st_mtime_ns
    hold(folder)
    hold(folder)
    assert is_held(folder) and not removed(folder) and folder.is_dir()
    assert folder.stat().st_mtime_ns > before


def test_what_another_process_held_is_removed_once_that_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    words = ["flock", "--shared", "--close", str(folder), "sleep", "600"]
    with Runner().start(words, output=tmp_path / "out"):
        assert until(lambda: is_held(folder), 20)
        assert not removed(folder)
    assert removed(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_gone_cannot_be_held(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    assert removed(folder)
    with pytest.raises(Refused, match="held: is gone"):
        hold(folder)


def test_what_somebody_else_has_removed_meanwhile_is_gone_and_no_error(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "gone") and removed(tmp_path / "gone")
