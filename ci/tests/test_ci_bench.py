# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.ci.cli import main
from vbuskit.ci.commands.bench import table
from vbuskit.drivers.figures import Bar, Figure, Result

RESULT = Result(
    figures=(Figure("calls", "ENUMERATE", "calls/s", (4000.0, 1000.0, 2000.0)),),
    bars=(
        Bar("add", "p99", "ms", 20.0, 3.21),
        Bar("idle", "switches", "", 0, 7),
        Bar("net", "ratio", "", 1.0, 0.9, at_least=True),
    ),
    skipped={"tap": "needs root"},
)


def test_the_table_has_median_and_spread_each_bar_and_what_was_skipped() -> None:
    lines = [" ".join(line.split()) for line in table(RESULT)]
    assert "calls ENUMERATE 2,000 1,000 4,000 calls/s" in lines
    assert "holds add: p99: 3.21, at most 20 ms" in lines
    assert "BROKEN idle: switches: 7, at most 0" in lines
    assert "BROKEN net: ratio: 0.9, at least 1" in lines
    assert "skipped tap: needs root" in lines


def test_each_bar_that_does_not_hold_is_a_line_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["bench", "host", "--quick", "--only", "lines", "--json"])
    seen = capsys.readouterr()
    result = json.loads(seen.out)
    broken = [bar for bar in result["bars"] if not bar["holds"]]
    assert {figure["section"] for figure in result["figures"]} == {"lines"}
    assert sum(figure["median"] for figure in result["figures"]) == result["bars"][0]["seen"]
    assert code == (Exit.FAILED if broken else Exit.OK)
    assert seen.err.count("does not hold\n") == len(broken)


@pytest.mark.parametrize("what", ["net", "packages"])
def test_only_the_bench_of_the_host_has_sections(capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert main(["bench", what, "--only", "lines"]) == Exit.USAGE
    assert f"bench {what}: has no sections" in capsys.readouterr().err
    assert main(["bench", "disk", "--pairs", "0"]) == Exit.USAGE


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: boots a guest")
@pytest.mark.parametrize(("what", "unit"), [("net", "/frame"), ("disk", "/request")])
def test_a_quick_bench_in_a_guest_measures_both_kinds_and_judges_them(
    what: str, unit: str, tmp_path: Path
) -> None:
    """How fast either is says nothing here; that all of it was counted does."""
    words: list[str | Path] = ["bench", what, "--quick", "--json", "--out", tmp_path]
    done = Runner().attempt([ROOT / "vbuskit", *words], seconds=1500)
    result = json.loads(done.out)
    broken = [bar for bar in result["bars"] if not bar["holds"]]
    assert done.code == (Exit.FAILED if broken else Exit.OK), done.err
    assert len(result["bars"]) == (4 if what == "net" else 2)
    medians = {(one["name"], one["unit"]): one["median"] for one in result["figures"]}
    for kind in ("vbus", "virtio"):
        for cost in ("CPU", "interrupts", "bytes"):
            found = [value for (name, _), value in medians.items() if name.endswith(f": {kind}, {cost}")]
            assert len(found) == 2 and min(found) > 0
    assert [name for name, of in medians if of == unit and name.endswith(": vbus, doorbells")]


def test_a_section_that_nobody_knows_is_refused() -> None:
    assert main(["bench", "host", "--only", "speed"]) == Exit.USAGE
