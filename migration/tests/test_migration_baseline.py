# SPDX-License-Identifier: MIT
"""What a pool has in common: every guest that consumes no more runs on all of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.migration import HostProfile, Verdict, judge
from vbuskit.migration.baseline import Pin, baseline, consumer, newest, newest_cpu, offered, pins
from vbuskit.migration.features import whole
from vbuskit.migration.profile import DeviceClass, HostBus, Image

SG = 0x4F
CLASSES = {"venet-tap": "venet", "venet-socket": "venet", "vblk-file": "vblk"}
groups = st.dictionaries(st.integers(0, 3), st.integers(0, 0x7F), max_size=4)


def card(sg: int = SG, **words: Any) -> DeviceClass:
    return DeviceClass(name="venet-tap", type="venet", version=1, groups={0: sg, 1: 0x1}, **words)


def host(number: int, **words: Any) -> HostProfile:
    usual: dict[str, Any] = {
        "release": "0.2.0",
        "libvirt": "9.0.0",
        "bus": HostBus(version=1),
        "machines": ("pc-q35-7.2", "pc-i440fx-7.2"),
        "cpus": ("qemu64", "Haswell"),
        "classes": (card(),),
    }
    return HostProfile(
        schema=1,
        identity=UUID(int=number),
        name=f"host{number}",
        captured="then",
        arch="x86_64",
        qemu="7.2.22",
        **usual | words,
    )


pool = st.lists(
    st.builds(
        lambda number, version, bits, limits, mask, machines, libvirt, rom: host(
            number,
            libvirt=libvirt,
            bus=HostBus(version=1, rom=rom),
            classes=tuple(
                DeviceClass(name=name, type=kind, version=version, groups=bits[name], limits=limits)
                for name, kind in CLASSES.items()
                if name in bits
            ),
            mask=mask,
            machines=("pc-q35-5.2", *machines),
        ),
        st.integers(1, 99),
        st.integers(1, 2),
        st.dictionaries(st.sampled_from(sorted(CLASSES)), groups),
        st.dictionaries(st.sampled_from(["mtu", "pairs"]), st.integers(1, 4)),
        st.dictionaries(st.sampled_from(["venet", "vblk"]), groups),
        st.lists(st.sampled_from(["pc-q35-7.2", "pc-q35-10.0"]), unique=True),
        st.sampled_from(["7.0.0", "9.0.0", "10.0.0"]),
        st.sampled_from([0, 65536]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda each: each.identity,
)


@settings(max_examples=60, deadline=None)
@given(pool, st.data())
def test_a_guest_that_consumes_no_more_than_the_baseline_may_go_to_each_host(
    hosts: list[HostProfile], data: st.DataObject
) -> None:
    found = baseline(hosts)
    assert found.lacking == ()
    guest = consumer(found.host)
    fewer = tuple(
        replace(
            each,
            active={
                group: whole(each.type, group, bits & data.draw(st.integers(0, 0x7F)))
                for group, bits in each.active.items()
            },
        )
        for each in guest.devices
    )
    for each in (guest, replace(guest, devices=fewer)):
        assert [judge(each, one).findings for one in hosts] == [()] * len(hosts)


@settings(max_examples=60, deadline=None)
@given(pool, st.integers(0, 3), st.sampled_from([1 << bit for bit in range(7)]))
def test_no_bit_could_be_added_to_the_baseline(hosts: list[HostProfile], group: int, bit: int) -> None:
    guest = consumer(baseline(hosts).host)
    for place, device in enumerate(guest.devices):
        bits = device.active.get(group, 0) | bit
        assume(whole(device.type, group, bits) == bits != device.active.get(group, 0))
        more = replace(device, active={**device.active, group: bits})
        wider = replace(guest, devices=(*guest.devices[:place], more, *guest.devices[place + 1 :]))
        assert any(judge(wider, each).verdict is not Verdict.YES for each in hosts)


@settings(max_examples=60, deadline=None)
@given(pool)
def test_what_starts_under_the_pins_is_within_the_baseline(hosts: list[HostProfile]) -> None:
    shared = baseline(hosts).host
    keeps = {each.name: each for each in shared.classes}
    for each in hosts:
        found = list(pins(each, shared))
        for there in each.classes:
            if there.name not in keeps:
                continue
            for group, bits in there.groups.items():
                masks = [pin.bits for pin in found if pin.group == group and pin.klass in ("", there.name)]
                mask = masks[0] if masks else each.mask.get(there.type, {}).get(group, 0)
                assert len(masks) <= 1
                left = whole(there.type, group, bits & ~mask)
                assert left == keeps[there.name].groups.get(group, 0)


def test_bits_limits_and_sizes_are_those_that_all_have() -> None:
    one = host(1, classes=(card(limits={"mtu": 9000, "pairs": 4}),), bus=HostBus(version=1, window_min=4))
    two = host(
        2,
        classes=(card(0xF, limits={"mtu": 1500}),),
        bus=HostBus(version=1, window_max=64, vectors_max=16, queues_max=8),
    )
    found = baseline([one, two]).host
    assert found.classes == (card(0xF, limits={"mtu": 1500}),)
    sizes = (found.bus.window_min, found.bus.window_max, found.bus.vectors_max, found.bus.queues_max)
    assert sizes == (4, 64, 16, 8)


def test_what_any_host_masks_of_one_device_is_not_offered_by_all() -> None:
    card_of = consumer(host(1)).devices[0].uuid
    pair = [
        host(1),
        host(2, masks={card_of: {0: 0x40}}),
        host(3, masks={card_of: {0: 0x8}, UUID(int=9): {}}),
    ]
    shared = baseline(pair).host
    assert shared.masks == {card_of: {0: 0x48}, UUID(int=9): {}}
    assert judge(consumer(host(1)), shared).verdict is judge(consumer(host(1)), pair[1]).verdict


def test_of_a_guest_with_masks_each_device_is_pinned_and_keeps_the_mask_that_it_has() -> None:
    guest = consumer(host(1))
    own = guest.devices[0].uuid
    pair = [host(1, masks={own: {0: 0x8}}), host(2, masks={own: {0: 0x40}})]
    shared = baseline(pair).host
    assert [list(pins(each, shared, guest)) for each in pair] == [
        [Pin("host1", 0, 0x48, ("venet sg.uso",), "venet-tap", own)],
        [Pin("host2", 0, 0x48, ("venet sg.ecn",), "venet-tap", own)],
    ]
    gone = replace(guest, devices=(replace(guest.devices[0], klass="gone"),))
    assert list(pins(pair[0], shared, gone)) == []


def test_the_baselines_versions_are_the_oldest_whatever_stands_behind_them() -> None:
    pair = [host(1, release="0.2.0.dev0"), host(2, release="0.1.0", libvirt="10.0.0-2+deb13")]
    assert (baseline(pair).host.release, baseline(pair).host.libvirt) == ("0.1.0", "9.0.0")


def test_an_option_rom_is_common_where_each_host_has_it_in_one_size() -> None:
    one, two, none = (host(each, bus=HostBus(version=1, rom=each % 3 << 16)) for each in (1, 2, 3))
    assert [baseline(pool).host.bus.rom for pool in ([one], [one, two], [one, none])] == [1 << 16, 0, 0]
    assert judge(consumer(one), none).verdict is Verdict.IF


def test_without_a_bit_those_that_need_it_are_not_in_the_baseline() -> None:
    only = baseline([host(1, classes=(card(0xD),)), host(2, classes=(card(0xB),))]).host  # tso6, tso4
    assert only.classes[0].groups[0] == 0x1  # ecn needs one of them
    none = baseline([host(1), host(2, mask={"venet": {0: 0x1}})]).host
    assert 0 not in none.classes[0].groups


def test_a_class_that_one_host_has_otherwise_is_not_in_the_baseline() -> None:
    other = DeviceClass(name="venet-tap", type="other", version=1)
    later = replace(card(), version=2)
    for each in (other, later):
        assert baseline([host(1), host(2, classes=(each,))]).host.classes == ()
    assert baseline([host(1), host(2, classes=())]).host.classes == ()


def test_images_are_common_where_they_are_shared_and_told_alike() -> None:
    shared, local = Image(path="/srv/a.img", shared=True), Image(path="/srv/b.img")
    pair = [host(1, images=(shared, local)), host(2, images=(local, shared))]
    assert baseline(pair).host.images == (shared,)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"machines": ("pc-q35-5.2",)}, "machine type: none that all have"),
        ({"cpus": ("EPYC",)}, "CPU model: none that all have"),
        ({"bus": HostBus(version=2)}, "bridge version: 1, 2"),
        ({"bus": HostBus(version=1, connectors=("file",))}, "connector: none that all have"),
        (
            {"bus": HostBus(version=1, window_min=512, window_max=512)},
            "window, MiB: one needs 512, another has at most 256",
        ),
    ],
)
def test_what_a_pool_has_not_in_common_is_said(words: dict[str, Any], said: str) -> None:
    assert baseline([host(1), host(2, **words)]).lacking == (said,)


def test_hosts_of_two_architectures_are_no_pool() -> None:
    arm = replace(host(2), arch="aarch64")
    assert baseline([host(1), arm]).lacking == ("architecture: aarch64, x86_64",)


def test_the_newest_machine_is_found_by_number_and_not_by_letters() -> None:
    assert newest(["pc-q35-7.2", "pc-q35-10.0", "pc-i440fx-10.0", "pc-q35-9.1"]) == "pc-q35-10.0"
    assert newest(["pc-i440fx-7.2", "pc-q35-7.2"]) == "pc-q35-7.2"
    assert newest([]) is None


def test_of_cpu_models_the_later_one_is_taken_and_an_unknown_one_last() -> None:
    assert newest_cpu(["Haswell", "qemu64", "Zzz"]) == "Haswell"
    assert newest_cpu(["Zzz", "Abc"]) == "Zzz"
    assert newest_cpu(["qemu64", "tcg:Haswell"]) == "qemu64"
    assert newest_cpu(["tcg:qemu64", "tcg:Haswell"]) == "tcg:Haswell"


def test_one_mask_is_enough_where_no_other_class_keeps_what_it_takes() -> None:
    shared = baseline([host(1), host(2, classes=(card(0xF),))]).host
    assert list(pins(host(1), shared)) == [Pin("host1", 0, 0x40, ("venet sg.uso",))]
    assert list(pins(host(2, classes=(card(0xF),)), shared)) == []


def test_where_two_types_have_a_group_each_class_gets_a_mask_of_its_own() -> None:
    disk = DeviceClass(name="vblk-file", type="vblk", version=1, groups={1: 0x7})
    less = DeviceClass(name="venet-tap", type="venet", version=1, groups={0: SG})
    shared = baseline([host(1, classes=(card(), disk)), host(2, classes=(less, disk))]).host
    (pin,) = pins(host(1, classes=(card(), disk)), shared)
    assert (pin.klass, pin.group, pin.bits) == ("venet-tap", 1, 0x1)  # the disk keeps its flush, 0x1, too


def test_a_guest_of_a_host_may_stay_there() -> None:
    assert judge(consumer(host(1)), host(1)).verdict is Verdict.YES
    assert offered(host(1, masks={UUID(int=9): {0: 0x1}}), card(), UUID(int=9)) == {0: 0, 1: 0x1}


def test_a_version_that_is_being_made_is_later_than_the_one_before() -> None:
    pool = [replace(host(1), release="0.2.0.dev0"), replace(host(2), release="0.1.0")]
    assert baseline(pool).host.release == "0.1.0"
