# SPDX-License-Identifier: MIT
"""`vbuskit ci collect`: the shards of a run as one, and red when a cell of the plan is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vbuskit.base.artifact import write
from vbuskit.base.errors import Exit
from vbuskit.ci import cli, results
from vbuskit.ci.facts import Guest, Host, RunFacts, Step
from vbuskit.compat.cells import Cell, Outcome

NEEDED = ("boot", "install", "negotiate", "transfer")
WORDS = ["ci", "collect", "--only", "transfer", "--guest", "debian-12", "debian-13", "--out"]
Shard = Callable[..., None]


def cell(guest: str, name: str, outcome: Outcome = Outcome.GREEN) -> Cell:
    return Cell(name, "a title", guest, outcome, 1.0)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history of its own."""
    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "state"))


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """Writes what one shard leaves."""

    def make(number: int, guest: str, cells: Sequence[Cell] | None = None, **words: str) -> None:
        out = tmp_path / f"shard-{number}"
        (out / "logs").mkdir(parents=True)
        log = out / "logs" / f"{guest}.log"
        log.write_text(f"console of {guest}\n")
        facts = RunFacts(
            version="0.2",
            commit=words.get("commit", "c" * 40),
            dirty=False,
            host=Host(system="Debian", kernel=f"6.1-{number}", qemu="7.2", libvirt="9"),
            accelerator="tcg",
            started=datetime(2026, 11, 23, number, tzinfo=UTC),
            guests=(Guest(name=guest, kernel="6.1"),),
            steps=(Step(f"{guest}: image", 1.0),),
        )
        cells = [cell(guest, name) for name in NEEDED] if cells is None else cells
        for each in cells:
            each.logs = [log]
        write(out / "results.json", results.encode(out, facts, cells))

    return make


def test_shards_become_one_run_whose_logs_are_found(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, "debian-12")
    shard(2, "debian-13")
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.OK
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}: green: All 8 cells hold.\n"
    facts, cells = results.read(tmp_path)
    assert [guest.name for guest in facts.guests] == ["debian-12", "debian-13"]
    assert facts.host.kernel == "6.1-1, 6.1-2"
    assert facts.started == datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert {log.read_text() for each in cells for log in each.logs} == {
        "console of debian-12\n",
        "console of debian-13\n",
    }
    assert "shard-2/logs/debian-13.log" in (tmp_path / "report.html").read_text()


def test_a_cell_that_no_shard_tried_is_red(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, "debian-12")
    shard(2, "debian-13", [cell("debian-13", "boot")])
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.FAILED
    assert "3 of 8 cells did not hold" in capsys.readouterr().out
    _, cells = results.read(tmp_path)
    missing = [each for each in cells if each.outcome is Outcome.RED]
    assert [each.name for each in missing] == ["install", "negotiate", "transfer"]
    assert {each.blame for each in missing} == {"infrastructure"}


def test_a_shard_that_left_nothing_is_red(shard: Shard, tmp_path: Path) -> None:
    shard(2, "debian-13")
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.FAILED


def test_a_red_cell_of_a_guest_hides_none_of_those_that_nobody_tried(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, "debian-12")
    shard(2, "debian-13", [cell("debian-13", "prepare", Outcome.RED)])
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.FAILED
    assert "5 of 9 cells did not hold" in capsys.readouterr().out


def test_a_missing_guest_that_only_informs_turns_nothing_red(shard: Shard, tmp_path: Path) -> None:
    shard(1, "debian-12")
    words = ["ci", "collect", "--only", "transfer", "--guest", "debian-12", "debian-11", "--out"]
    assert cli.main([*words, str(tmp_path)]) == Exit.OK
    facts, _ = results.read(tmp_path)
    assert facts.informing == {"debian-11"}


def test_a_cell_of_two_shards_is_refused(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, "debian-12")
    shard(2, "debian-12")
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.REFUSED
    assert "debian-12/boot: several shards tried it" in capsys.readouterr().err


def test_shards_of_two_commits_are_refused(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, "debian-12")
    shard(2, "debian-13", commit="d" * 40)
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.REFUSED
    assert "shards of 0.2 cccccccccccc and of 0.2 dddddddddddd" in capsys.readouterr().err


def test_no_shard_at_all_is_blocked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.BLOCKED
    assert "no shard left results there" in capsys.readouterr().err


def test_an_odd_cell_of_a_job_that_was_tampered_with_is_one_more_and_hides_none(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = cell("debian-13", "../x\n[boot]")
    odd.axes = {"colour": "green"}
    shard(1, "debian-12")
    shard(2, "debian-13", [odd])
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.FAILED
    assert "4 of 9 cells did not hold" in capsys.readouterr().out


def test_results_that_no_run_wrote_are_refused(
    shard: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, "debian-12")
    write(tmp_path / "shard-2" / "results.json", '{"schema": 3, "cells": 7}')
    assert cli.main([*WORDS, str(tmp_path)]) == Exit.REFUSED
    assert "not what a run writes" in capsys.readouterr().err
