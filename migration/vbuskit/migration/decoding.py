# SPDX-License-Identifier: MIT
"""From bytes, which may be anybody's, to values that are safe to look at, to keep, and to show."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from vbuskit.migration.paths import Step, joined

LARGEST = 8 << 20  # bytes; the profile of a host with 10,000 images has 2
COMMAS = 400_000  # about as many values, each of which takes memory; that host has 60,000
DEEPEST = 16  # levels
DIGITS = 20  # of the largest number


class Flaw(Exception):
    """What is wrong with a value; `steps` lead to it, and grow while the exception rises."""

    def __init__(self, text: str, *steps: Step, hint: str = "capture it again") -> None:
        super().__init__(text)
        self.steps, self.hint = list(steps), hint

    def __str__(self) -> str:
        return f"{self.args[0]} - at `{joined(self.steps)}`"


class Wrong(str):
    """Stands for what is no value until its path is known: says what is wrong with it."""


def decoded(raw: bytes) -> Any:
    """Raises Flaw."""
    if len(raw) > LARGEST:
        raise Flaw(f"has more than {LARGEST >> 20} MiB, so it is no profile")
    if raw.count(b",") > COMMAS:
        raise Flaw(f"has more than {COMMAS} commas, so it is no profile")
    try:
        words = json.loads(
            raw.decode(),
            object_pairs_hook=once,
            parse_int=whole_number,
            parse_float=finite_number,
            parse_constant=lambda text: Wrong(f"{text} is no number of JSON"),
        )
    except RecursionError as error:
        raise Flaw(TOO_DEEP) from error
    except ValueError as error:  # the bytes are no text, or the text is no JSON
        raise Flaw(str(error), hint="capture it again, or copy all of it") from error
    examine(words, DEEPEST)
    return words


TOO_DEEP = f"is nested more than {DEEPEST} levels deep"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Wrong:
    """An object whose names are there once."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            break
        seen.add(name)
    return Wrong(f"{name!r} is there twice")


def whole_number(text: str) -> int | Wrong:
    number = int(text) if len(text) <= DIGITS else 1 << 64
    return number if -(1 << 63) <= number < 1 << 64 else Wrong("a number has more than 64 bits")


def finite_number(text: str) -> float | Wrong:
    number = float(text)
    return number if isfinite(number) else Wrong("a number is too large")


def examine(value: Any, levels: int) -> None:
    """Whether it is nested that deep at most, and each text in it can be shown on a terminal."""
    if isinstance(value, str):
        if isinstance(value, Wrong):
            raise Flaw(value)
        if not value.isprintable():
            raise Flaw("text has what cannot be shown: a control character, or none at all")
    elif isinstance(value, dict | list):
        if not levels:
            raise Flaw(TOO_DEEP)
        step: Step
        for step, member in value.items() if isinstance(value, dict) else enumerate(value):
            try:
                examine(step, levels)
                examine(member, levels - 1)
            except Flaw as flaw:
                flaw.steps.insert(0, step)
                raise
