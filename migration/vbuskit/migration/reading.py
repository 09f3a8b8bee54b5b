# SPDX-License-Identifier: MIT
"""Profiles from files, which may be anybody's: refused in one line with the JSON path, or as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vbuskit.base.errors import Blocked, Refused, printable
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.release import Release

LARGEST = 8 << 20  # bytes; the profile of a host with 10,000 images has 2
DEEPEST = 16  # levels
Profile = TypeVar("Profile", HostProfile, GuestProfile, Release)


def host_profile(path: Path) -> HostProfile:
    """Raises Refused: no host's profile, with the JSON path; Blocked: it cannot be read."""
    return read(path, HostProfile)


def guest_profile(path: Path) -> GuestProfile:
    """Raises as `host_profile` does."""
    return read(path, GuestProfile)


def release_profile(path: Path) -> Release:
    """Raises as `host_profile` does."""
    return read(path, Release)


def read(path: Path, kind: type[Profile]) -> Profile:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise Blocked(f"{path}: {error.strerror}", hint="`vbuskit gate capture` writes one") from error
    return parse(raw, kind, str(path))


def parse(raw: bytes, kind: type[Profile], where: str) -> Profile:
    """`where` is what an error begins with."""
    if len(raw) > LARGEST:
        raise Refused(f"{where}: has more than {LARGEST >> 20} MiB, so it is no profile")
    try:
        words = json.loads(raw, object_pairs_hook=once, parse_constant=no_number)
        found = msgspec.convert(words, kind, strict=True, str_keys=True)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise Refused(f"{where}: {printable(str(error))}", hint="capture it again") from error
    unknown = dict(found.unknown)
    known = {"kind", *(field.encode_name for field in msgspec.structs.fields(kind))}
    unknown |= {f"$.{name}": words[name] for name in sorted(words.keys() - known)}
    return msgspec.structs.replace(found, unknown=unknown) if unknown else found


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are there once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice in one object")
    return found


def no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
