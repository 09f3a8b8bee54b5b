# SPDX-License-Identifier: MIT
"""pytest-xdist's scheduling by groups, with an end: what a worker died in is tried once more, and shown so.

Its own (3.8.0) gives the whole group of a dead worker to another one, the test that it died in included: a
test that kills its worker does so until --max-worker-restart is reached, and one that does not the second
time has failed all the same. Its groups are gone besides with pytest 9.2: it writes them into a field that
nobody reads any more; so whoever makes the scheduler says which group a test is of. What shows an attempt
as one is `-p vbuskit.compat.crash`. Workers that end before they try anything are replaced a few times only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

RETRIES = 1
LIVES = 3  # of each worker, as long as none has begun a test: then the machine is to blame
RETRIED = "retried"  # the outcome of an attempt that is followed by another one; neither passed nor failed


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """For pytest_xdist_make_scheduler. All tests of a group, by their names, have one worker at a time."""

    def __init__(self, config: pytest.Config, log: Any, group_of: Callable[[str], str]) -> None:
        super().__init__(config, log)
        self.crashes: Counter[str] = Counter()
        self._group_of = group_of

    def _split_scope(self, nodeid: str) -> str:
        return self._group_of(nodeid)

    def remove_node(self, node: Any) -> str | None:
        """The test that it died in, or None; the rest of its groups goes to the others."""
        assigned: dict[str, dict[str, bool]] = self.assigned_work.pop(node)
        left = {scope: unit for scope, unit in assigned.items() if not all(unit.values())}
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


class Starts:
    """A plugin of the controller: ends a session whose workers end, again and again, before any test begins.

    pytest-xdist would go on up to --max-worker-restart, which has to be large for those that die in a test.
    """

    def __init__(self, workers: int) -> None:
        self._most = LIVES * workers
        self._ended = 0  # in a row

    def pytest_runtest_logstart(self) -> None:
        self._ended = 0

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        self._ended += error is not None
        if self._ended >= self._most:
            last = f"{node.gateway.id}: {error}"
            pytest.exit(f"{self._ended} workers in a row ended before they tried anything, {last}")


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    if isinstance(sched, Groups) and sched.is_tried_again(crashitem):
        report.outcome = RETRIED


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    return (RETRIED, "R", RETRIED.upper()) if report.outcome == RETRIED else None
