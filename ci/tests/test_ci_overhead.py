# SPDX-License-Identifier: MIT
"""What the matrix itself adds to a cell: health check, evidence, report and pytest-xdist, without a guest.

Counted as CPU time of the controller and its workers and as what they slept, so that a machine that is busy
with something else makes it no longer; a slower one may take as much longer as the same work takes there.
`compat_tests/tests/test_compat_restore.py` has what a real guest adds to the health check.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from vbuskit.base.run import Runner
from vbuskit.compat.speed import clamped, slowness

BUDGET = 0.3  # seconds a cell
FEW, MANY = 5, 105  # cells of each of two guests: what a session costs in any case is in both

# A bench whose guest and bus are this process, scenarios that do nothing, and a run of two workers.
FAKE = """
import json, os, sys, time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.matrix import Desk, play
from vbuskit.ci import matrix
from vbuskit.ci.report import write_report
from vbuskit.ci.road import Diary
from vbuskit.compat.host import Here
from vbuskit.compat.scenario import Scenario

HERE, CELLS = Path(__file__).parent, int(os.environ["CELLS"])
OUT = HERE / f"out-{CELLS}"
slept, sleep = [0.0], time.sleep


def counted(seconds):
    slept[0] += seconds
    sleep(seconds)


time.sleep = counted


class Host(Here, SimpleNamespace):
    pass


class Guest:
    qemu, answered = 0, True

    def __init__(self, name, logs):
        self.name, self.serial = name, logs / f"{name}-serial.log"
        self.asked = 0

    def is_running(self):
        return True

    def __call__(self, command):
        self.asked += 1
        assert self.asked <= 2 * CELLS, "it is asked more than twice a cell"
        return "boot\\n4096\\n"


class Stand:
    def __init__(self, where):
        self.where = where

    @contextmanager
    def bench(self):
        logs = OUT / "logs" / self.where.guest
        logs.mkdir(parents=True)
        guest = Guest(self.where.guest, logs)
        for log in (guest.serial, logs / "vbusd.log", logs / "libvirtd.out", logs / "libvirtd.log"):
            log.touch()
        devices = [SimpleNamespace(uuid=number, is_open=True) for number in range(2)]
        bus = SimpleNamespace(
            name=guest.name,
            pid=os.getpid(),
            log=logs / "vbusd.log",
            client=SimpleNamespace(devices=lambda name: devices, classes=list),
            status=lambda: SimpleNamespace(worker=os.getpid(), connected=True),
        )
        places = Places.from_environment(OUT)
        yield SimpleNamespace(guest=guest, bus=bus, host=Host(logs=logs), places=places)
        assert guest.asked == 2 * CELLS


def pytest_vbuskit_stand(config, where):
    return Stand(where)


def pytest_vbuskit_expected(config):
    return {}


def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        with (OUT / "spent").open("a") as file:
            file.write(f"{time.process_time() + slept[0]}\\n")


def scenario(number):
    def run(self, bench, cell):
        cell.compare("x", expected=1, seen=1)

    name = f"cell{number}"
    type(name, (Scenario,), {"name": name, "title": name, "order": number, "needs": (), "run": run})
    return name


names = [scenario(number) for number in range(CELLS)]

if __name__ == "__main__":
    OUT.mkdir()
    matrix.PYTEST = (*matrix.PYTEST, "-p", "fake")
    places = Places.from_environment(OUT)
    diary = Diary(places)
    desk = Desk(diary, {"vbusd": Artifact.of(Path(__file__))})
    words = [f"--out={OUT}", "--guest=debian-12", "--guest=debian-13"]
    play(desk, [*words, *(f"--scenario={name}" for name in names)], 2)
    cells = desk.finish()
    write_report(places, diary.facts(Runner()), cells)
    spent = [float(line) for line in (OUT / "spent").read_text().splitlines()]
    outcomes = sorted({cell.outcome for cell in cells})
    said = {"cells": len(cells), "outcomes": outcomes, "workers": len(spent)}
    said["compared"] = sorted({len(cell.comparisons) for cell in cells})
    print(json.dumps({**said, "seconds": time.process_time() + slept[0] + sum(spent)}))
"""


def test_of_a_cells_time_the_matrix_takes_no_more_than_its_share(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    before = clamped(slowness(time.process_time))
    took = {}
    for cells in (FEW, MANY):
        environment = {
            "PYTHONPATH": ":".join([str(tmp_path), *sys.path[1:]]),
            "CELLS": str(cells),
            "VBUSKIT_STATE": str(tmp_path / "state"),
        }
        words = [sys.executable, str(tmp_path / "fake.py")]
        done = Runner().attempt(words, env=environment, cwd=tmp_path)
        assert done.code == 0, done.err
        said = json.loads(done.out.splitlines()[-1])
        took[cells] = said.pop("seconds")
        # Its own comparison, and five of its health: the whole check was made each time.
        assert said == {"cells": 2 * cells, "outcomes": ["green"], "workers": 2, "compared": [6]}
    each = (took[MANY] - took[FEW]) / (2 * (MANY - FEW))
    print(f"{took[FEW]:.1f} s with {2 * FEW} cells, {took[MANY]:.1f} s with {2 * MANY}: {each:.3f} s a cell")
    assert each <= BUDGET * max(before, clamped(slowness(time.process_time)))
