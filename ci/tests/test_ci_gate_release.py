# SPDX-License-Identifier: MIT
"""`vbuskit gate release`: what it says of two releases, and that a change that strands guests is red."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.migration.features import each_bit
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


def less_of(now: dict[str, Any]) -> Iterator[tuple[str, list[Any], int | None]]:
    """What is less: its name, its path, and the value there or None for one that is gone."""
    for name, value in now["bus"].items():
        if name.endswith(("_max", "_min")):
            yield name, ["bus", name], value + (1 if name.endswith("_min") else -1)
    for place, name in enumerate(now["bus"]["connectors"]):
        yield name, ["bus", "connectors", place], None
    for place, klass in enumerate(now["classes"]):
        here = ["classes", place]
        yield klass["name"], here, None
        for name, value in klass["limits"].items():
            yield name, [*here, "limits", name], value - 1
        for group, bits in klass["groups"].items():
            for bit in each_bit(bits):
                yield klass["name"], [*here, "groups", group], bits & ~bit


def lessened() -> Iterator[tuple[str, dict[str, Any]]]:
    """This tree's profile with each number and name in turn less: how it is named, and the whole."""
    now = json.loads(NEXT.read_text())
    for name, (*way, last), value in less_of(now):
        words = copy.deepcopy(now)
        place = words
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
        yield name, words


def test_whatever_a_tree_offers_less_of_makes_the_gate_red(tmp_path: Path, capsys: Capture) -> None:
    less, count = tmp_path / "less.json", 0
    for name, words in lessened():
        less.write_text(json.dumps(words))
        assert cli.main(["gate", "release", "next", str(less)]) == Exit.REFUSED, name
        said = capsys.readouterr().out
        assert "strands guests" in said and name in said.splitlines()[1]
        count += 1
    assert count > 50


def test_a_lowered_limit_is_refused_and_named(tmp_path: Path, capsys: Capture) -> None:
    less = tmp_path / "less.json"
    less.write_text(NEXT.read_text().replace('"segments": 64', '"segments": 32'))
    assert cli.main(["gate", "release", "0.1", str(less)]) == Exit.REFUSED
    lost = "vblk-file: segments: 64 -> 32: guests with a vblk-file and more than 32 segments"
    assert f"  stranded: {lost}\n" in capsys.readouterr().out


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


def test_where_nothing_can_be_written_is_one_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vbuskit.migration.offer.offer", lambda run, tree, defect: named("next"))
    assert cli.main(["gate", "release", "--write", "--output", str(tmp_path)]) == Exit.BLOCKED
    assert capsys.readouterr().err.startswith(f"vbuskit: {tmp_path}: Is a directory\n")
    (tmp_path / "next.json").touch()
    assert cli.main(["gate", "release", "--write", "--output", str(tmp_path / "next.json")]) == Exit.OK
    assert (tmp_path / "next.json").read_text() == NEXT.read_text()
