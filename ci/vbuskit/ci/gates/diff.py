# SPDX-License-Identifier: MIT
"""`vbuskit gate diff A B`: what only one of two profiles has, and what differs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import msgspec

from vbuskit.base.errors import Exit, printable
from vbuskit.migration.decoding import LARGEST
from vbuskit.migration.diff import Diff, diff
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile, host_profile, release_profile
from vbuskit.migration.release import Release
from vbuskit.migration.releases import named, names

READERS: Mapping[str, Callable[[Path], HostProfile | GuestProfile | Release]] = {
    "host": host_profile,
    "guest": guest_profile,
    "release": release_profile,
}


class Kind(msgspec.Struct):
    """As much of a profile as says how to read it."""

    kind: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("here", metavar="A", help="a host's or a guest's profile, or a release")
    parser.add_argument("there", metavar="B", help="another one of that kind")
    parser.add_argument("--json", action="store_true", help="what differs as one object")


def main(options: argparse.Namespace) -> Exit:
    found = diff(profile(options.here), profile(options.there))
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        for line in lines(found, options.here, options.there):
            print(printable(line))
    return Exit.FAILED if found else Exit.OK


def profile(word: str) -> HostProfile | GuestProfile | Release:
    """A file of any kind; what says none is refused as a host's."""
    if word.removeprefix("v") in names():
        return named(word)
    path, said = Path(word), Kind()
    with suppress(OSError, ValueError, RecursionError, msgspec.MsgspecError):
        if path.is_file() and path.stat().st_size <= LARGEST:
            said = msgspec.json.decode(path.read_bytes(), type=Kind)
    return READERS.get(said.kind, host_profile)(path)


def lines(found: Diff, here: str, there: str) -> Iterator[str]:
    """As diff has it: what only the first one has with a minus, what only the second one has with a plus."""
    yield f"{here} and {there}: {'differ' if found else 'the same'}"
    yield from (f"- {each}" for each in found.only_here)
    yield from (f"+ {each}" for each in found.only_there)
    yield from (f"~ {name}: {was} -> {now}" for name, (was, now) in found.changed.items())
