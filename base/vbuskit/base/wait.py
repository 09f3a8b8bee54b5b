# SPDX-License-Identifier: MIT
"""Waiting for something that is seen to come true: look, and look again, until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
FACTOR: ContextVar[float] = ContextVar("FACTOR", default=1.0)


@contextmanager
def patience(factor: float) -> Iterator[None]:
    """Inside, whoever waits for a guest waits `factor` times as long, and so within another one's block."""
    before = FACTOR.set(FACTOR.get() * factor)
    try:
        yield
    finally:
        FACTOR.reset(before)


def patient(seconds: float) -> float:
    """What `seconds` of waiting are for the guest that is waited for."""
    return seconds * FACTOR.get()


def until(look: Callable[[], T | None], seconds: float, *, pause: float = 0.02) -> T | None:
    """The first true thing that `look` returns, or None when there was none within patient(`seconds`).

    It looks at least once, and once more after the deadline has passed in a pause.
    """
    deadline = time.monotonic() + patient(seconds)
    while True:
        late = time.monotonic() >= deadline
        if seen := look():
            return seen
        if late:
            return None
        time.sleep(pause)
