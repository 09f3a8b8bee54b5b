# SPDX-License-Identifier: MIT
"""The smoke profile again and again: each red cell of it is a false one, and nothing may be left behind."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

ROUNDS = int(os.environ.get("VBUSKIT_SOAK_ROUNDS", "20"))


def left_behind() -> dict[str, set[str]]:
    """What a run could leave: processes of its programs, mounts, shared memory, interfaces."""
    names = {"qemu-system-x86", "libvirtd", "vbusd", "vbus-worker"}
    commands = {
        path: path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()
    }
    return {
        "processes": {f"{name} {path.parent.name}" for path, name in commands.items() if name in names},
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "shared memory": {path.name for path in Path("/dev/shm").iterdir()},
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
    }


@pytest.mark.full
def test_the_smoke_profile_is_green_each_time_without_a_retry_and_leaves_nothing(tmp_path: Path) -> None:
    before, outcomes, retries, red = left_behind(), Counter[str](), 0, []
    for number in range(1, ROUNDS + 1):
        done = Runner().attempt([ROOT / "vbuskit", "matrix", "run", "--out", tmp_path], seconds=3600)
        cells = json.loads((tmp_path / "results.json").read_text())["cells"]
        outcomes.update(cell["outcome"] for cell in cells)
        retries += sum(len(cell["retries"]) for cell in cells)
        red += [
            f"{number}: {cell['guest']}/{cell['name']}: {cell['reason']}"
            for cell in cells
            if cell["outcome"] == "red"
        ]
        after = left_behind()
        assert {what: after[what] - before[what] for what in before} == {what: set() for what in before}
        assert cells, done.err
    total = sum(outcomes.values())
    rate = len(red) / total
    print(f"{ROUNDS} rounds, {total} cells: {dict(outcomes)}, {retries} retries, false-red rate {rate:.4f}")
    assert (red, retries) == ([], 0)
