# SPDX-License-Identifier: MIT
"""The one test of the matrix: each cell of the plan is tried; plugin.py makes the parameters."""

from __future__ import annotations

import pytest

from vbuskit.compat.cells import Cell, CellRed, Outcome
from vbuskit.compat.plan import Coordinates
from vbuskit.compat.plugin import kind_of
from vbuskit.compat.strategy import Strategy


def test_cell(where: Coordinates, cell: Cell, lane: Strategy) -> None:
    lane.tried(kind_of(where), cell)
    if cell.outcome is Outcome.SKIPPED:
        pytest.skip(cell.reason)
    if cell.outcome is Outcome.RED:
        raise CellRed(cell.reason)
