# SPDX-License-Identifier: MIT
"""Chains of hosts: what holds now, what a restart on the way closes, and a way round a no."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.migration import GuestProfile, HostProfile, Verdict, judge
from vbuskit.migration.baseline import consumer
from vbuskit.migration.features import bit_name, each_bit, whole
from vbuskit.migration.judgement import ORDER
from vbuskit.migration.plan import Route, plan, restarted
from vbuskit.migration.profile import DeviceClass, HostBus, Image

OLD, NEW, UNKNOWN = 0x0F, 0x4F, 0x80


def host(name: str, sg: int, **words: Any) -> HostProfile:
    return HostProfile(
        schema=1,
        identity=UUID(int=ord(name)),
        name=name,
        captured="then",
        arch="x86_64",
        qemu="7.2.22",
        libvirt="9.0.0",
        bus=HostBus(version=1),
        classes=(DeviceClass(name="venet-tap", type="venet", version=1, groups={0: sg}),),
        **{"release": "0.2.0", "machines": ("pc-q35-7.2",), "cpus": ("qemu64",)} | words,
    )


def guest(at: HostProfile) -> GuestProfile:
    return replace(consumer(at), name="vm1")


A, B, C = host("A", OLD), host("B", NEW), host("C", OLD)
sets = st.integers(0, 0x7F)


def test_a_guest_that_never_restarts_goes_over_a_newer_host_and_back() -> None:
    found = plan(guest(A), (A, B, C))
    assert [each.verdict for each in found.hops] == [Verdict.YES, Verdict.YES]
    assert (found.routes, found.stuck) == ((), ())


def test_after_a_restart_on_the_newer_host_it_goes_neither_back_nor_on() -> None:
    found = plan(guest(A), (A, B, C))
    assert [(each.at, each.judgement.host, each.judgement.verdict) for each in found.traps] == [
        ("B", "A", Verdict.NO),
        ("B", "C", Verdict.NO),
    ]
    assert {finding.subject for each in found.traps for finding in each.judgement.findings} == {
        "venet sg.uso"
    }


def test_a_restart_takes_the_rings_that_are_there_and_leaves_the_mtu() -> None:
    limits = {"pairs": 8, "queues": 4, "mtu": 9000, "segments": 64}
    many = replace(B.classes[0], groups={0: NEW, 3: 0x2}, limits=limits)
    roomy = replace(B, classes=(many,))
    (card,) = guest(A).devices
    before = replace(guest(A), devices=(replace(card, limits={"pairs": 2, "mtu": 1500}),))
    assert restarted(before, roomy).devices[0].limits == {"pairs": 8, "mtu": 1500}
    masked = replace(roomy, mask={"venet": {3: 0x2}})  # without config.pairs there is one
    assert restarted(before, masked).devices[0].limits == {"pairs": 1, "mtu": 1500}
    nowhere = replace(before, devices=(replace(card, klass="gone"),))
    assert restarted(nowhere, roomy).devices == nowhere.devices


def test_a_pool_under_its_masks_has_no_traps() -> None:
    pinned = replace(B, mask={"venet": {0: 0x40}})
    assert plan(guest(A), (A, pinned, C)).traps == ()


def test_a_host_that_the_guest_never_reaches_is_no_trap() -> None:
    nothing = replace(B, machines=())
    assert plan(guest(A), (A, nothing, C)).traps == ()


def test_a_guest_with_too_many_bits_goes_after_a_restart_under_a_mask() -> None:
    found = plan(guest(B), (B, C))
    assert found.hops[0].verdict is Verdict.NO
    assert found.routes == (Route("B", "B", "C", ("venet sg.uso",), Verdict.YES),)


def test_where_the_source_cannot_mask_a_third_host_does() -> None:
    assert not plan(guest(B), (replace(B, release="0.2.0.dev0"), C)).stuck
    source = replace(B, release="0.1.0")  # its worker masked nothing of group 0
    third = host("D", NEW)
    found = plan(guest(source), (source, C), [host("E", OLD), replace(third, release="0.1.2"), third])
    assert found.routes == (Route("B", "D", "C", ("venet sg.uso",), Verdict.YES),)
    assert plan(guest(source), (source, C), [host("E", OLD)]).stuck == (("B", "C"),)


def test_a_release_that_is_yet_to_be_made_masks_as_it_will() -> None:
    found = plan(guest(B), (replace(B, release="0.2.0.dev0"), C))
    assert [each.via for each in found.routes] == ["B"]


def test_what_a_restart_does_not_change_is_no_trap() -> None:
    disk = DeviceClass(name="vblk-file", type="vblk", version=1)
    image = Image(path="/srv/a.img")  # on each host its own
    first, second = (replace(each, classes=(disk,), images=(image,)) for each in (A, B))
    before = guest(first)
    (device,) = before.devices
    before = replace(before, devices=(replace(device, backend="/srv/a.img"),))
    found = plan(before, (first, second))
    assert [each.verdict for each in found.hops] == [Verdict.IF]
    assert found.traps == ()


def test_a_route_masks_what_the_guest_would_take_as_well() -> None:
    few = replace(guest(B).devices[0], active={0: 0x41})  # its driver wanted no segments when it was opened
    found = plan(replace(guest(B), devices=(few,)), (B, host("C", 0x01)))
    (way,) = found.routes
    assert way.dropped == tuple(f"venet sg.{name}" for name in ("tso4", "tso6", "ecn", "uso"))


def test_where_rings_are_fewer_a_route_goes_with_one() -> None:
    many, some = (
        replace(each, classes=(replace(each.classes[0], groups={3: 0x2}, limits={"pairs": pairs}),))
        for each, pairs in ((A, 16), (C, 8))
    )
    found = plan(guest(many), (many, some))
    assert found.routes == (Route("A", "A", "C", ("venet config.pairs",), Verdict.YES),)


def test_no_restart_brings_a_machine_type() -> None:
    found = plan(guest(B), (B, replace(C, machines=("pc-q35-5.2",))), [host("D", NEW)])
    assert (found.routes, found.stuck) == ((), (("B", "C"),))


def test_bits_that_need_a_dropped_one_are_dropped_with_it() -> None:
    found = plan(guest(B), (B, host("C", 0x0D)))  # without tso4
    assert found.routes[0].dropped == ("venet sg.tso4", "venet sg.uso")
    only = plan(replace(guest(host("B", 0x0B)), name="vm1"), (host("B", 0x0B), host("C", 0x0D)))
    assert only.routes[0].dropped == ("venet sg.tso4", "venet sg.ecn")


@settings(max_examples=60, deadline=None)
@given(st.lists(sets, min_size=3, max_size=3))
def test_a_restart_never_widens_where_a_guest_may_go(bits: list[int]) -> None:
    first, second, third = (host(name, each) for name, each in zip("ABC", bits, strict=True))
    before = guest(first)
    if judge(before, second).verdict is Verdict.YES:
        now, later = judge(before, third), judge(restarted(before, second), third)
        assert ORDER.index(later.verdict) >= ORDER.index(now.verdict)


@settings(max_examples=100, deadline=None)
@given(st.lists(sets, min_size=4, max_size=4), sets)
def test_a_route_is_one_that_the_judge_lets_pass_under_the_very_masks_that_are_told(
    bits: list[int], wanted: int
) -> None:
    hosts = [host(name, each) for name, each in zip("ABCD", bits, strict=True)]
    (device,) = guest(hosts[0]).devices
    some = {group: whole("venet", group, each & wanted) for group, each in device.active.items()}
    before = replace(guest(hosts[0]), devices=(replace(device, active=some),))
    for each in plan(before, hosts[:2], hosts[2:]).routes:
        via = next(one for one in hosts if one.name == each.via)
        assert via is hosts[0] or judge(before, via).verdict is not Verdict.NO
        told = sum(bit for bit in each_bit(0xFF) if bit_name("venet", 0, bit) in each.dropped)
        under = replace(via, mask={"venet": {0: told}})
        assert judge(restarted(before, under), hosts[1]).verdict is Verdict.YES
