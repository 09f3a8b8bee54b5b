# SPDX-License-Identifier: MIT
"""Profiles from anybody: what is wrong is refused in one line with its JSON path, what is new is kept."""

from __future__ import annotations

import copy
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from vbuskit.base.errors import Blocked, Refused
from vbuskit.migration import Verdict, judge
from vbuskit.migration.decoding import COMMAS, DEEPEST, LARGEST
from vbuskit.migration.paths import joined, steps_of
from vbuskit.migration.profile import SCHEMA, GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile, host_profile, host_profiles, parse
from vbuskit.migration.writing import canonical

CARD = "00000000-0000-0000-0000-000000000007"
ABOUT = {"schema": 1, "release": "0.2.0", "captured": "2026-11-24T00:00:00Z", "arch": "x86_64"}
GUEST: dict[str, Any] = {
    **ABOUT,
    "kind": "guest",
    "identity": "00000000-0000-0000-0000-000000000001",
    "name": "vm1",
    "machine": "pc-q35-7.2",
    "cpu": "qemu64",
    "bus": {"version": 1, "window": 16, "vectors": 8},
    "devices": [
        {
            "uuid": CARD,
            "type": "venet",
            "version": 1,
            "class": "venet-tap",
            "active": {"0": 1, "3": 7},
            "limits": {"mtu": 1500},
        }
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
    "classes": [{"name": "venet-tap", "type": "venet", "version": 1, "groups": {"0": 15, "3": 7}}],
    "mask": {"venet": {"0": 2}},
    "masks": {CARD: {"0": 4}},
    "images": [{"path": "/srv/a.raw", "size": 1 << 20}],
}


def guest(raw: bytes) -> GuestProfile:
    return parse(raw, GuestProfile, "vm1.json")


def host(raw: bytes) -> HostProfile:
    return parse(raw, HostProfile, "host2.json")


def with_value(document: dict[str, Any], path: str, value: Any) -> bytes:
    """The document with this value there."""
    changed = copy.deepcopy(document)
    *where, last = steps_of(path)
    place: Any = changed
    for step in where:
        place = place[step]
    place[last] = value
    return json.dumps(changed).encode()


def refusal(read: Callable[[bytes], object], raw: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(raw)
    text = str(caught.value)
    assert text.isprintable() and caught.value.hint and len(text) < 11_000
    return text.partition(": ")[2]


def test_what_is_a_profile_is_read() -> None:
    assert guest(json.dumps(GUEST).encode()).devices[0].active == {0: 1, 3: 7}
    assert host(json.dumps(HOST).encode()).images[0].size == 1 << 20


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("$.devices[0].active['0']", -1, "Expected `int` >= 0"),
        ("$.devices[0].active['0']", 1 << 32, "Expected `int` <= 4294967295"),
        ("$.devices[0].active['0']", 1.0, "Expected `int`, got `float`"),
        ("$.devices[0].active['0']", True, "Expected `int`, got `bool`"),
        ("$.devices[0].active['0']", "1", "Expected `int`, got `str`"),
        ("$.devices[0].active['0']", 1 << 64, "a number has more than 64 bits"),
        ("$.devices[0].active['0']", 10**4000, "a number has more than 64 bits"),
        ("$.devices[0].active['0']", float("nan"), "NaN is no number of JSON"),
        ("$.devices[0].active['0']", float("-inf"), "-Infinity is no number of JSON"),
        ("$.devices[0].active.x", 1, "its name: Expected `int`, got `str`"),
        ("$.devices[0].active['-1']", 1, "its name: Expected `int` >= 0"),
        ("$.devices[0].active['01']", 1, "its name: Expected `int`, got `str`"),
        ("$.devices[0].active", {str(group): 1 for group in range(9)}, "Expected `object` of length <= 8"),
        ("$.devices[0].limits.mtu", -1500, "Expected `int` >= 0"),
        ("$.devices[0].limits['an mtu']", -1500, "Expected `int` >= 0"),
        ("$.devices[0].uuid", CARD[1:], "Invalid UUID"),
        ("$.devices[0].capacity", 1 << 64, "a number has more than 64 bits"),
        ("$.devices[0].type", "", "Expected `str` of length >= 1"),
        ("$.devices[0].type", "x" * 257, "Expected `str` of length <= 256"),
        ("$.devices", {}, "Expected `array`, got `object`"),
        ("$.bus.features", -1, "Expected `int` >= 0"),
        ("$.identity", 7, "Expected `uuid`, got `int`"),
        ("$.schema", 0, "Expected `int` >= 1"),
        ("$.schema", SCHEMA + 1, f"Expected `int` <= {SCHEMA}: is of a later vbuskit"),
        ("$.kind", "host", "is a host's profile: Expected `guest`"),
        ("$.kind", [], "is no profile: Expected `guest`"),
        ("$.kind", "word", "is no profile: Expected `guest`"),
        ("$.devices[0].uuid", "\ud800", "text has what cannot be shown"),
        ("$.name", "vm\x1b[2J", "text has what cannot be shown"),
        ("$.name", "vm\u202etxt", "text has what cannot be shown"),
        ("$.later", {"deep": ["\x07"]}, "text has what cannot be shown"),
        ("$.later", float("inf"), "Infinity is no number of JSON"),
        ("$.unknown", {"$.name": "vm2"}, "is no field of a file"),
        ("$.devices", [GUEST["devices"][0]] * 2, f"{CARD} is there twice"),
    ],
)
def test_a_wrong_value_in_a_guests_profile_is_named_by_its_path(path: str, value: Any, said: str) -> None:
    told = refusal(guest, with_value(GUEST, path, value))
    assert told.startswith(said)
    assert f" - at `{path}" in told


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("$.classes", [HOST["classes"][0]] * 2, "venet-tap is there twice"),
        ("$.images", [HOST["images"][0]] * 2, "/srv/a.raw is there twice"),
        ("$.images[0].lock", "lease", "Invalid enum value 'lease'"),
        ("$.mask.venet['0']", "x", "Expected `int`, got `str`"),
        (f"$.masks['{CARD}']['0']", 1 << 40, "Expected `int` <= 4294967295"),
        ("$.masks.card", {}, "its name: Invalid UUID"),
        (f"$.masks['{CARD}'].card", 1, "its name: Expected `int`, got `str`"),
        ("$.masks", {CARD: {}, CARD.replace("-", ""): {}}, "two names are written differently"),
        ("$.bus.version", None, "Expected `int`, got `null`"),
    ],
)
def test_a_wrong_value_in_a_hosts_profile_is_named_by_its_path(path: str, value: Any, said: str) -> None:
    told = refusal(host, with_value(HOST, path, value))
    assert told.startswith(said)
    assert f" - at `{path}" in told


