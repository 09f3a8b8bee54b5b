# SPDX-License-Identifier: MIT
"""`vbuskit gate diff`: files of every kind, what is printed, and diff's own exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.migration.releases import NEXT

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def other(tmp_path: Path) -> str:
    (tmp_path / "other.json").write_text(NEXT.read_text().replace('"pairs": 16', '"pairs": 8'))
    return str(tmp_path / "other.json")


def test_what_is_the_same_is_0_and_what_differs_is_1(other: str, capsys: Capture) -> None:
    assert cli.main(["gate", "diff", "next", str(NEXT)]) == Exit.OK
    assert capsys.readouterr().out == f"next and {NEXT}: the same\n"
    assert cli.main(["gate", "diff", "next", other]) == Exit.FAILED
    assert "~ classes venet-tap limits pairs: 16 -> 8\n" in capsys.readouterr().out


def test_a_program_gets_one_object(other: str, capsys: Capture) -> None:
    assert cli.main(["gate", "diff", "--json", "next", other]) == Exit.FAILED
    told = json.loads(capsys.readouterr().out)
    assert told["only_here"] == [] and told["changed"]["classes venet-tap limits pairs"] == ["16", "8"]


def test_what_is_no_profile_or_not_there_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("[" * 100_000)
    assert cli.main(["gate", "diff", "next", str(tmp_path / "words")]) == Exit.REFUSED
    assert cli.main(["gate", "diff", "next", str(tmp_path / "none")]) == Exit.BLOCKED
