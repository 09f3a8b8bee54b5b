# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest

from vbuskit.ci.plain import LINE_CHARS, TAIL_BYTES, TAIL_LINES, bounded, plain, tail


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://x\x1b\\link", "link"),
        ("\x1b(Bok\x1bM", "ok"),
        ("one\r\ntwo\r\r\nthree\rfour", "one\ntwo\nthree\nfour"),
        ("tab\tstays", "tab\tstays"),
        ("\x00\x0b\x7f\x85\ufffe", "\ufffd" * 5),
        ("\u202eevil", "\ufffdevil"),
        ("ünïcödé 🚌", "ünïcödé 🚌"),
        ("\x1b", "\ufffd"),
    ],
)
def test_text_is_made_plain(raw: str, shown: str) -> None:
    assert plain(raw) == shown


def test_long_values_are_cut_with_a_note() -> None:
    assert bounded("x" * 12, 10) == "xxxxxxxxxx … (2 more characters)"
    assert bounded("x" * 10, 10) == "x" * 10


def test_a_tail_is_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(1000)))
    lines = str(tail(log)).split("\n")
    assert (len(lines), lines[0], lines[-1]) == (TAIL_LINES, str(1000 - TAIL_LINES), "999")


def test_a_tail_is_bounded_whatever_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_000)
    assert len(str(tail(log))) < LINE_CHARS + 40
    log.write_bytes(b"\xff\n" * 10_000_000)
    assert len(str(tail(log))) <= TAIL_BYTES


def test_what_is_no_regular_file_has_no_tail(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert tail(tmp_path / "pipe") is None
    assert tail(tmp_path / "gone") is None
    assert tail(tmp_path) is None
