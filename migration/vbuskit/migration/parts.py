# SPDX-License-Identifier: MIT
"""Profiles with only those fields that a rule reads, so that what is the same to it is judged once.

A rule that gets a `Part` and reads a field which is not in it raises `Unread`; whoever asked puts the field
in and asks again. So a rule that comes to its end has read nothing else, whatever is in the other fields.
Names are not told apart: each is `GUEST` or `HOST`, and so is each device's UUID that no host tells of.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast
from uuid import UUID

from msgspec import Struct, msgpack

from vbuskit.migration.profile import GuestBus, GuestDevice, GuestProfile, HostBus, HostProfile

GUEST, HOST = "\ue000guest\ue000", "\ue000host\ue000"
DEVICE = UUID("ffffffff-ffff-4fff-bfff-fffffffffff0")  # stands for any device's
KINDS: dict[str, type[Struct]] = {
    "guest": GuestProfile,
    "guest.bus": GuestBus,
    "device": GuestDevice,
    "host": HostProfile,
    "host.bus": HostBus,
}


class Field(NamedTuple):
    """`scope`: one of KINDS."""

    scope: str
    name: str


Fields = dict[str, tuple[str, ...]]  # by scope, the names of those that a rule reads


class Unread(Exception):
    def __init__(self, field: Field) -> None:
        super().__init__(f"{field.scope}.{field.name}")
        self.field = field


class Part:
    """Stands for a profile; what is not a field (a method, a property) is the profile's own."""

    def __init__(self, scope: str, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        self.__dict__["_scope"] = scope

    def __getattr__(self, name: str) -> Any:
        scope = self.__dict__["_scope"]
        own = getattr(KINDS[scope], name)
        if isinstance(own, property):
            return cast(Any, own.fget)(self)
        if callable(own):
            return own.__get__(self)
        raise Unread(Field(scope, name))


def key(whole: Struct, names: tuple[str, ...], uuids: frozenset[UUID] = frozenset()) -> tuple[object, ...]:
    """What is equal for two that a rule cannot tell apart; of UUIDs only `uuids` are told apart."""
    return tuple(coded(told(getattr(whole, name), uuids)) for name in names)


def values(whole: Struct, names: tuple[str, ...], uuids: frozenset[UUID] = frozenset()) -> dict[str, Any]:
    return {name: told(getattr(whole, name), uuids) for name in names}


def told(value: Any, uuids: frozenset[UUID]) -> Any:
    return DEVICE if isinstance(value, UUID) and value not in uuids else value


def coded(value: Any) -> object:
    return msgpack.encode(value) if isinstance(value, dict | tuple) else value
