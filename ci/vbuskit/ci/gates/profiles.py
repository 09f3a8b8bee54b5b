# SPDX-License-Identifier: MIT
"""Many profiles from the command line: files, and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vbuskit.base.errors import Blocked, printable
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile, host_profiles


def hosts_of(paths: Sequence[Path]) -> list[HostProfile]:
    return host_profiles(files(paths))


def guests_of(paths: Sequence[Path]) -> list[GuestProfile]:
    return [guest_profile(path) for path in files(paths)]


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """In the order of the command line; of a folder by name."""
    for path in paths:
        inside = sorted(path.glob("*.json")) if is_folder(path) else [path]
        if not inside:
            raise Blocked(
                printable(f"{path}: no *.json in there"), hint="`vbuskit gate capture` writes profiles"
            )
        yield from inside


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its reader says why
        return False
