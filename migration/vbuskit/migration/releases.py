# SPDX-License-Identifier: MIT
"""The profiles of our own releases, which the tree has: migration/profiles."""

from __future__ import annotations

from pathlib import Path

from vbuskit.base.errors import Blocked, UsageError, printable
from vbuskit.base.places import ROOT
from vbuskit.migration.reading import release_profile
from vbuskit.migration.release import Release

PROFILES = ROOT / "migration" / "profiles"
NEXT = PROFILES / "next.json"  # what this tree's own programs offer


def names() -> list[str]:
    """`0.1` and so on, and `next` for this tree."""
    return sorted(path.stem for path in PROFILES.glob("*.json"))


def released() -> list[Release]:
    """Never none: whoever compares with all of them shall not compare with nothing."""
    found = [release_profile(PROFILES / f"{name}.json") for name in names() if name != NEXT.stem]
    if not found:
        raise Blocked(f"{PROFILES}: no profile of a release is there", hint="use a checkout of vbuskit")
    return found


def named(word: str) -> Release:
    """By `0.1`, `v0.1`, `next`, or the path of a file."""
    name = word.removeprefix("v")
    if name in names():
        return release_profile(PROFILES / f"{name}.json")
    try:
        return release_profile(Path(word))
    except Blocked as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        known = ", ".join(names())
        raise UsageError(printable(f"{word}: no release and no file"), hint=f"releases: {known}") from error
