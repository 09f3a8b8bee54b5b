# SPDX-License-Identifier: MIT
"""Many profiles from the command line: files, and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from vbuskit.base.errors import Blocked, Refused, printable
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile, host_profile


def hosts_of(paths: Sequence[Path]) -> list[HostProfile]:
    """Raises Refused: two are of one host."""
    seen: dict[UUID, Path] = {}
    found = []
    for path in files(paths):
        host = host_profile(path)
        if host.identity in seen:
            raise Refused(
                printable(f"{path}: $.identity is that of {seen[host.identity]}, too"),
                hint="name each host once; two hosts need two identities",
            )
        seen[host.identity] = path
        found.append(host)
    return found


def guests_of(paths: Sequence[Path]) -> list[GuestProfile]:
    return [guest_profile(path) for path in files(paths)]


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """In the order of the command line; of a folder by name."""
    for path in paths:
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise Blocked(f"{path}: no *.json in there", hint="`vbuskit gate capture` writes profiles")
        yield from inside
