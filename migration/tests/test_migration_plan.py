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
from vbuskit.migration.judgement import ORDER
from vbuskit.migration.plan import Route, plan, restarted
from vbuskit.migration.profile import DeviceClass, HostBus

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
    roomy = replace(B, classes=(replace(B.classes[0], limits=limits),))
    (card,) = guest(A).devices
    before = replace(guest(A), devices=(replace(card, limits={"pairs": 2, "mtu": 1500}),))
    assert restarted(before, roomy).devices[0].limits == {"pairs": 8, "mtu": 1500}
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


@settings(max_examples=60, deadline=None)
@given(st.lists(sets, min_size=4, max_size=4))
def test_a_route_is_one_that_the_judge_lets_pass(bits: list[int]) -> None:
    hosts = [host(name, each) for name, each in zip("ABCD", bits, strict=True)]
    for each in plan(guest(hosts[0]), hosts[:2], hosts[2:]).routes:
        via = next(one for one in hosts if one.name == each.via)
        assert via is hosts[0] or judge(guest(hosts[0]), via).verdict is not Verdict.NO
        under = replace(via, mask={"venet": {0: ~bits[1] & 0x7F}})
        assert judge(restarted(guest(hosts[0]), under), hosts[1]).verdict is Verdict.YES
