# SPDX-License-Identifier: MIT
"""The whole road on a real guest: green as it is, red with each planted defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.ci.road import DEFECTS
from vbuskit.kmp.defects import DEFECTS as PACKAGE_DEFECTS

CELLS = [
    "boot",
    "install",
    "negotiate",
    "profile",
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
    print(done.out, done.err)
    return done.code, {cell["name"]: cell["outcome"] for cell in results(out)}


def results(out: Path) -> list[dict[str, Any]]:
    """What the last run says of its cells."""
    file = out / "results.json"
    return list(json.loads(file.read_text())["cells"]) if file.exists() else []


def verdict(out: Path, name: str) -> tuple[str, str]:
    """Why that cell is red, and what it is put down to."""
    return next((cell["reason"], cell["blame"]) for cell in results(out) if cell["name"] == name)


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
    reason, blame = verdict(out, cell)
    assert words in reason
    assert blame == "product"


def test_every_defect_of_the_usual_guest_is_planted_in_a_test() -> None:
    assert sorted(str(case.values[0]) for case in PLANTED) == sorted({*DEFECTS} - {*PACKAGE_DEFECTS, "none"})


HAS_NO, STAYS = "the new one has no", "stays as it was; mend that, then: dpkg --configure -a"


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        pytest.param("rule", [f"{HAS_NO} 61-vblk.rules, so", STAYS], marks=pytest.mark.guest),
        pytest.param("unsigned", ["vbus.ko has lost its signature", STAYS], marks=pytest.mark.guest),
        pytest.param(
            "stale",
            ["exit code 6", "was not made again: a boot by it goes without", "update-initramfs -u -k"],
            marks=pytest.mark.guest,
        ),
        pytest.param("hook", [f"{HAS_NO} vbus.ko vblk.ko 61-vblk.rules, so", STAYS], marks=pytest.mark.full),
        pytest.param(
            "lying", ["vbus.ko is of another kernel, whatever it says", STAYS], marks=pytest.mark.full
        ),
        pytest.param("foreign", ["vbus.ko is built for another kernel: ", STAYS], marks=pytest.mark.full),
    ],
)
def test_a_defect_of_the_packages_is_told_of_when_they_are_installed_before_any_reboot(
    out: Path, defect: str, words: list[str]
) -> None:
    code, cells = run(out, "--defect", defect, "--only", "install")
    assert (code, cells) == (1, {"boot": "green", "install": "red"})
    reason, blame = verdict(out, "install")
    assert [each for each in words if each not in reason] == []
    assert blame == "product"
