# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vbuskit.ci import gallery, results
from vbuskit.ci.compare import Earlier
from vbuskit.ci.history import Past
from vbuskit.ci.page import html
from vbuskit.ci.summary import MOST, code, markdown
from vbuskit.compat.cells import Cell, Outcome

HOSTILE = "<img src=x>`@all`` ](http://a.b)\n## |no| \x1b[2J"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return gallery.places(tmp_path).out


def test_it_says_the_verdict_what_is_red_and_how_it_is_tried_again(out: Path) -> None:
    text = markdown(*gallery.matrix(out, gallery.LATEST))
    assert text.startswith("## ❌ vbuskit `0.1.0`: 2 of 84 cells did not hold")
    assert "| `debian-13` | 16 | 1 | 0 |" in text
    assert "- `debian-13/kill` red, put down to product: `<script>alert(1)</script>: epoch" in text
    assert "  - again: `./vbuskit matrix run --guest debian-13 --only kill`" in text
    assert "- `debian-12/transfer`: red (`libvirtd: end of file from the monitor`), then green" in text


def test_a_planted_defect_is_told_of_on_every_page_and_read_back(out: Path) -> None:
    facts, cells = gallery.matrix(out, gallery.LATEST)
    facts = dataclasses.replace(facts, defect="late")
    assert results.decode(out, results.encode(out, facts, cells))[0].defect == "late"
    assert "with the planted defect `late`" in markdown(facts, cells)
    assert "with the planted defect <code>late</code>" in html(out, facts, cells)


def test_what_does_not_count_comes_last_and_says_so(out: Path) -> None:
    lines = [line for line in markdown(*gallery.matrix(out, gallery.LATEST)).splitlines() if " red" in line]
    asides = ["informing" in line or "quarantined" in line for line in lines if line.startswith("- `")][:4]
    assert asides == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("a `b` c", "``a `b` c``"),
        ("`a", "`` `a ``"),
        ("one\n\n## two\r\n", "`one ## two`"),
        ("\x1b[31mred\x1b[0m", "`red`"),
        ("", "`?`"),
    ],
)
def test_a_code_span_is_one_line_that_its_text_cannot_leave(text: str, shown: str) -> None:
    assert code(text) == shown


def test_a_long_text_is_cut() -> None:
    assert len(code("x" * 100_000)) < 400


def test_hostile_text_is_only_in_code_spans(out: Path) -> None:
    cell = Cell(HOSTILE, HOSTILE, HOSTILE, Outcome.RED, 1.0, HOSTILE, again=HOSTILE)
    facts = dataclasses.replace(gallery.facts(out), version=HOSTILE, commit=HOSTILE, accelerator=HOSTILE)
    past = [Earlier(HOSTILE, HOSTILE, {"x": Past(Outcome.GREEN, 1.0)})]
    for line in markdown(facts, [cell], past).splitlines():
        assert not outside_code(line).count("<") and "@" not in outside_code(line)
        if line.startswith("| `"):
            assert line.count("|") == 5


def outside_code(line: str) -> str:
    """What CommonMark takes for text: a span ends at as many backticks as it began with."""
    left = ""
    while line:
        before, tick, line = line.partition("`")
        left += before
        if not tick:
            break
        fence = "`" + line[: len(line) - len(line.lstrip("`"))]
        line = line.lstrip("`")
        end = next(
            (
                place
                for place in range(len(line))
                if line.startswith(fence, place)
                and not line.startswith("`", place + len(fence))
                and (place == 0 or line[place - 1] != "`")
            ),
            None,
        )
        if end is None:
            left += fence
        else:
            line = line[end + len(fence) :]
    return left


def test_the_measure_of_code_spans_sees_what_is_outside() -> None:
    assert outside_code("a `b <` <c> ``d ` e`` f `g") == "a  <c>  f `g"


def test_a_thousand_red_cells_are_a_short_list(out: Path) -> None:
    cells = [Cell(f"cell-{n}", "", "debian-12", Outcome.RED, 1.0, "x" * 9999) for n in range(1000)]
    text = markdown(gallery.facts(out), cells)
    assert f"and {1000 - MOST} more" in text
    assert len(text.encode()) < 60_000


def test_a_run_without_cells_has_a_summary(out: Path) -> None:
    assert "Nothing was tried." in markdown(gallery.facts(out), [])