def test_the_one_wrong_member_of_many_is_found() -> None:
    mask = {f"type{number}": {str(group): 1 for group in range(8)} for number in range(1000)}
    mask["type617"]["5"] = -1
    told = refusal(host, with_value(HOST, "$.mask", mask))
    assert told == "Expected `int` >= 0 - at `$.mask.type617['5']`"


def test_what_is_missing_is_named() -> None:
    without = {name: value for name, value in GUEST.items() if name != "cpu"}
    assert refusal(guest, json.dumps(without).encode()) == "Object missing required field `cpu` - at `$`"
    without = {name: value for name, value in GUEST.items() if name != "kind"}
    assert refusal(guest, json.dumps(without).encode()) == "is no profile: Expected `guest` - at `$.kind`"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b"\xff\xfe{\x00}\x00", "'utf-8' codec can't decode byte 0xff"),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM"),
        (b"{} {}", "Extra data: line 1 column 4"),
        (b"[]", "is no profile: Expected `guest` - at `$.kind`"),
        (b"null", "is no profile"),
        (b'{"kind": "guest", "kind": "guest"}', "'kind' is there twice - at `$`"),
        (b'{"a": [{"b": 1, "c": 2, "b": 1}]}', "'b' is there twice - at `$.a[0]`"),
        (b'{"a": 1e999}', "a number is too large - at `$.a`"),
        (b'{"a": "\x01"}', "Invalid control character"),
        (
            b'{"\\u0000": 1}',
            "text has what cannot be shown: a control character, or none at all - at `$['?']`",
        ),
        (b"[" * 100_000, "is nested more than 16 levels deep - at `$`"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "is nested more than 16 levels deep - at `$.a.a.a.a.a"),
        (b"[" + b"0," * (COMMAS + 1) + b"0]", f"has more than {COMMAS} commas"),
        (b'"' + b"x" * LARGEST + b'"', "has more than 8 MiB"),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(raw: bytes, said: str) -> None:
    assert refusal(guest, raw).startswith(said)


