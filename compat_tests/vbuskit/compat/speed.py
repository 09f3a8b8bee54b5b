# SPDX-License-Identifier: MIT
"""How slow this machine is now, against the one that waits were measured on; waits are lengthened by it.

A guest under TCG is a loop of loads, stores and arithmetic on one host CPU, which it shares with whoever
else is at work. So is the probe. It is asked before a cell, and again before a wait that ran out is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vbuskit.base.wait import patience

ROUND = 200_000  # steps of one round
# Seconds of CPU for a round where the waits were measured: 2026-11-23, AMD EPYC, Python 3.11.7, the least of
# eight rounds beside other work (docs/blame.md, Time).
REFERENCE = 0.0191
LOOK = 0.5  # seconds that a probe takes
MOST = 8.0  # times as long is the longest that a wait is made: a machine that is slower is no machine for it
GRANTED: ContextVar[float] = ContextVar("GRANTED", default=1.0)  # the factor that is in force


def work(steps: int) -> int:
    number, memory = 1, bytearray(4096)
    for step in range(steps):
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF
        memory[number & 4095] ^= step & 255
    return number


def slowness(clock: Callable[[], float] = time.perf_counter, do: Callable[[int], object] = work) -> float:
    """How many times as long as on the reference the same work takes now, waiting for a CPU included."""
    rounds, start = 0, clock()
    while (seconds := clock() - start) < LOOK:
        do(ROUND)
        rounds += 1
    return seconds / (rounds * REFERENCE)


def clamped(slow: float) -> float:
    """The factor for waits: a fast machine does not make them shorter, for a load may come at any time."""
    return min(max(slow, 1.0), MOST)


@contextmanager
def unhurried(probe: Callable[[], float] = slowness) -> Iterator[float]:
    """Inside, waits are as long as this machine needs them now; the factor."""
    factor = clamped(probe())
    before = GRANTED.set(factor)
    try:
        with patience(factor):
            yield factor
    finally:
        GRANTED.reset(before)
