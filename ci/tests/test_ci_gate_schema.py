# SPDX-License-Identifier: MIT
"""The published schema of profiles is what the classes give, and a validator not of ours reads it so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.errors import Exit, Refused
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner
from vbuskit.ci import cli
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import parse
from vbuskit.migration.release import Release
from vbuskit.migration.releases import NEXT
from vbuskit.migration.schema import KINDS
from vbuskit.migration.writing import canonical

READ: dict[str, Callable[[bytes], HostProfile | GuestProfile | Release]] = {
    "release": lambda raw: parse(raw, Release, "sample"),
    "host": lambda raw: parse(raw, HostProfile, "sample"),
    "guest": lambda raw: parse(raw, GuestProfile, "sample"),
}
CHECK = ROOT / ".venv/bin/check-jsonschema"
CARD = "00000000-0000-0000-0000-000000000007"
ABOUT = {"schema": 1, "release": "0.2.0", "captured": "2026-11-24T00:00:00Z", "arch": "x86_64"}
CARD_OF = {"uuid": CARD, "type": "venet", "version": 1, "class": "venet-tap", "active": {"0": 1}}
CLASS = {"name": "venet-tap", "type": "venet", "version": 1, "groups": {"0": 1}, "limits": {"mtu": 9000}}
GUEST: dict[str, Any] = {
    **ABOUT,
    "kind": "guest",
    "identity": "00000000-0000-0000-0000-000000000001",
    "name": "vm1",
    "machine": "pc-q35-7.2",
    "cpu": "qemu64",
    "bus": {"version": 1, "window": 16, "vectors": 8},
    "devices": [CARD_OF],
}
HOST: dict[str, Any] = {
    **ABOUT,
    "kind": "host",
    "identity": "00000000-0000-0000-0000-000000000002",
    "name": "host2",
    "qemu": "7.2.22",
    "libvirt": "9.0.0",
    "bus": {"version": 1, "features": (1 << 64) - 1},
    "classes": [CLASS],
    "mask": {"venet": {"0": 2}},
    "masks": {CARD: {"0": 4}},
    "images": [{"path": "/srv/a.raw", "size": 1 << 20}],
}
RELEASE: dict[str, Any] = {
    "kind": "release",
    "schema": 1,
    "release": "0.2.0",
    "bus": HOST["bus"],
    "classes": [CLASS],
    "wire": ["VBUS_STATUS_IO = 8"],
}
GOOD = {
    "release": [RELEASE, json.loads(NEXT.read_text()), {**RELEASE, "later": 1}],
    "guest": [GUEST, {**GUEST, "later": {"deep": [0.5]}}, {**GUEST, "host": HOST["identity"]}],
    "host": [HOST, {**HOST, "classes": [{**CLASS, "later": None}]}],
}
BAD: dict[str, list[dict[str, Any]]] = {
    "release": [
        HOST,
        {**RELEASE, "schema": 0},
        {**RELEASE, "schema": 2},
        {**RELEASE, "bus": {}},
        {**RELEASE, "wire": [8]},
        {**RELEASE, "saved": ["x" * 257]},
        {**RELEASE, "unknown": {"$.name": 1}},
        {**RELEASE, "classes": [{**CLASS, "limits": {"mtu": -1}}]},
    ],
    "guest": [
        HOST,
        {**GUEST, "schema": 2},
        {**GUEST, "schema": 0},
        {**GUEST, "identity": "1"},
        {**GUEST, "name": ""},
        {**GUEST, "name": "x" * 257},
        {**GUEST, "name": "vm\x1b[2J"},
        {**GUEST, "name": "vm\n"},
        {**GUEST, "cpu": None},
        {**GUEST, "bus": {"version": 1, "window": 16.5, "vectors": 8}},
        {**GUEST, "bus": {"version": 1, "window": True, "vectors": 8}},
        {**GUEST, "bus": {"version": 1, "window": 16}},
        {**GUEST, "bus": {**GUEST["bus"], "features": 1 << 64}},
        {**GUEST, "devices": {}},
        {**GUEST, "devices": [{**CARD_OF, "active": {"0": -1}}]},
        {**GUEST, "devices": [{**CARD_OF, "active": {"0": 1 << 32}}]},
        {**GUEST, "devices": [{**CARD_OF, "active": {"x": 1}}]},
        {**GUEST, "devices": [{**CARD_OF, "active": {"01": 1}}]},
        {**GUEST, "devices": [{**CARD_OF, "active": {str(group): 1 for group in range(9)}}]},
        {**GUEST, "devices": [{**CARD_OF, "limits": {"": 1}}]},
        {**GUEST, "devices": [{**CARD_OF, "capacity": 1 << 64}]},
        {**GUEST, "unknown": {"$.name": "vm2"}},
        {name: value for name, value in GUEST.items() if name != "kind"},
    ],
    "host": [
        GUEST,
        {**HOST, "images": [{"path": "/srv/a.raw", "lock": "lease"}]},
        {**HOST, "images": [{"path": ""}]},
        {**HOST, "images": [{"path": "x" * 4097}]},
        {**HOST, "masks": {"card": {"0": 1}}},
        {**HOST, "machines": [7]},
    ],
}


def validated(kind: str, documents: list[Any], folder: Path) -> tuple[Finished, list[Path]]:
    if not CHECK.exists():
        pytest.skip(f"{CHECK} is not there: ./vbuskit --setup makes it")
    paths = [folder / f"{number}.json" for number in range(len(documents))]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document))
    schema = ROOT / f"docs/schema/{kind}-profile.json"
    return Runner().attempt([CHECK, "-o", "json", "--schemafile", schema, *paths]), paths


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_published_is_what_the_command_prints(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gate", "schema", kind]) == Exit.OK
    published = ROOT / f"docs/schema/{kind}-profile.json"
    again = f"./vbuskit gate schema {kind} >{published.relative_to(ROOT)}"
    assert published.read_text() == capsys.readouterr().out, again


@pytest.mark.parametrize("kind", KINDS)
def test_a_validator_accepts_what_is_read_and_what_is_written(kind: str, tmp_path: Path) -> None:
    read = [READ[kind](json.dumps(each).encode()) for each in GOOD[kind]]
    written = [json.loads(canonical(each)) for each in read]
    done, _ = validated(kind, GOOD[kind] + written, tmp_path)
    assert done.code == 0, done.out


@pytest.mark.parametrize("kind", KINDS)
def test_a_validator_refuses_what_reading_refuses(kind: str, tmp_path: Path) -> None:
    for each in BAD[kind]:
        with pytest.raises(Refused):
            READ[kind](json.dumps(each).encode())
    done, paths = validated(kind, BAD[kind], tmp_path)
    refused = {error["filename"] for error in json.loads(done.out)["errors"]}
    missed = [each for path, each in zip(paths, BAD[kind], strict=True) if str(path) not in refused]
    assert missed == []
