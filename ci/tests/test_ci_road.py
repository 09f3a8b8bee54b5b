# SPDX-License-Identifier: MIT
"""The whole road on a real guest: green as it is, red with each planted defect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.ci.road import DEFECTS

CELLS = [
    "boot",
    "install",
    "negotiate",
    "transfer",
    "loopback",
    "offloads",
    "channels",
    "frames",
    "xdp",
    "kill",
    "counters",
    "upgrade",
    "irqs",
    "irqbalance",
    "nap",
    "sleep",
    "hotadd",
    "hotremove",
    "cardlies",
    "disk",
    "mask",
    "diskkinds",
    "diskkill",
    "diskremove",
    "disklies",
    "together",
    "reload",
    "unplug",
    "leaks",
    "rootdisk",
    "lost",
    "uninstall",
]


def run(out: Path, *words: str) -> tuple[int, dict[str, str]]:
    """Exit code of `./vbuskit run`, and the outcome of each cell."""
    done = Runner().attempt([ROOT / "vbuskit", "run", "--out", out, *words], seconds=1500)
    results = out / "results.json"
    cells = json.loads(results.read_text())["cells"] if results.exists() else []
    print(done.out, done.err)
    return done.code, {cell["name"]: cell["outcome"] for cell in cells}


def reason(out: Path, name: str) -> str:
    """Why that cell is red."""
    cells = json.loads((out / "results.json").read_text())["cells"]
    return str(next(cell["reason"] for cell in cells if cell["name"] == name))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all runs of this file: what is built for one is not built again for the next."""
    return tmp_path_factory.mktemp("run")


@pytest.mark.guest
def test_every_cell_of_the_road_is_green(out: Path) -> None:
    # Debian's kernels have neither kmemleak nor a test of sleep.
    skipped = dict.fromkeys(("leaks", "nap"), "skipped")
    assert run(out) == (0, dict.fromkeys(CELLS, "green") | skipped)
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "junit.xml").exists()


# Each defect that `--defect` plants: the cell that must notice, and in which words.
PLANTED = [
    pytest.param("epoch", "kill", "seconds from a kill until the guest goes on", marks=pytest.mark.guest),
    pytest.param("late", "kill", "seconds from a kill until the guest goes on", marks=pytest.mark.full),
    pytest.param("wakeup", "negotiate", "net: state: expected open", marks=pytest.mark.guest),
    pytest.param("mask", "mask", "offered", marks=pytest.mark.guest),
    pytest.param("mac", "negotiate", "net: MAC address: expected", marks=pytest.mark.guest),
    pytest.param("torn", "disk", "files that differ when they are read back", marks=pytest.mark.full),
    pytest.param("descriptor", "disk", "health: descriptors left open", marks=pytest.mark.guest),
]


@pytest.mark.parametrize(("defect", "cell", "words"), PLANTED)
def test_a_planted_defect_turns_the_cell_red_that_is_there_for_it(
    out: Path, defect: str, cell: str, words: str
) -> None:
    code, cells = run(out, "--defect", defect, "--only", cell)
    red = [name for name, outcome in cells.items() if outcome != "green"]
    assert (code, red) == (1, [cell])
    assert words in reason(out, cell)


def test_every_defect_of_the_usual_guest_is_planted_in_a_test() -> None:
    assert sorted(str(case.values[0]) for case in PLANTED) == sorted({*DEFECTS} - {"none"})
