# SPDX-License-Identifier: MIT
"""What only one of two profiles has, and what differs: hosts, guests, releases, by the names of bits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.base.errors import UsageError
from vbuskit.migration.diff import diff
from vbuskit.migration.profile import (
    DeviceClass,
    GuestBus,
    GuestDevice,
    GuestProfile,
    HostBus,
    HostProfile,
    Image,
)
from vbuskit.migration.releases import named

CARD = DeviceClass(name="venet-tap", type="venet", version=1, groups={0: 0x4F}, limits={"pairs": 16})
HOST = HostProfile(
    schema=1,
    identity=UUID(int=2),
    name="host2",
    release="0.2.0",
    captured="2026-11-24T00:00:00Z",
    arch="x86_64",
    qemu="7.2.22",
    libvirt="9.0.0",
    bus=HostBus(version=1),
    machines=("pc-q35-7.2", "pc-i440fx-7.2"),
    classes=(CARD,),
    images=(Image(path="/srv/a"),),
)
OPEN = GuestDevice(
    uuid=UUID(int=7), type="venet", version=1, klass="venet-tap", is_open=True, active={0: 0xF}
)
GUEST = GuestProfile(
    schema=1,
    identity=UUID(int=1),
    name="vm1",
    release="0.2.0",
    captured="2026-11-24T00:00:00Z",
    arch="x86_64",
    machine="pc-q35-7.2",
    cpu="qemu64",
    bus=GuestBus(version=1, window=16, vectors=8),
    devices=(OPEN,),
)


def test_a_profile_does_not_differ_from_itself_whoever_it_is_and_whatever_is_named_first() -> None:
    other = replace(HOST, identity=UUID(int=3), name="host3", machines=HOST.machines[::-1])
    assert not diff(HOST, other)


@pytest.mark.parametrize(
    ("words", "here", "there", "changed"),
    [
        ({"qemu": "10.0.13"}, (), (), {"qemu": ("7.2.22", "10.0.13")}),
        ({"machines": ("pc-q35-7.2",)}, ("machines pc-i440fx-7.2",), (), {}),
        (
            {"classes": (replace(CARD, groups={0: 0x4B, 1: 0x1}),)},
            ("classes venet-tap groups venet sg.tso6",),
            ("classes venet-tap groups venet eventq.linkstate",),
            {},
        ),
        (
            {"classes": (replace(CARD, limits={"pairs": 8}),)},
            (),
            (),
            {"classes venet-tap limits pairs": ("16", "8")},
        ),
        ({"mask": {"venet": {0: 0x4}}}, (), ("mask venet venet sg.tso6",), {}),
        ({"masks": {UUID(int=7): {0: 0x4}}}, (), (f"masks {UUID(int=7)} any type group 0 bit 0x4",), {}),
        (
            {"images": (Image(path="/srv/a", lock="none"),)},
            (),
            (),
            {"images /srv/a lock": ("ofd", "none")},
        ),
        ({"bus": HostBus(version=1, vectors_max=16)}, (), (), {"bus vectors_max": ("32", "16")}),
        ({"unknown": {"$.clock": 1}}, (), ("unknown $.clock: 1",), {}),
    ],
)
def test_of_two_hosts_each_difference_is_a_line(
    words: dict[str, Any], here: tuple[str, ...], there: tuple[str, ...], changed: dict[str, tuple[str, str]]
) -> None:
    found = diff(HOST, replace(HOST, **words))
    assert (found.only_here, found.only_there, dict(found.changed)) == (here, there, changed)


def test_of_two_guests_bits_are_named_by_the_device_that_has_them() -> None:
    found = diff(GUEST, replace(GUEST, devices=(replace(OPEN, active={0: 0x7}, version=2),)))
    assert found.only_here == (f"devices {OPEN.uuid} active venet sg.ecn",)
    assert found.changed == {f"devices {OPEN.uuid} version": ("1", "2")}


def test_what_a_whole_device_or_class_has_is_told_with_it() -> None:
    found = diff(HOST, replace(HOST, classes=()))
    assert "classes venet-tap" in found.only_here
    assert "classes venet-tap limits pairs: 16" in found.only_here


def test_two_releases_are_of_one_kind_and_a_guest_and_a_host_are_not() -> None:
    assert not diff(named("0.1"), named("0.1"))
    with pytest.raises(UsageError, match="two profiles of one kind"):
        diff(GUEST, HOST)


BITS = st.dictionaries(st.integers(0, 5), st.integers(0, 0xFFFF_FFFF), max_size=4)


@given(BITS, BITS)
def test_the_other_way_round_it_is_the_mirror_image(one: dict[int, int], other: dict[int, int]) -> None:
    here, there = (
        replace(HOST, classes=(replace(CARD, groups=groups),), mask={"vblk": groups})
        for groups in (one, other)
    )
    forth, back = diff(here, there), diff(there, here)
    assert (forth.only_here, forth.only_there) == (back.only_there, back.only_here)
    bits = {group: bits for group, bits in one.items() if bits}
    assert bool(forth) == (bits != {group: bits for group, bits in other.items() if bits})
