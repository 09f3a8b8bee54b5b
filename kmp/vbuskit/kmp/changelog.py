# SPDX-License-Identifier: MIT
"""The one date of a release: the top entry of kmp/debian/changelog, as dpkg takes SOURCE_DATE_EPOCH from it.

A clock or a commit would give the same sources other bytes on another day; the changelog is a source.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from vbuskit.base.errors import Refused, UsageError

HEAD = re.compile(r"^\S+ \((?P<version>[^)]+)\)")
DATE = re.compile(r"^ -- .+>  (?P<date>.+)$", re.MULTILINE)
EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class Release:
    """What is built: vbuskit's version, Debian's spelling of it, and its date in seconds since 1970 UTC."""

    version: str
    debian_version: str
    epoch: int


def current_release(tree: Path) -> Release:
    """Read VERSION and the changelog, which must agree; SOURCE_DATE_EPOCH in the environment wins."""
    version = (tree / "VERSION").read_text().strip()
    text = (tree / "kmp/debian/changelog").read_text()
    head, date = HEAD.match(text), DATE.search(text)
    if head is None or date is None:
        raise Refused(
            "kmp/debian/changelog: its top entry has no version or no date", hint="see deb-changelog(5)"
        )
    if head["version"] != debian_version(version):
        raise Refused(
            f"kmp/debian/changelog: its top entry is {head['version']}, VERSION is {version}",
            hint=f"add an entry for {debian_version(version)}",
        )
    return Release(version, head["version"], epoch_from(os.environ.get(EPOCH), date["date"]))


def epoch_from(given: str | None, date: str) -> int:
    if given is None:
        return int(parsedate_to_datetime(date).timestamp())
    if not given.isascii() or not given.isdigit() or int(given) >= 1 << 32:
        raise UsageError(f"{EPOCH}={given}: is no number of seconds", hint="unset it")
    return int(given)


def debian_version(version: str) -> str:
    """PEP 440 to Debian: a pre-release sorts before its release, so it follows a tilde (0.1.0~dev0)."""
    return re.sub(r"\.?(dev|a|b|rc)(?=\d+$)", r"~\1", version)
