# SPDX-License-Identifier: MIT
"""What anybody may write into a profile, made up by libFuzzer: it is refused, or read, written and judged.

    .venv/bin/python migration/fuzz/fuzz_profiles.py -max_total_time=600 CORPUS SEEDS

An input that ends with an even byte is a file as it is; an odd one says what to change in a guest's and in a
host's profile. VBUS_FUZZ_SEEDS is a folder for inputs to begin with; VBUS_FUZZ_DEFECT plants one of DEFECTS.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["vbuskit.migration"]):
    from vbuskit.base.errors import Refused
    from vbuskit.migration import decoding, reading
    from vbuskit.migration.judge import judge
    from vbuskit.migration.profile import GuestProfile, HostProfile
    from vbuskit.migration.writing import canonical

CARD, DISK = (f"00000000-0000-0000-0000-{number:012x}" for number in (7, 8))
ABOUT = {"schema": 1, "release": "0.2.0", "captured": "2026-11-24T00:00:00Z", "arch": "x86_64"}
BITS = {"0": 0x4F, "1": 1, "2": 0x4F, "3": 7}
CARD_OF = {"uuid": CARD, "type": "venet", "version": 1, "class": "venet-tap", "active": BITS}
DISK_OF = {"uuid": DISK, "type": "vblk", "version": 1, "class": "vblk-file", "active": {"1": 7}}
GUEST: dict[str, Any] = {
    **ABOUT,
    "kind": "guest",
    "identity": "00000000-0000-0000-0000-000000000001",
    "host": "00000000-0000-0000-0000-000000000002",
    "name": "vm1",
    "machine": "pc-q35-7.2",
    "cpu": "qemu64",
    "bus": {"version": 1, "window": 16, "vectors": 8},
    "drivers": {"vbus": "0.2.0"},
    "devices": [
        {**CARD_OF, "open": True, "limits": {"mtu": 1500}, "backend": "tap0"},
        {**DISK_OF, "open": True, "limits": {"segments": 8}, "backend": "/srv/a.raw", "block_size": 512},
    ],
}
HOST: dict[str, Any] = {
    **ABOUT,
    "kind": "host",
    "identity": "00000000-0000-0000-0000-000000000002",
    "name": "host2",
    "qemu": "7.2.22",
    "libvirt": "9.0.0",
    "bus": {"version": 1},
    "machines": ["pc-q35-7.2"],
    "cpus": ["qemu64"],
    "networks": ["tap0"],
    "classes": [
        {"name": "venet-tap", "type": "venet", "version": 1, "groups": BITS, "limits": {"mtu": 9000}},
        {"name": "vblk-file", "type": "vblk", "version": 1, "groups": {"1": 7, "3": 3}},
    ],
    "mask": {"venet": {"0": 0x40}},
    "masks": {CARD: {"0": 0x2}},
    "images": [{"path": "/srv/a.raw", "size": 1 << 20, "shared": True, "lock": "ofd"}],
}
NUMBERS = [0, -1, 1, 2, 0x4F, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64]
OTHERS: list[Any] = [None, True, False, 0.0, 1.0, 0.5, 1e308, float("nan"), [], {}, [[]], {"": {}}]
WORDS = ["", "a", "0", "1", "01", "\ud800", "\x1b[2J", "\u202e", "ä", "it's", "\\", "x" * 257]
WORDS += ["$.name", "later", "unknown", "kind", "class", "venet", "vblk", CARD, DISK]
CONTEXT = "profile.json"


def one_input(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    if not provider.ConsumeBool():
        raw = provider.ConsumeBytes(len(data))
        read(raw, GuestProfile)
        read(raw, HostProfile)
        return
    guest = read(edited(GUEST, provider), GuestProfile)
    host = read(edited(HOST, provider), HostProfile)
    if guest and host:
        judgement = judge(guest, host)
        assert judgement == judge(guest, host) and "".join(map(str, judgement.findings)).isprintable()


def read(raw: bytes, kind: type[reading.Profile]) -> reading.Profile | None:
    """The profile, if it is one; then it is the same after a write, and so are the bytes."""
    try:
        found = reading.parse(raw, kind, CONTEXT)
    except Refused as refused:
        assert str(refused).startswith(f"{CONTEXT}: ") and str(refused).isprintable()
        return None
    written = canonical(found)
    again = reading.parse(written, kind, CONTEXT)
    assert again == found and canonical(again) == written
    return found


def edited(document: dict[str, Any], provider: atheris.FuzzedDataProvider) -> bytes:
    """The document with a few members changed, added or taken away, and now and then a part of it alone."""
    changed = copy.deepcopy(document)
    for _ in range(provider.ConsumeIntInRange(0, 4)):
        if changed:
            edit(changed, provider)
    raw = json.dumps(changed).encode()
    return raw[: provider.ConsumeIntInRange(0, len(raw))] if provider.ConsumeProbability() > 0.9 else raw


def edit(document: dict[str, Any], provider: atheris.FuzzedDataProvider) -> None:
    place, step = provider.PickValueInList(list(places(document)))
    what = provider.ConsumeIntInRange(0, 4)
    if what == 0:
        del place[step]
    elif what == 1:
        place[step] = value(provider)
    elif isinstance(place, list):
        place.append(copy.deepcopy(place[step]))
    elif what == 2:
        place[word(provider)] = value(provider)
    else:
        place[respelled(step, provider)] = copy.deepcopy(place[step])


def places(inside: Any) -> Iterator[tuple[Any, Any]]:
    """Each member of an object or a list, with what it is a member of."""
    for step in inside if isinstance(inside, dict) else range(len(inside)):
        yield inside, step
        if isinstance(inside[step], dict | list):
            yield from places(inside[step])


def value(provider: atheris.FuzzedDataProvider) -> Any:
    what = provider.ConsumeIntInRange(0, 5)
    if what == 0:
        return provider.PickValueInList(NUMBERS)
    if what == 1:
        return provider.ConsumeInt(8)
    if what == 2:
        return copy.deepcopy(provider.PickValueInList(OTHERS))
    if what == 3:
        return {word(provider): value(provider)}
    return [value(provider)] if what == 4 else word(provider)


def word(provider: atheris.FuzzedDataProvider) -> str:
    if provider.ConsumeBool():
        return str(provider.PickValueInList(WORDS))
    return str(provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 8)))


def respelled(name: str, provider: atheris.FuzzedDataProvider) -> str:
    return str(provider.PickValueInList([name.replace("-", ""), f"0{name}", f"{name} "]))


def keep_what_cannot_be_shown() -> None:
    """What is wrong for another reason is refused as ever."""
    strict = decoding.examine

    def examine(value: Any, levels: int) -> None:
        if not isinstance(value, str) or isinstance(value, decoding.Wrong):
            strict(value, levels)

    decoding.examine = examine


def believe_names_that_are_the_same() -> None:
    """A UUID may be written in several ways."""
    reading.check_names = lambda found, words, steps: None


DEFECTS: dict[str, Callable[[], None]] = {
    "shown": keep_what_cannot_be_shown,
    "names": believe_names_that_are_the_same,
}


def seeds() -> list[bytes]:
    files = [json.dumps(each).encode() + b"\0" for each in (GUEST, HOST)]
    return files + [Random(number).randbytes(64) + b"\1" for number in range(64)]


def main() -> None:
    if folder := os.environ.get("VBUS_FUZZ_SEEDS"):
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
    if defect := os.environ.get("VBUS_FUZZ_DEFECT"):
        DEFECTS[defect]()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
