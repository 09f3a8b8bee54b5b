# SPDX-License-Identifier: MIT
"""Two profiles of one kind: what only one of them has, and what differs, bit by bit and by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

import msgspec
from msgspec import Struct

from vbuskit.base.errors import UsageError
from vbuskit.migration.features import bit_name, each_bit
from vbuskit.migration.profile import DeviceClass, GuestDevice

WHOSE = ("schema", "identity", "name", "release", "captured")  # differ between any two, and say nothing
KEYS = ("uuid", "path", "name")  # what a member of a list is known by: the first that it has


@dataclass(frozen=True, slots=True)
class Diff:
    """Facts as `classes venet-tap groups venet sg.tso6`; of each that differs both values."""

    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    changed: Mapping[str, tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.only_here or self.only_there or self.changed)


def diff(here: Struct, there: Struct) -> Diff:
    """Of two hosts, two guests or two releases; raises UsageError for a mixture."""
    if type(here) is not type(there):
        raise UsageError(
            "diff: takes two profiles of one kind", hint="a guest and a host: vbuskit gate check"
        )
    one, other = (dict(facts(profile)) for profile in (here, there))
    return Diff(
        tuple(told(name, value) for name, value in one.items() if name not in other),
        tuple(told(name, value) for name, value in other.items() if name not in one),
        {name: (one[name], other[name]) for name in one if one[name] != other.get(name, one[name])},
    )


def told(name: str, value: str) -> str:
    return f"{name}: {value}" if value else name


def facts(profile: Struct) -> Iterator[tuple[str, str]]:
    """(name, value) of all that it says; no value: that it is there is what it says."""
    for each in msgspec.structs.fields(profile):
        if each.name not in WHOSE:
            yield from walk(each.encode_name, getattr(profile, each.name), "")


def walk(name: str, value: object, kind: str) -> Iterator[tuple[str, str]]:
    """`kind`: the device type whose bits are below here."""
    if isinstance(value, Struct):
        kind = value.type if isinstance(value, DeviceClass | GuestDevice) else kind
        for each in msgspec.structs.fields(value):
            if each.name not in KEYS or isinstance(value, GuestDevice):
                yield from walk(f"{name} {each.encode_name}", getattr(value, each.name), kind)
    elif isinstance(value, tuple):
        for member in value:
            key = next((str(getattr(member, key)) for key in KEYS if hasattr(member, key)), str(member))
            yield f"{name} {key}", ""
            yield from walk(f"{name} {key}", member, kind) if isinstance(member, Struct) else ()
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from entry(name, key, member, kind)
    else:
        yield name, str(value)


def entry(name: str, key: object, member: object, kind: str) -> Iterator[tuple[str, str]]:
    """Of an object: bits of a group by their names, all else by its key, which may be a device type."""
    if isinstance(key, int) and isinstance(member, int):
        for bit in each_bit(member):
            yield f"{name} {bit_name(kind or 'any type', key, bit)}", ""
    else:
        yield from walk(f"{name} {key}", member, kind if isinstance(key, UUID) else str(key))
