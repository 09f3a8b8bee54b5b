# SPDX-License-Identifier: MIT
"""The JSON Schema of profiles, made from their classes: docs/schema/{host,guest,release}-profile.json.

It is for who writes or checks profiles without vbuskit. What it accepts may yet be refused: no schema can
say that a UUID is there once.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from typing import Any

import msgspec

from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.release import Release

KINDS: dict[str, type[HostProfile | GuestProfile | Release]] = {
    "host": HostProfile,
    "guest": GuestProfile,
    "release": Release,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLACE = "https://vbuskit.invalid/schema"  # a name, not an address: RFC 2606


def schema(kind: str) -> dict[str, Any]:
    """Of the profile of a `host`, a `guest` or a `release`."""
    made = msgspec.json.schema(KINDS[kind])
    for each in made["$defs"].values():
        each["description"] = cleandoc(each["description"])
    about = {
        "$schema": DIALECT,
        "$id": f"{PLACE}/{kind}-profile.json",
        "title": f"vbuskit: a {kind}'s profile",
    }
    return {**about, **made}


def text(kind: str) -> str:
    return f"{json.dumps(schema(kind), indent=1)}\n"
