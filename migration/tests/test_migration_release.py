# SPDX-License-Identifier: MIT
"""Which guests of one release another would strand; and that the tree's profiles are what programs say."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import host_programs
from vbuskit.migration import HostProfile, Verdict, judge
from vbuskit.migration.features import whole
from vbuskit.migration.offer import BUS, DEVICE, MAC, asking, offer, text
from vbuskit.migration.profile import DeviceClass, GuestBus, GuestDevice, GuestProfile, HostBus
from vbuskit.migration.reading import release_profile
from vbuskit.migration.release import Release, losses, masks
from vbuskit.migration.releases import NEXT, named, names, released
from vbuskit.migration.rules_devices import LEAST

CARD = DeviceClass(
    name="venet-tap", type="venet", version=1, groups={0: 0x4F, 3: 0x7}, limits={"mtu": 9000, "pairs": 16}
)
DISK = DeviceClass(name="vblk-file", type="vblk", version=1, groups={1: 0x7}, limits={"queues": 16})
OLD = Release(schema=1, release="1.0", bus=HostBus(version=1, features=0x3), classes=(CARD, DISK))

GUEST = GuestProfile(
    schema=1,
    identity=UUID(int=1),
    name="vm1",
    release="1.0",
    captured="2026-11-24T00:00:00Z",
    arch="x86_64",
    machine="pc-q35-7.2",
    cpu="qemu64",
    bus=GuestBus(version=1, window=16, vectors=8),
)
HOST = HostProfile(
    schema=1,
    identity=UUID(int=2),
    name="host2",
    release="2.0",
    captured="2026-11-24T00:00:00Z",
    arch="x86_64",
    qemu="7.2.22",
    libvirt="9.0.0",
    bus=OLD.bus,
    machines=("pc-q35-7.2",),
    cpus=("qemu64",),
)


def with_card(**words: object) -> Release:
    return replace(OLD, release="2.0", classes=(replace(CARD, **words), DISK))


def with_bus(**words: object) -> Release:
    return replace(OLD, release="2.0", bus=replace(OLD.bus, **words))


def built(defect: str = "none") -> Release:
    try:
        return offer(Runner(), defect=defect)
    except Blocked as error:
        pytest.skip(str(error))


# ---- From one release to another ----


def test_a_release_strands_none_of_its_own_guests() -> None:
    assert list(losses(OLD, OLD)) == []


def test_what_a_release_has_more_strands_nobody() -> None:
    more = with_card(groups={0: 0xFF, 3: 0xF, 4: 1}, limits={**CARD.limits, "pairs": 32, "rings": 1})
    assert list(losses(OLD, more)) == []


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (with_card(groups={0: 0x4B, 3: 7}), "venet-tap: venet sg.tso6: offered -> gone: guests with a"),
        (with_card(groups={0: 0x4F}), "venet-tap: venet config.mtu: offered -> gone: guests with a"),
        (with_card(version=2), "venet-tap: version: 1 -> 2: guests with a venet-tap"),
        (with_card(type="venet2"), "venet-tap: type: venet -> venet2: "),
        (
            with_card(limits={**CARD.limits, "pairs": 8}),
            "venet-tap: pairs: 16 -> 8: guests with a venet-tap and more than 8 pairs",
        ),
        (with_card(limits={"mtu": 9000}), "venet-tap: pairs: 16 -> not told: guests with a"),
        (replace(OLD, classes=(CARD,)), "vblk-file: offered -> gone: guests with a vblk-file"),
        (with_bus(version=2), "bridge: version: 1 -> 2: all guests"),
        (with_bus(features=0x1), "bridge: bit 0x2: offered -> gone: guests whose bus uses it"),
        (with_bus(connectors=("file",)), "bridge: connector ivshmem: offered -> gone: "),
        (with_bus(window_max=128), "bridge: window_max: 256 -> 128: guests with more than 128"),
        (with_bus(window_min=2), "bridge: window_min: 1 -> 2: guests with less than 2"),
        (with_bus(vectors_max=16), "bridge: vectors_max: 32 -> 16: "),
        (with_bus(vectors_min=16), "bridge: vectors_min: 8 -> 16: "),
        (with_bus(queues_max=8), "bridge: queues_max: 32 -> 8: "),
    ],
)
def test_what_is_lost_is_named_with_the_guests_that_cannot_go_there(new: Release, line: str) -> None:
    assert str(next(losses(OLD, new))).startswith(line)


def test_an_option_rom_of_another_size_is_lost_and_a_new_one_strands_nobody() -> None:
    small, large = (replace(OLD, bus=replace(OLD.bus, rom=size)) for size in (32768, 65536))
    for new in (large, OLD):
        (found,) = losses(small, new)
        assert (found.subject, found.guests) == ("bridge: rom", "guests with an option ROM of 32768 bytes")
        host = replace(HOST, bus=new.bus)
        assert judge(replace(GUEST, bus=replace(GUEST.bus, rom=32768)), host).verdict is not Verdict.YES
    assert list(losses(OLD, small)) == list(losses(small, small)) == []


def test_a_limit_that_is_told_anew_and_less_than_what_every_class_has_is_lost() -> None:
    silent = replace(OLD, classes=(replace(CARD, limits={}),))
    told = replace(OLD, classes=(replace(CARD, limits={"mtu": 1400, "pairs": 1, "rings": 1}),))
    assert [each.subject for each in losses(silent, told)] == ["venet-tap: mtu"]


@given(
    st.sampled_from(["mtu", "pairs", "queues"]),
    st.none() | st.integers(0, 2000),
    st.none() | st.integers(0, 2000),
)
def test_a_lower_limit_strands_just_whom_the_judge_would_not_let_go(
    name: str, was: int | None, now: int | None
) -> None:
    """A guest of a host that tells no limit counts on what every class has."""
    old, new = ({} if each is None else {name: each} for each in (was, now))
    count = LEAST[name] if was is None else was
    device = GuestDevice(
        uuid=UUID(int=7), type="venet", version=1, klass="venet-tap", is_open=True, limits={name: count}
    )
    host = replace(HOST, classes=with_card(groups={}, limits=new).classes)
    lost = list(losses(with_card(groups={}, limits=old), with_card(groups={}, limits=new)))
    verdict = judge(replace(GUEST, devices=(device,)), host).verdict
    assert bool(lost) >= (verdict is Verdict.NO)
    assert bool(lost) == (verdict is not Verdict.YES) or (now is None and was is not None)


def test_with_a_bit_go_those_that_need_it() -> None:
    lost = [each.subject.rpartition(".")[2] for each in losses(OLD, with_card(groups={0: 0x4E, 3: 7}))]
    assert lost == ["csum", "tso4", "tso6", "ecn", "uso"]


def test_of_a_profile_from_the_future_what_is_not_understood_counts_as_lost() -> None:
    (found,) = losses(replace(OLD, unknown={"$.clocks": 1}), OLD)
    assert (found.subject, found.now) == ("$.clocks", "not understood")


GROUPS = st.dictionaries(st.sampled_from([0, 2, 3]), st.integers(0, 0x7F))


@given(GROUPS, GROUPS)
def test_the_masks_for_a_pool_make_the_way_back_safe(old: dict[int, int], new: dict[int, int]) -> None:
    before, after = with_card(groups=old), with_card(groups=new)
    masked = masks(losses(after, before))
    left = {group: bits & ~masked.get(("venet-tap", group), 0) for group, bits in new.items()}
    assert masks(losses(with_card(groups=left), before)) == {}


@given(GROUPS, GROUPS)
def test_who_is_stranded_is_whom_the_judge_would_not_let_go(
    old: dict[int, int], new: dict[int, int]
) -> None:
    device = GuestDevice(
        uuid=UUID(int=7), type="venet", version=1, klass="venet-tap", is_open=True, active=old
    )
    guest = replace(GUEST, devices=(device,))
    host = replace(HOST, classes=with_card(groups=new).classes)
    consumed = replace(guest, devices=(replace(device, active=usable(old)),))
    lost = list(losses(with_card(groups=old), with_card(groups=new)))
    assert bool(lost) == (judge(consumed, host).verdict is Verdict.NO)


def usable(groups: dict[int, int]) -> dict[int, int]:
    """What a guest can have active of it: bits of offloads need others."""
    return {group: whole("venet", group, bits) for group, bits in groups.items()}


# ---- Profiles ----


def test_the_profile_of_this_tree_is_what_its_own_programs_offer(tmp_path: Path) -> None:
    now = built()
    assert now == named("next"), "run ./vbuskit gate release --write, and read what has changed"
    (tmp_path / "next.json").write_text(text(now))
    assert release_profile(tmp_path / "next.json") == now


def test_a_device_that_is_there_offers_what_the_profile_has(tmp_path: Path) -> None:
    programs = host_programs(Runner(), Places.from_environment())
    try:
        with asking(Runner(), programs["vbusd"].path, programs["libvbus_client.so"].path, tmp_path) as desk:
            desk.bridge()
            desk.host.add_device(BUS, DEVICE, "venet-loopback", mac=MAC)
            desk.negotiated()  # so that the worker has told
            offered = {gid: each.offered for gid, each in desk.host.device(BUS, DEVICE).groups.items()}
    except Blocked as error:
        pytest.skip(str(error))
    (loopback,) = (each for each in named("next").classes if each.name == "venet-loopback")
    assert offered == loopback.groups


def test_a_planted_loss_of_a_released_feature_is_found() -> None:
    lost = [str(each) for old in released() for each in losses(old, built("feature"))]
    assert "venet-tap: venet sg.tso6: offered -> gone: guests with a venet-tap that use it" in lost


def test_a_profile_is_written_as_the_tree_has_it() -> None:
    assert text(named("next")) == NEXT.read_text()


def test_each_release_that_was_made_has_a_profile() -> None:
    made = {path.stem.removeprefix("v") for path in (ROOT / "docs/releases").glob("v*.md")}
    assert made and made <= set(names())
    assert all(each.release.startswith(name) for name, each in ((name, named(name)) for name in made))


def test_no_guest_of_a_release_is_stranded_by_this_tree() -> None:
    lost = [f"{old.release}: {each}" for old in released() for each in losses(old, named("next"))]
    assert released() and lost == []


def test_a_release_is_found_by_its_name_its_tag_and_its_file(tmp_path: Path) -> None:
    assert named("0.1") == named("v0.1") == named(str(NEXT.with_name("0.1.json")))
    with pytest.raises(UsageError, match="no release and no file"):
        named("0.0")
    (tmp_path / "host").write_text('{"kind": "host"}')
    with pytest.raises(Refused):
        release_profile(tmp_path / "host")


def test_without_any_release_there_is_nothing_to_hold_a_tree_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vbuskit.migration.releases.PROFILES", tmp_path)
    with pytest.raises(Blocked, match="no profile of a release"):
        released()
