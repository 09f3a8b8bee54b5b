# SPDX-License-Identifier: MIT
"""The one test of the matrix: each cell of the plan is tried; plugin.py makes the parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vbuskit.compat.cells import Cell, CellRed, Outcome
from vbuskit.compat.plan import Coordinates
from vbuskit.compat.plugin import kind_of
from vbuskit.compat.retry import retried
from vbuskit.compat.strategy import Strategy


def test_cell(where: Coordinates, cell: Callable[[], Cell], lane: Strategy, retries: int) -> None:
    judged = retried(lambda: lane.tried(kind_of(where), cell()), retries)
    if judged.outcome is Outcome.SKIPPED:
        pytest.skip(judged.reason)
    if judged.outcome is Outcome.RED:
        raise CellRed(judged.reason)
