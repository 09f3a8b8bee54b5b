# SPDX-License-Identifier: MIT
"""Make hostile text (guest output, logs) fit for a page, an XML file and a reader: plain and bounded."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 60
TAIL_BYTES = 32 * 1024
LINE_CHARS = 400
VALUE_CHARS = 2000
TAILS = 2 * 1024 * 1024  # characters of logs in one page or file; beyond that a log is only named

# Terminal sequences vanish as a whole: ESC [ ... letter, ESC ] ... BEL or ST, ESC and one character.
TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-Z\\-~])")
# A serial console ends lines with \r\n or \r\r\n, and draws progress with \r alone.
RETURNS = re.compile(r"\r+\n?")
# What XML 1.0 forbids, C1 controls, and the marks that make text read otherwise than it is stored.
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def plain(text: str) -> str:
    """`text` without terminal sequences and returns; every other forbidden character becomes U+FFFD."""
    return FORBIDDEN.sub("\ufffd", RETURNS.sub("\n", TERMINAL.sub("", text)))


def bounded(text: str, limit: int = VALUE_CHARS) -> str:
    """`text` made plain, and cut with a note when it is longer than `limit`."""
    kept = plain(text)
    return kept if len(kept) <= limit else f"{kept[:limit]} … ({len(kept) - limit} more characters)"


def tail(path: Path) -> str | None:
    """The last lines of a log, or None when there is no such regular file."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - TAIL_BYTES))
            raw = log.read(TAIL_BYTES)
    except OSError:
        return None
    lines = plain(raw.decode(errors="replace")).rstrip().split("\n")
    return "\n".join(bounded(line, LINE_CHARS) for line in lines[-TAIL_LINES:])


@dataclass(slots=True)
class Room:
    """For logs in one page or file."""

    left: int = TAILS

    def tail(self, path: Path) -> str | None:
        """As `tail`, and empty when it is gone; None when there is no room for it."""
        if self.left <= 0:
            return None
        found = tail(path) or ""
        self.left -= len(found)
        return found
