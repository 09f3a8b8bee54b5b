# SPDX-License-Identifier: MIT
from __future__ import annotations

import time

import pytest

from vbuskit.base.wait import patience, patient
from vbuskit.compat.speed import LOOK, MOST, REFERENCE, slowness, unhurried


class Machine:
    """One where a round takes so many seconds, by a clock of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def do(self, steps: int) -> None:
        self.now += self.seconds

    def slowness(self) -> float:
        return slowness(lambda: self.now, self.do)


@pytest.mark.parametrize("times", [0.5, 1, 3, 100])
def test_a_machine_is_as_slow_as_its_rounds_are_long(times: float) -> None:
    machine = Machine(REFERENCE * times)
    assert machine.slowness() == pytest.approx(times)
    assert machine.now <= LOOK + REFERENCE * times


def test_the_probe_is_over_within_a_second_and_says_something_here() -> None:
    start = time.monotonic()
    seen = slowness()
    assert 0.01 < seen < 1000
    assert time.monotonic() - start < 1 + seen * REFERENCE * 2


@pytest.mark.parametrize(("slow", "factor"), [(0.2, 1), (1, 1), (2.5, 2.5), (1000, MOST)])
def test_waits_become_longer_with_a_slow_machine_within_bounds_and_never_shorter(
    slow: float, factor: float
) -> None:
    with unhurried(lambda: slow) as seen:
        assert (seen, patient(10)) == (factor, 10 * factor)
    assert patient(10) == 10


def test_a_guest_that_is_slow_by_nature_is_as_much_slower_on_a_slow_machine() -> None:
    with patience(6), unhurried(lambda: 2.0):
        assert patient(10) == 120
