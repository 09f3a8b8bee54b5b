# SPDX-License-Identifier: MIT
"""A guest that is to go over several hosts in turn: each hop now, and what a restart on the way closes.

A move never gives a guest a bit. A restart, or its driver's reload, does: it takes whatever the host offers
where it is, and from then on needs it wherever it goes, back included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from shlex import quote

from msgspec.structs import replace

from vbuskit.migration.baseline import all_masks, masks_group, offered
from vbuskit.migration.features import BITS, bit_name, each_bit, whole
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import ORDER, Judgement, Verdict
from vbuskit.migration.profile import Groups, GuestDevice, GuestProfile, HostProfile, Masks
from vbuskit.migration.remedies import MANY

RINGS = ("pairs", "queues")  # limits that a driver takes to the full; an MTU is the administrator's


@dataclass(frozen=True, slots=True)
class Trap:
    """After a restart at `at` the verdict of `judgement` is worse than without."""

    at: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Route:
    """Where a move is a no: over `via` with a restart there, under a mask of what the destination lacks.

    `via` is the first host itself where that can do it; `dropped` are the bits that the mask has: those that
    the guest uses, and those that it would take when it opens its devices anew. commands: that make it so
    """

    start: str
    via: str
    end: str
    dropped: tuple[str, ...]
    verdict: Verdict
    commands: tuple[str, ...] = field(default=(), compare=False)


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
            before = judge(replace(guest, host=at.identity), to)
            if ORDER.index(judgement.verdict) > ORDER.index(before.verdict):
                yield Trap(at.name, judgement)


def restarted(guest: GuestProfile, at: HostProfile) -> GuestProfile:
    """Once its devices were opened there anew, by drivers that take all they are offered."""
    classes = {each.name: each for each in at.classes}

    def more(device: GuestDevice) -> GuestDevice:
        if device.klass not in classes:
            return device
        there = classes[device.klass]
        bits = taken(offered(at, there, device.uuid))
        limits = device.limits | {
            name: there.limits[name] if has_many(device, name, bits) else 1
            for name in RINGS
            if name in device.limits and name in there.limits
        }
        return replace(device, is_open=True, active=bits, limits=limits)

    return replace(
        guest, host=at.identity, host_name=at.name, devices=tuple(more(each) for each in guest.devices)
    )


def has_many(device: GuestDevice, name: str, bits: Groups) -> bool:
    """Whether it takes more than one ring; what a module's own class does is not known."""
    group, bit = MANY[name]
    return BITS.get((device.type, group), {}).get(bit) != name or bool(bits.get(group, 0) & bit)


def taken(bits: Groups) -> Groups:
    return {group: each for group, each in bits.items() if each}


def route(
    guest: GuestProfile, start: HostProfile, end: HostProfile, hosts: Sequence[HostProfile]
) -> Route | None:
    """A verdict is of guest and destination alone: only a restart helps, and one host between is enough."""
    found = []
    for via in (start, *(each for each in hosts if each.identity not in (start.identity, end.identity))):
        first = Verdict.YES if via is start else judge(guest, via).verdict
        lacking = masks(guest, via, end)
        if first is Verdict.NO or not lacking or not can_mask(via, lacking):
            continue
        under = masked(via, lacking)
        last = judge(restarted(guest, under), end).verdict
        if last is not Verdict.NO:
            verdict = max(first, last, key=ORDER.index)
            names, words = tuple(dropped(guest, lacking)), tuple(commands(guest, under, lacking))
            found.append(Route(start.name, via.name, end.name, names, verdict, words))
    return min(found, key=lambda each: ORDER.index(each.verdict), default=None)


def masks(guest: GuestProfile, via: HostProfile, end: HostProfile) -> Masks:
    """Of each device all that it has or would be offered at `via`, and could not have at `end`."""
    there, later = ({each.name: each for each in host.classes} for host in (via, end))
    found = {}
    for device in guest.devices:
        if device.klass in there and device.klass in later:
            least, most = there[device.klass], later[device.klass]
            one, other = offered(via, least, device.uuid), offered(end, most, device.uuid)
            groups = {
                group: (one.get(group, 0) | device.active.get(group, 0))
                & ~whole(device.type, group, one.get(group, 0) & other.get(group, 0))
                for group in {**one, **device.active}
            }
            for name in RINGS:
                more = name in most.limits and least.limits.get(name, 0) > most.limits[name]
                if more and has_many(device, name, one):
                    group, bit = MANY[name]
                    groups[group] = groups.get(group, 0) | bit
            found[device.uuid] = taken(groups)
    return {uuid: groups for uuid, groups in found.items() if groups}


def masked(host: HostProfile, more: Masks) -> HostProfile:
    return replace(host, masks=all_masks([host, replace(host, masks=more)]))


def dropped(guest: GuestProfile, lacking: Masks) -> Iterator[str]:
    yield from dict.fromkeys(
        bit_name(device.type, group, bit)
        for device in guest.devices
        for group, bits in sorted(lacking.get(device.uuid, {}).items())
        for bit in each_bit(bits)
    )


def commands(guest: GuestProfile, under: HostProfile, lacking: Masks) -> Iterator[str]:
    """A mask takes the place of the one before, so it has the bits of that as well."""
    bus = quote(guest.bus.name or guest.name)
    for uuid, groups in lacking.items():
        for group in groups:
            bits = under.masks[uuid][group]
            yield f"vbuskit host mask {bus} {group} {bits:#x} --device {uuid}"


def can_mask(host: HostProfile, lacking: Masks) -> bool:
    return masks_group(host, 0) or not any(0 in groups for groups in lacking.values())
