# SPDX-License-Identifier: MIT
"""The JSON Schema of profiles, made from their classes: docs/schema/{host,guest}-profile.json.

It is for who writes or checks profiles without vbuskit. What it accepts may yet be refused: no schema can
say that a UUID is there once.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from typing import Any

import msgspec

from vbuskit.migration.profile import GuestProfile, HostProfile

KINDS: dict[str, type[HostProfile | GuestProfile]] = {"host": HostProfile, "guest": GuestProfile}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLACE = "https://vbuskit.invalid/schema"  # a name, not an address: RFC 2606


def schema(kind: str) -> dict[str, Any]:
    """Of a `host`'s or a `guest`'s profile."""
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
