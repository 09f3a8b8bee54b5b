# SPDX-License-Identifier: MIT
"""Profiles from files, which may be anybody's: refused in one line with the JSON path, or as they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from vbuskit.base.errors import Blocked, Refused, printable
from vbuskit.migration.decoding import LARGEST, Flaw, decoded
from vbuskit.migration.paths import Step, exact, joined
from vbuskit.migration.profile import SCHEMA, GuestProfile, HostProfile
from vbuskit.migration.release import Release

Profile = TypeVar("Profile", HostProfile, GuestProfile, Release)
# What a profile has once: its list, and the field by which the members are told apart.
ONCE = {
    "host": {"classes": "name", "images": "path"},
    "guest": {"devices": "uuid"},
    "release": {"classes": "name"},
}


def host_profile(path: Path) -> HostProfile:
    """Raises Refused: no host's profile, with the JSON path; Blocked: it cannot be read."""
    return read(path, HostProfile)


def guest_profile(path: Path) -> GuestProfile:
    """Raises as `host_profile` does."""
    return read(path, GuestProfile)


def release_profile(path: Path) -> Release:
    """Raises as `host_profile` does."""
    return read(path, Release)


def host_profiles(paths: Iterable[Path]) -> list[HostProfile]:
    """Those of a fleet, in this order. Raises as `host_profile` does, and Refused: two are of one host."""
    seen: dict[UUID, tuple[Path, HostProfile]] = {}
    for path in paths:
        host = host_profile(path)
        first, other = seen.setdefault(host.identity, (path, host))
        if other is not host:
            raise Refused(
                printable(
                    f"{first} ({other.name}) and {path} ({host.name}): have one identity, {host.identity}"
                ),
                hint="name each host once; two hosts need two, by host_uuid in /etc/libvirt/libvirtd.conf",
            )
    return [host for _, host in seen.values()]


def read(path: Path, kind: type[Profile]) -> Profile:
    try:
        raw = content(path)
    except OSError as error:
        raise Blocked(f"{path}: {error.strerror}", hint="`vbuskit gate capture` writes one") from error
    return parse(raw, kind, str(path))


def content(path: Path) -> bytes:
    """Of a file: a device may never end and a pipe never begin, even if it comes between the two lines."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise Refused(f"{path}: is no regular file", hint="write the profile to one")
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return file.read(LARGEST + 1) or b""  # None: a pipe that says nothing yet


def parse(raw: bytes, kind: type[Profile], where: str) -> Profile:
    """`where` is what an error begins with. Raises Refused, whatever the bytes are."""
    try:
        return profile(decoded(raw), kind)
    except Flaw as flaw:
        raise Refused(printable(f"{where}: {flaw}"), hint=printable(flaw.hint)) from flaw


def profile(words: Any, kind: type[Profile]) -> Profile:
    """Raises Flaw."""
    word = str(kind.__struct_config__.tag)
    check_heading(words, word)
    try:
        found = msgspec.convert(words, kind, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        text, steps = exact(words, kind, str(error))
        raise Flaw(text, *steps) from error
    if found.unknown:
        raise Flaw("is no field of a file: what is unknown stands where it belongs", "unknown")
    check_once(found, ONCE[word])
    later = {joined(steps): value for steps, value in unknown(words, found, ())}
    return msgspec.structs.replace(found, unknown=later) if later else found


def check_heading(words: Any, kind: str) -> None:
    """What it is a profile of and by which schema, before it is looked at any closer."""
    said = words.get("kind") if isinstance(words, dict) else None
    if said != kind:
        told = f"is a {said}'s profile" if isinstance(said, str) and said in ONCE else "is no profile"
        raise Flaw(f"{told}: Expected `{kind}`", "kind")
    schema, release = words.get("schema"), words.get("release")
    if isinstance(schema, int) and schema > SCHEMA:
        wrote = (
            f"vbuskit {release}, which wrote it," if isinstance(release, str) else "the one that wrote it"
        )
        raise Flaw(
            f"Expected `int` <= {SCHEMA}: is of a later vbuskit", "schema", hint=f"use {wrote} or later"
        )


def check_once(found: HostProfile | GuestProfile | Release, lists: Mapping[str, str]) -> None:
    for name, key in lists.items():
        seen = set()
        for index, member in enumerate(getattr(found, name)):
            own = getattr(member, key)
            if own in seen:
                raise Flaw(f"{own} is there twice", name, index, key)
            seen.add(own)


def unknown(words: Any, found: object, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """What is in the words, but not in what was made of them. Raises Flaw for two names that are one."""
    if isinstance(found, msgspec.Struct):
        fields = dict(zip(found.__struct_encode_fields__, found.__struct_fields__, strict=True))
        for name, member in words.items():
            if name in fields:
                yield from unknown(member, getattr(found, fields[name]), (*steps, name))
            elif name != found.__struct_config__.tag_field:
                yield (*steps, name), member
    elif isinstance(found, tuple):
        for index, (member, made) in enumerate(zip(words, found, strict=True)):
            yield from unknown(member, made, (*steps, index))
    elif isinstance(found, dict):
        check_names(found, words, steps)
        for (name, member), made in zip(words.items(), found.values(), strict=True):
            yield from unknown(member, made, (*steps, name))


def check_names(found: dict[Any, Any], words: dict[str, Any], steps: Sequence[Step]) -> None:
    if len(found) != len(words):
        raise Flaw("two names are written differently, and are the same", *steps)
