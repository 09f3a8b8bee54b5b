# SPDX-License-Identifier: MIT
from __future__ import annotations

import time

import pytest

from vbuskit.base.wait import patience, patient, until


def test_the_first_true_thing_comes_back() -> None:
    looks = iter([None, "", "seen", "too late"])
    assert until(lambda: next(looks), 60, pause=0) == "seen"


def test_what_is_there_already_is_seen_without_any_time() -> None:
    assert until(lambda: "there", 0) == "there"


def test_what_never_comes_is_nothing_after_the_deadline_and_one_last_look() -> None:
    looks: list[int] = []
    assert until(lambda: looks.append(1), 0.01, pause=0.001) is None
    assert len(looks) > 1


def test_a_slow_guest_is_waited_for_as_many_times_as_long_and_the_next_one_is_not() -> None:
    with pytest.raises(ZeroDivisionError), patience(6):
        assert patient(20) == 120
        raise ZeroDivisionError
    assert patient(20) == 20


def test_whoever_waits_asks_how_patient_to_be() -> None:
    begun = time.monotonic()
    with patience(50):
        assert until(lambda: None, 0.01, pause=0.001) is None
    assert time.monotonic() - begun >= 0.5
