# SPDX-License-Identifier: MIT
"""The smoke profile again and again: each red cell of it is a false one, and nothing may be left behind.

VBUSKIT_SOAK_ROUNDS says how many times; 20, when it does not.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Arg, Runner
from vbuskit.compat.guests import Level, guest_kinds

ROUNDS = int(os.environ.get("VBUSKIT_SOAK_ROUNDS", "20"))


def gating() -> list[str]:
    """The guests of the smoke profile whose red cells count: four kernels."""
    kinds = guest_kinds(ROOT).values()
    return [kind.name for kind in kinds if kind.level is Level.GATING and kind.family == "deb"]


def left_behind(mark: str) -> dict[str, set[str]]:
    """What a run could leave: processes that have `mark`, mounts, shared memory, interfaces.

    A process has it in its environment, or as its folder's name among its words.
    """
    marked = {
        f"{said(path / 'comm').decode().strip()} {path.name}"
        for path in Path("/proc").glob("[0-9]*")
        if mark.encode() in said(path / "environ") + said(path / "cmdline")
    }
    return {
        "processes": marked,
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "shared memory": {path.name for path in Path("/dev/shm").iterdir()},
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
    }


def said(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def test_a_process_of_a_run_that_is_left_behind_is_seen(tmp_path: Path) -> None:
    mark = {"VBUSKIT_SOAK": "soak-of-a-test"}
    with Runner().start(["sleep", "60"], env=mark, output=tmp_path / "said") as process:
        seen = left_behind("soak-of-a-test")["processes"]
        assert seen == {f"sleep {process.pid}"}
    assert left_behind("soak-of-a-test")["processes"] == set()


@pytest.mark.full
def test_the_smoke_profile_is_green_each_time_without_a_retry_and_leaves_nothing(tmp_path: Path) -> None:
    mark = str(tmp_path)
    before, outcomes, retries, red, times = left_behind(mark), Counter[str](), 0, list[str](), list[float]()
    words: list[Arg] = [ROOT / "vbuskit", "matrix", "run", "--guest", *gating(), "--out", tmp_path]
    for number in range(1, ROUNDS + 1):
        start = time.monotonic()
        done = Runner().attempt(words, seconds=3600, env={"VBUSKIT_SOAK": mark})
        times.append(time.monotonic() - start)
        cells = json.loads((tmp_path / "results.json").read_text())["cells"]
        outcomes.update(cell["outcome"] for cell in cells)
        retries += sum(len(cell["retries"]) for cell in cells)
        red += [
            f"{number}: {cell['guest']}/{cell['name']}: {cell['reason']}"
            for cell in cells
            if cell["outcome"] == "red"
        ]
        print(f"round {number}: {times[-1]:.0f} s, exit code {done.code}, {len(cells)} cells", flush=True)
        after = left_behind(mark)
        assert {what: after[what] - before[what] for what in before} == {what: set() for what in before}
        assert cells, done.err
    total = sum(outcomes.values())
    rate = len(red) / total
    print(f"{ROUNDS} rounds, {total} cells: {dict(outcomes)}, {retries} retries, false-red rate {rate:.4f}")
    print(f"seconds of a round: {min(times):.0f} to {max(times):.0f}")
    assert (red, retries) == ([], 0)
