# SPDX-License-Identifier: MIT
"""A guest that is to go over several hosts in turn: each hop now, and what a restart on the way closes.

A move never gives a guest a bit. A restart, or its driver's reload, does: it takes whatever the host offers
where it is, and from then on needs it wherever it goes, back included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import replace

from vbuskit.migration.baseline import offered
from vbuskit.migration.features import bit_name, each_bit, whole
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import ORDER, Judgement, Verdict
from vbuskit.migration.profile import Groups, GuestDevice, GuestProfile, HostProfile
from vbuskit.migration.remedies import masks_offloads

RINGS = ("pairs", "queues")  # limits that a driver takes to the full; an MTU is the administrator's


@dataclass(frozen=True, slots=True)
class Trap:
    """After a restart at `at` the verdict of `judgement` is worse than without."""

    at: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Route:
    """Where a move is a no: over `via` with a restart there, under a mask of what the destination lacks.

    `via` is the first host itself where that can do it; `dropped` are the bits that the guest goes without.
    """

    start: str
    via: str
    end: str
    dropped: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """`hops`: to each host but the first, as the guest is now. `stuck`: moves that no route goes round."""

    hops: tuple[Judgement, ...]
    traps: tuple[Trap, ...]
    routes: tuple[Route, ...]
    stuck: tuple[tuple[str, str], ...]


def plan(guest: GuestProfile, chain: Sequence[HostProfile], others: Sequence[HostProfile] = ()) -> Plan:
    """The guest is on the first host of the chain; a route may lead over any of these and of the others."""
    hops = tuple(judge(guest, host) for host in chain[1:])
    refused = [pair for pair, hop in zip(pairwise(chain), hops, strict=True) if hop.verdict is Verdict.NO]
    routes = [(start, end, route(guest, start, end, (*chain, *others))) for start, end in refused]
    return Plan(
        hops,
        tuple(traps(guest, chain)),
        tuple(found for _, _, found in routes if found),
        tuple((start.name, end.name) for start, end, found in routes if not found),
    )


def traps(guest: GuestProfile, chain: Sequence[HostProfile]) -> Iterator[Trap]:
    for at in chain:
        if at is not chain[0] and judge(guest, at).verdict is Verdict.NO:
            continue  # it is never there
        after = restarted(guest, at)
        for to in chain:
            if to.identity == at.identity:
                continue
            judgement = judge(after, to)
            if ORDER.index(judgement.verdict) > ORDER.index(judge(guest, to).verdict):
                yield Trap(at.name, judgement)


def restarted(guest: GuestProfile, at: HostProfile) -> GuestProfile:
    """Once its devices were opened there anew, by drivers that take all they are offered."""
    classes = {each.name: each for each in at.classes}

    def more(device: GuestDevice) -> GuestDevice:
        if device.klass not in classes:
            return device
        there = classes[device.klass]
        rings = {
            name: there.limits[name] for name in RINGS if name in device.limits and name in there.limits
        }
        bits = taken(offered(at, there, device.uuid))
        return replace(device, is_open=True, active=bits, limits=device.limits | rings)

    return replace(
        guest, host=at.identity, host_name=at.name, devices=tuple(more(each) for each in guest.devices)
    )


def taken(bits: Groups) -> Groups:
    return {group: each for group, each in bits.items() if each}


def route(
    guest: GuestProfile, start: HostProfile, end: HostProfile, hosts: Sequence[HostProfile]
) -> Route | None:
    """A verdict is of guest and destination alone: only a restart helps, and one host between is enough."""
    less = narrowed(guest, end)
    last = judge(less, end)
    if less == guest or last.verdict is Verdict.NO:
        return None
    dropped = tuple(lost(guest, less))
    found = []
    for via in (start, *(each for each in hosts if each.identity not in (start.identity, end.identity))):
        first = Verdict.YES if via is start else judge(guest, via).verdict
        if first is not Verdict.NO and can_mask(via, guest, less):
            verdict = max(first, last.verdict, key=ORDER.index)
            found.append(Route(start.name, via.name, end.name, dropped, verdict))
    return min(found, key=lambda each: ORDER.index(each.verdict), default=None)


def narrowed(guest: GuestProfile, end: HostProfile) -> GuestProfile:
    """Re-opened under a mask of all that it uses and `end` does not offer."""
    classes = {each.name: each for each in end.classes}

    def less(device: GuestDevice) -> GuestDevice:
        if device.klass not in classes:
            return device
        there = offered(end, classes[device.klass], device.uuid)
        both = {group: bits & there.get(group, 0) for group, bits in device.active.items()}
        left = {group: whole(device.type, group, bits) for group, bits in both.items()}
        return replace(device, active=taken(left))

    return replace(guest, devices=tuple(less(each) for each in guest.devices))


def differences(guest: GuestProfile, less: GuestProfile) -> Iterator[tuple[str, int, int]]:
    for before, after in zip(guest.devices, less.devices, strict=True):
        for group, bits in before.active.items():
            for bit in each_bit(bits & ~after.active.get(group, 0)):
                yield before.type, group, bit


def lost(guest: GuestProfile, less: GuestProfile) -> Iterator[str]:
    yield from dict.fromkeys(bit_name(*each) for each in differences(guest, less))


def can_mask(host: HostProfile, guest: GuestProfile, less: GuestProfile) -> bool:
    """The worker of v0.1 masked nothing of group 0 (docs/decisions.md)."""
    return masks_offloads(host.release) or all(group for _, group, _ in differences(guest, less))
