# SPDX-License-Identifier: MIT
"""The whole road on a real guest: green as it is, red with each planted defect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

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
    "restored",
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


@pytest.mark.guest
def test_without_the_epoch_check_the_killed_worker_is_noticed_by_nobody_and_the_run_is_red(
    out: Path,
) -> None:
    code, cells = run(out, "--defect", "epoch", "--only", "kill")
    assert (code, cells["transfer"], cells["kill"]) == (1, "green", "red")


@pytest.mark.guest
def test_with_a_lost_wake_up_planted_the_run_is_red(out: Path) -> None:
    code, cells = run(out, "--defect", "wakeup", "--only", "loopback")
    assert code == 1
    assert "red" in cells.values()


@pytest.mark.guest
def test_with_the_mask_ignored_by_the_host_the_run_is_red(out: Path) -> None:
    code, cells = run(out, "--defect", "mask", "--only", "mask")
    assert (code, cells["negotiate"], cells["mask"]) == (1, "green", "red")
