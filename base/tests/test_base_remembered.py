# SPDX-License-Identifier: MIT
"""Steps are not done twice, and never half."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.artifact import write
from vbuskit.base.remembered import Results, digest_of_files, draft_in, remembered

INPUTS = "0123456789abcdef" * 4


def counted(calls: list[str], content: str = "made") -> Callable[[Path], Results]:
    def work(folder: Path) -> Results:
        calls.append(content)
        return {"it": write(folder / "deep" / "it.txt", content)}

    return work


def test_the_same_inputs_are_worked_on_once(tmp_path: Path) -> None:
    calls: list[str] = []
    first = remembered(tmp_path, INPUTS, counted(calls))
    assert remembered(tmp_path, INPUTS, counted(calls)) == first
    assert calls == ["made"]
    assert first["it"].path.read_text() == "made"


def test_other_inputs_are_other_work(tmp_path: Path) -> None:
    calls: list[str] = []
    first = remembered(tmp_path, INPUTS, counted(calls))
    second = remembered(tmp_path, INPUTS[::-1], counted(calls, "other"))
    assert calls == ["made", "other"]
    first["it"].verify()
    second["it"].verify()


@pytest.mark.parametrize("name", ["deep/it.txt", "outputs.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"it": 1}', b'{"it": ["../../x", "", 0]}', b"\xff"]
)
def test_a_result_that_was_touched_is_made_again(tmp_path: Path, name: str, content: bytes) -> None:
    first = remembered(tmp_path, INPUTS, counted([]))
    (tmp_path / INPUTS[:16] / name).write_bytes(content)
    assert remembered(tmp_path, INPUTS, counted([])) == first
    first["it"].verify()


def test_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def work(folder: Path) -> Results:
        write(folder / "half.txt", "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remembered(tmp_path, INPUTS, work)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_works_on_is_not(tmp_path: Path) -> None:
    dead = tmp_path / f".draft.{os.getpid()}.x"  # in a sandbox every worker has the same number
    write(dead / "half.txt", "half")
    with draft_in(tmp_path) as alive:
        write(alive / "half.txt", "half")
        remembered(tmp_path, INPUTS, counted([]))
        assert (dead.exists(), alive.exists()) == (False, True)
    assert not alive.exists()


def test_sources_are_known_by_name_and_content_not_by_place(tmp_path: Path) -> None:
    for folder, content in (("a", "x"), ("b", "x"), ("c", "y")):
        write(tmp_path / folder / "s.c", content)
        write(tmp_path / folder / "__pycache__" / "s.pyc", folder)
    a, b, c = (digest_of_files([tmp_path / folder]) for folder in "abc")
    assert a == b != c
    assert digest_of_files([tmp_path / "a/s.c"]) == a