def test_a_profile_that_was_cut_short_is_refused_wherever_it_was() -> None:
    raw = json.dumps(GUEST).encode()
    for length in range(len(raw)):
        refusal(guest, raw[:length])


def test_what_is_as_deep_as_allowed_and_unknown_is_kept() -> None:
    deep: Any = 1
    for _ in range(DEEPEST - 1):
        deep = [deep]
    assert guest(with_value(GUEST, "$.later", deep)).unknown == {"$.later": deep}
    assert "levels deep" in refusal(guest, with_value(GUEST, "$.later", [deep]))


def test_the_worst_of_allowed_size_takes_seconds_at_most() -> None:
    names = ",".join(f'"{number}":{{}}' for number in range(COMMAS - 20))
    worst = [
        b'{"a": 1, %s, "a": 1}' % names.encode(),
        with_value(GUEST, "$.later", {str(n): n for n in range(COMMAS // 2)}),
        with_value(HOST, "$.mask", {str(n): {"0": 1, "x": 1} for n in range(COMMAS // 4)}),
        with_value(GUEST, "$.devices", [{"uuid": CARD}] * (COMMAS // 2)),
        b'{"a": %s}' % (b"1" * (LARGEST - 10)),
        b'{"a": "%s"}' % (b"\\u0041" * (LARGEST // 7)),
    ]
    for raw in worst:
        before = time.process_time()
        if raw is worst[1]:
            assert len(guest(raw).unknown) == 1
        else:
            refusal(host if b'"kind": "host"' in raw else guest, raw)
        assert time.process_time() - before < 3


def test_a_profile_from_the_future_names_the_release_that_can_read_it() -> None:
    later = json.dumps({**GUEST, "schema": SCHEMA + 1, "release": "0.9.0", "machine": {"type": "q35"}})
    with pytest.raises(Refused) as caught:
        guest(later.encode())
    assert str(caught.value).endswith("is of a later vbuskit - at `$.schema`")
    assert caught.value.hint == "use vbuskit 0.9.0, which wrote it, or later"


LATER = {
    "$.later": {"a": [1, None, 0.5]},
    "$.bus.later": "x",
    "$.devices[0].later": [True],
    "$.devices[0]['it\\'s \\\\ new']": 1,
}


def from_the_future(document: dict[str, Any], later: dict[str, Any]) -> bytes:
    raw = json.dumps(document).encode()
    for path, value in later.items():
        raw = with_value(json.loads(raw), path, value)
    return raw


def test_unknown_fields_at_any_depth_are_kept_and_survive_a_write() -> None:
    raw = from_the_future(GUEST, LATER)
    read = guest(raw)
    assert read.unknown == LATER
    again = canonical(read)
    assert guest(again) == read and json.loads(again)["devices"][0]["later"] == [True]
    assert "unknown" not in json.loads(again)


def test_a_need_that_is_unknown_is_a_no_that_names_who_knows_it_and_an_offer_is_no_offer() -> None:
    here = host(json.dumps({**HOST, "mask": {}, "masks": {}}).encode())
    knows = from_the_future({**GUEST, "release": "0.9.0"}, {"$.devices[0].later": 1})
    (found,) = judge(guest(knows), here).findings
    assert (found.rule, found.verdict, found.subject) == (
        "unknown-field",
        Verdict.NO,
        "$.devices[0].later",
    )
    assert "vbuskit 0.9.0" in found.remedies[0]
    known = guest(json.dumps(GUEST).encode())
    offers = {"$.later": 1, "$.classes[0].later": 1}
    there = host(from_the_future({**HOST, "mask": {}, "masks": {}}, offers))
    assert there.unknown == offers and judge(known, there) == judge(known, here)


def test_bytes_are_the_same_for_the_same_profile_however_it_was_written() -> None:
    shuffled = json.dumps(dict(reversed(HOST.items())), indent=7)
    once = canonical(host(json.dumps(HOST).encode()))
    assert canonical(host(shuffled.encode())) == once == canonical(host(once))
    assert once.endswith(b"}\n") and list(json.loads(once)) == sorted(json.loads(once))


def test_what_was_unknown_of_a_device_that_is_gone_cannot_be_written() -> None:
    read = guest(from_the_future(GUEST, LATER))
    with pytest.raises(Refused, match=r"\$\.name\.later: what it belonged to is gone"):
        canonical(replace(read, unknown={"$.name.later": 1}))
    with pytest.raises(Refused, match=r"\$\.devices\[0\]\.later: what it belonged to is gone"):
        canonical(replace(read, devices=()))


@pytest.mark.parametrize("name", ["a", "a-b", "0", "", "it's", "\\", "\\'", "a.b", "['x']", "ä", "x y"])
def test_a_path_leads_back_to_the_names_it_was_made_of(name: str) -> None:
    assert steps_of(joined([name, 3, name, name])) == [name, 3, name, name]


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), Path("/dev/stdin")):
        with pytest.raises(Refused, match="is no regular file"):
            guest_profile(path)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    looked_like = tmp_path.with_name("file")
    looked_like.touch()
    status = looked_like.stat()
    monkeypatch.setattr(Path, "stat", lambda _: status)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(30)
    try:
        with pytest.raises(Refused, match="Expecting value"):  # nobody writes to it
            guest_profile(tmp_path / "pipe")
        writer = os.open(tmp_path / "pipe", os.O_RDWR)
        with pytest.raises(Refused, match="Expecting value"):  # somebody does not yet
            guest_profile(tmp_path / "pipe")
        os.close(writer)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("loop", "Too many levels of symbolic links"),
        ("none", "No such file or directory"),
        ("n" * 300, "File name too long"),
    ):
        with pytest.raises(Blocked, match=f"{name}: {why}"):
            host_profile(tmp_path / name)


def test_a_link_to_a_profile_is_that_profile(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(json.dumps(HOST))
    (tmp_path / "link").symlink_to("real")
    assert host_profile(tmp_path / "link").name == "host2"


def test_two_hosts_with_one_identity_are_refused_by_the_names_of_both_files(tmp_path: Path) -> None:
    paths = [tmp_path / file for file in ("a.json", "b.json", "c.json")]
    for path, number, name in zip(paths, (2, 3, 2), ("host2", "host3", "host4"), strict=True):
        path.write_text(json.dumps({**HOST, "identity": str(UUID(int=number)), "name": name}))
    assert [each.name for each in host_profiles(paths[:2])] == ["host2", "host3"]
    for others in ([paths[2]], [paths[0]]):  # the same one twice is no fleet, either
        with pytest.raises(Refused) as caught:
            host_profiles([*paths[:2], *others])
        assert str(caught.value).startswith(f"{paths[0]} (host2) and {others[0]} (host")
        assert str(caught.value).endswith(f": have one identity, {UUID(int=2)}")
