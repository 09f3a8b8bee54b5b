# SPDX-License-Identifier: MIT
"""pytest-xdist's scheduling by groups, with an end: what a worker died in is tried once more, and shown as that.

Its own (3.8.0, LoadGroupScheduling) gives the whole group of a dead worker to another one, the test that it died in
included: a test that kills its worker does so until --max-worker-restart is reached, and one that does not the second
time has failed all the same. Load with `-p vbuskit.compat.crash`, and `--dist loadgroup`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

RETRIES = 1
RETRIED = "retried"  # the outcome of an attempt that is followed by another one; neither passed nor failed


class Groups(LoadGroupScheduling):
    """`remove_node` is where xdist says that a worker is no more."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.crashes: Counter[str] = Counter()

    def remove_node(self, node: WorkerController) -> str | None:
        """The test that it died in, or None; the rest of its groups goes to the others."""
        left = {
            scope: unit for scope, unit in self.assigned_work.pop(node).items() if not all(unit.values())
        }
        crashed = next((name for unit in left.values() for name, done in unit.items() if not done), None)
        if crashed is None:
            return None
        self.crashes[crashed] += 1
        if not self.is_tried_again(crashed):
            left[self._split_scope(crashed)][crashed] = True
        self.workqueue.update({scope: unit for scope, unit in left.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def is_tried_again(self, name: str) -> bool:
        return self.crashes[name] <= RETRIES


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups | None:
    return Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    if isinstance(sched, Groups) and sched.is_tried_again(crashitem):
        report.outcome = RETRIED


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    return (RETRIED, "R", RETRIED.upper()) if report.outcome == RETRIED else None
