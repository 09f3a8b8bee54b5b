# SPDX-License-Identifier: MIT
"""Profiles as bytes: the same for the same profile, wherever and whenever they are made."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from vbuskit.base.errors import Refused
from vbuskit.migration.paths import at, steps_of
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.release import Release


def canonical(profile: HostProfile | GuestProfile | Release) -> bytes:
    """Every field, sorted by name; lists as they are; what is unknown is back where it was found."""
    words = msgspec.to_builtins(profile, str_keys=True)
    del words["unknown"]
    for path, value in profile.unknown.items():
        put(words, path, value)
    return f"{json.dumps(words, indent=1, sort_keys=True, ensure_ascii=False)}\n".encode()


def put(words: Any, path: str, value: Any) -> None:
    *where, name = steps_of(path)
    try:
        place = at(words, where)
        place[name] = value
    except (LookupError, TypeError) as error:
        raise Refused(
            f"{path}: what it belonged to is gone", hint="take it out of `unknown` as well"
        ) from error
