# SPDX-License-Identifier: MIT
"""`vbuskit gate release`: what it says of two releases, and that a change that strands guests is red."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.migration.releases import NEXT, named

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def without_tso6(tmp_path: Path) -> str:
    """This tree's profile, but for a bit of each card in what is sent."""
    words = json.loads(NEXT.read_text())
    for klass in words["classes"]:
        if "0" in klass["groups"]:
            klass["groups"]["0"] &= ~0x4
    (tmp_path / "less.json").write_text(json.dumps(words))
    return str(tmp_path / "less.json")


def test_from_every_release_to_this_tree_no_guest_is_stranded(capsys: Capture) -> None:
    assert cli.main(["gate", "release", "--all"]) == Exit.OK
    assert capsys.readouterr().out == f"0.1.0 to {named('next').release}: strands no guest\n"


def test_a_change_that_strands_guests_is_refused_and_names_bit_and_guests(
    without_tso6: str, capsys: Capture
) -> None:
    assert cli.main(["gate", "release", "0.1", without_tso6]) == Exit.REFUSED
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(": strands guests")
    lost = "venet-loopback: venet sg.tso6: offered -> gone: guests with a venet-loopback that use it"
    assert second == f"  stranded: {lost}"


def test_what_is_new_is_told_with_the_masks_of_a_pool_of_both(without_tso6: str, capsys: Capture) -> None:
    assert cli.main(["gate", "release", without_tso6, "next"]) == Exit.OK
    said = capsys.readouterr().out
    assert "on the way back: venet-tap: venet sg.tso6" in said
    assert "for each venet-tap: ./vbuskit host mask BUS 0 0x4 --device UUID\n" in said


def test_a_program_gets_an_object_for_each_pair(without_tso6: str, capsys: Capture) -> None:
    assert cli.main(["gate", "release", "--json", "0.1", without_tso6]) == Exit.REFUSED
    (told,) = json.loads(capsys.readouterr().out)
    assert told["stranded"][0]["bits"] == ["venet-loopback", 0, 4] and told["mask"] == []


@pytest.mark.parametrize(
    "words", [[], ["0.1"], ["0.1", "next", "next"], ["--all", "0.1"], ["0.1", "9.9"], ["--write", "0.1"]]
)
def test_words_that_name_no_two_releases_are_a_usage_error(words: list[str]) -> None:
    assert cli.main(["gate", "release", *words]) == Exit.USAGE
