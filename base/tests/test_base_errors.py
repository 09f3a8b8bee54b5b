# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import pytest

from vbuskit.base.errors import LONGEST, Blocked, Exit, Refused, UsageError, VbuskitError, printable
from vbuskit.base.places import ROOT


@pytest.mark.parametrize(("kind", "code"), [(VbuskitError, 1), (UsageError, 2), (Blocked, 3), (Refused, 4)])
def test_every_kind_of_failure_has_its_exit_code(kind: type[VbuskitError], code: int) -> None:
    error = kind("the disk is full", hint="free some")
    assert (error.exit_code, str(error), error.hint) == (code, "the disk is full", "free some")


def test_the_documented_exit_codes_are_those_of_the_source() -> None:
    text = (ROOT / "docs/exit-codes.md").read_text()
    documented = re.findall(r"^\| (\d+) \| ([A-Z]+) \|", text, re.MULTILINE)
    assert documented == [(str(code.value), code.name) for code in Exit]


@pytest.mark.parametrize(
    "bad", ["\x1b", "\n", "\r", "\t", "\0", "\x7f", "\x9b", "\u202e", "\u2028", "\udcff"]
)
def test_what_strangers_wrote_is_shown_without_what_a_terminal_obeys(bad: str) -> None:
    assert printable(f"a{bad}b é") == "a?b é"


def test_what_strangers_wrote_is_cut_where_nobody_reads_on() -> None:
    assert printable("x" * (LONGEST + 1)) == "x" * LONGEST + "..."
