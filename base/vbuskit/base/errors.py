# SPDX-License-Identifier: MIT
"""The one root of every failure that the user can act on, and what the process says to the shell."""

from __future__ import annotations

import errno
from enum import IntEnum

# No room on the disk, none in the quota, none below the file size limit: the same to a user.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
LONGEST = 10_000  # characters of a line that is shown


class Exit(IntEnum):
    """Exit codes of every vbuskit command; docs/exit-codes.md is their reference."""

    OK = 0
    FAILED = 1  # something was tried and did not hold: a red cell, a failed build
    USAGE = 2  # the command line or a configuration file is wrong
    BLOCKED = 3  # something outside is missing: a package, root, a mirror, disk space
    REFUSED = 4  # something is there and must not be used: tampered, unsigned, unknown
    SKIPPED = 77  # nothing failed and nothing was tried: what it needs is not here
    INTERRUPTED = 130  # Ctrl-C, SIGTERM or SIGHUP; what was started is ended
    UNREAD = 141  # whoever read the output went away, as in `vbuskit run | head`


def printable(text: str, instead: str = "?") -> str:
    """What guests, packages and programs say, fit for a terminal: one line, no sequences, not endless."""
    shown = "".join(c if c.isprintable() else instead for c in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}..."


class VbuskitError(Exception):
    """An expected failure: printed as one line and a hint, without a traceback."""

    exit_code = Exit.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class TimedOut(VbuskitError):
    """What was waited for did not come in time.

    `moved`: in words, what moved until the time was over; empty: nothing did, None: nobody looked.
    `rested`: whether all that could have brought it was at rest by then; None: nobody looked.
    """

    def __init__(
        self, message: str, *, moved: str | None = None, rested: bool | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.moved, self.rested = moved, rested


class UsageError(VbuskitError):
    """What was asked for cannot be meant: the text says which word, the hint which words exist."""

    exit_code = Exit.USAGE


class Blocked(VbuskitError):
    """The work cannot start or go on until something outside vbuskit is put right."""

    exit_code = Exit.BLOCKED


class Refused(VbuskitError):
    """Something was verified and is not what it says it is."""

    exit_code = Exit.REFUSED
