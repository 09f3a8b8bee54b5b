# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vbuskit.ci import gallery
from vbuskit.ci.compare import LOOK_BACK, STRIP, Against, Earlier, compare, of_folder, recall
from vbuskit.ci.history import History, Past
from vbuskit.ci.page import rows_of
from vbuskit.ci.report import write_report
from vbuskit.ci.verdict import INTERRUPTED
from vbuskit.compat.cells import Cell, Outcome

KINDS = {"g": Outcome.GREEN, "r": Outcome.RED, "s": Outcome.SKIPPED}


def against(
    tmp_path: Path, now: str, before: str, seconds: tuple[float, float] = (1, 1), accelerator: str = "tcg"
) -> Against:
    cells = [Cell("kill", "", "guest", KINDS[now], seconds[0])] if now else []
    past = {"guest/kill": Past(KINDS[before], seconds[1])} if before else {}
    return compare(gallery.facts(tmp_path), cells, Earlier("then", accelerator, past))


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ("g", "r", "1 became red"),
        ("s", "r", "1 became red"),
        ("r", "g", "1 became green"),
        ("g", "s", "1 no longer tried"),
        ("", "g", "1 new"),
        ("g", "", "1 not in this run"),
        ("g", "g", "nothing differs"),
        ("r", "r", "nothing differs"),
        ("s", "g", "nothing differs"),
    ],
)
def test_a_change_is_named(tmp_path: Path, before: str, now: str, line: str) -> None:
    assert against(tmp_path, now, before).line == line


@pytest.mark.parametrize(
    ("then", "now", "slower"),
    [(10, 13, [(0, 1.3)]), (10, 12, []), (0.1, 0.9, []), (10, 9, []), (0, 5, [(0, 5000.0)])],
)
def test_slower_is_by_a_quarter_and_by_a_second(
    tmp_path: Path, then: float, now: float, slower: list[tuple[int, float]]
) -> None:
    assert against(tmp_path, "g", "g", (now, then)).slower == slower


def test_a_cell_that_was_cut_short_is_no_change(tmp_path: Path) -> None:
    cells = [Cell("kill", "", "guest", Outcome.RED, 1, INTERRUPTED)]
    past = {"guest/kill": Past(Outcome.GREEN, 1)}
    assert compare(gallery.facts(tmp_path), cells, Earlier("then", "tcg", past)).line == "nothing differs"


def test_times_under_another_accelerator_say_nothing(tmp_path: Path) -> None:
    assert against(tmp_path, "g", "g", (90, 1), "kvm").slower == []


def test_runs_that_share_no_cell_are_passed_over(tmp_path: Path) -> None:
    past = History(tmp_path / "history.sqlite")
    other = [Cell("boot", "", "another", Outcome.GREEN, 1)]
    facts, cells = gallery.matrix(tmp_path, 1)
    past.add(facts, cells)
    past.add(gallery.matrix(tmp_path, 2)[0], other)
    now, cells = gallery.matrix(tmp_path, 3)
    past.add(now, cells)
    assert [each.label[:16] for each in recall(past, now, cells)] == ["2025-03-09 15:05"]


def test_the_past_of_a_run_ends_where_it_began_and_is_bounded(tmp_path: Path) -> None:
    past = History(tmp_path / "history.sqlite")
    cells = [Cell("kill", "", "guest", Outcome.GREEN, 1)]
    for hour in range(STRIP + 5):
        past.add(gallery.matrix(tmp_path, hour)[0], cells)
    assert len(recall(past, gallery.matrix(tmp_path, STRIP + 4)[0], cells)) == STRIP < LOOK_BACK
    assert len(recall(past, gallery.matrix(tmp_path, 2)[0], cells)) == 2
    assert recall(past, gallery.matrix(tmp_path, 0)[0], cells) == []


def test_a_history_that_does_not_know_the_run_is_not_its_own(tmp_path: Path) -> None:
    past = History(tmp_path / "history.sqlite")
    facts, cells = gallery.matrix(tmp_path, 1)
    past.add(facts, cells)
    elsewhere = dataclasses.replace(facts, started=gallery.matrix(tmp_path, 2)[0].started)
    assert recall(past, elsewhere, cells) == []


def test_the_results_in_a_folder_are_a_run_to_compare_with(tmp_path: Path) -> None:
    places = gallery.places(tmp_path)
    facts, cells = gallery.matrix(places.out, gallery.LATEST)
    write_report(places, facts, cells, {})
    found = of_folder(places.out)
    assert compare(facts, cells, found).line == "nothing differs"
    assert found.cells["debian-12/transfer"].retries == 1


def test_a_cell_that_was_cut_short_in_that_folder_was_not_tried_there(tmp_path: Path) -> None:
    places = gallery.places(tmp_path)
    facts = gallery.facts(places.out)
    write_report(places, facts, [Cell("kill", "", "guest", Outcome.RED, 1, INTERRUPTED)], {})
    now = [Cell("kill", "", "guest", Outcome.GREEN, 1)]
    assert compare(facts, now, of_folder(places.out)).line == "1 new"


def test_another_folders_run_is_no_bar_of_a_cells_past(tmp_path: Path) -> None:
    places = gallery.places(tmp_path)
    facts, cells = gallery.matrix(places.out, 1)
    write_report(places, facts, cells, {})
    (row, *_) = rows_of(places.out, facts, cells, [of_folder(places.out)])
    assert row.bars is None
