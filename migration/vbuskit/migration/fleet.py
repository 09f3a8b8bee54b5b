# SPDX-License-Identifier: MIT
"""Verdicts of many guests on many hosts: what `judge` says of each pair, without asking it for each.

A rule is asked once for all hosts that are the same to it (parts.py), and for all devices, bit by bit and
limit by limit, that are. Hosts are bits of a number; the row of a guest is the union of what its devices
are denied. A guest's own host, where other rules hold, is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from vbuskit.migration.baseline import consumer
from vbuskit.migration.features import CSUM, ECN, OFFLOAD_GROUPS, TSO4, TSO6, each_bit
from vbuskit.migration.judge import RULES, Rule, judge
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.parts import GUEST, HOST, KINDS, Fields, Part, Unread, key, values
from vbuskit.migration.profile import Groups, GuestDevice, GuestProfile, HostProfile

# Rules that look at several devices together; all others see each limit of each device by itself, and each
# bit with those that it needs. A test compares the grid with the judge, and finds a rule that belongs here.
TOGETHER: frozenset[str] = frozenset()


@dataclass(slots=True)
class Grid:
    """Rows are guests, columns hosts. `nos`: of each guest a bit a host; `ifs`, too, where it is no NO."""

    guests: Sequence[GuestProfile]
    hosts: Sequence[HostProfile]
    ifs: list[int] = field(default_factory=list)
    nos: list[int] = field(default_factory=list)
    of_hosts: bool = False  # its guests are made up: each consumes all that a host offers

    def verdict(self, guest: int, host: int) -> Verdict:
        if self.nos[guest] >> host & 1:
            return Verdict.NO
        return Verdict.IF if self.ifs[guest] >> host & 1 else Verdict.YES

    def letters(self, guest: int) -> str:
        """A letter a host: Y, ? or N."""
        digits = int(f"{self.nos[guest]:b}", 16) * 2 + int(f"{self.ifs[guest]:b}", 16)
        shown = f"{digits:0{len(self.hosts)}x}" if self.hosts else ""
        return shown[::-1].translate({48: "Y", 49: "?", 50: "N"})

    def counts(self) -> dict[Verdict, int]:
        nos, ifs = (sum(each.bit_count() for each in rows) for rows in (self.nos, self.ifs))
        cells = len(self.guests) * len(self.hosts)
        return {Verdict.YES: cells - nos - ifs, Verdict.IF: ifs, Verdict.NO: nos}


def grid(guests: Sequence[GuestProfile], hosts: Sequence[HostProfile]) -> Grid:
    found = Grid(guests, hosts, [0] * len(guests), [0] * len(guests))
    for rule in RULES:
        asked = ask(rule, guests, hosts)
        for number, demands in enumerate(asked.of_guest):
            for each in demands:
                found.ifs[number] |= asked.ifs[each]
                found.nos[number] |= asked.nos[each]
    homes: dict[UUID | None, list[int]] = {}  # more than one when a host was captured twice
    for number, host in enumerate(hosts):
        homes.setdefault(host.identity, []).append(number)
    for number, guest in enumerate(guests):
        for home in homes.get(guest.host, ()):
            verdict = judge(guest, hosts[home]).verdict
            found.ifs[number] = put(found.ifs[number], home, verdict is Verdict.IF)
            found.nos[number] = put(found.nos[number], home, verdict is Verdict.NO)
        found.ifs[number] &= ~found.nos[number]
    return found


def between(hosts: Sequence[HostProfile]) -> Grid:
    """From each host to each, for a guest that consumes all that it offers."""
    found = grid([consumer(each) for each in hosts], hosts)
    found.of_hosts = True
    return found


def put(bits: int, place: int, value: bool) -> int:
    return bits & ~(1 << place) | value << place


@dataclass(slots=True)
class Asked:
    """A rule, and what it says: `ifs` and `nos` have, of each demand, a bit a host.

    demands:  parts of guests that it can tell apart; `of_guest`: their numbers
    offers:   parts of hosts that it can tell apart; `of_host`: their numbers
    ladders:  value and number of demands that differ in one limit's value alone; more is never judged better
    """

    rule: Rule
    demands: list[Any] = field(default_factory=list)
    offers: list[Any] = field(default_factory=list)
    of_guest: list[set[int]] = field(default_factory=list)
    of_host: list[int] = field(default_factory=list)
    ladders: dict[object, list[tuple[int, int]]] = field(default_factory=dict)
    ifs: list[int] = field(default_factory=list)
    nos: list[int] = field(default_factory=list)

    def answer(self) -> None:
        """Raises Unread."""
        members = [0] * len(self.offers)
        for place, number in enumerate(self.of_host):
            members[number] |= 1 << place
        offers = list(zip(self.offers, members, strict=True))
        self.ifs, self.nos = [0] * len(self.demands), [0] * len(self.demands)
        for ladder in self.ladders.values():
            ladder.sort()
            steps = [[0, 0] for _ in ladder]  # the hosts whose IF, whose NO begins or ends there
            for offer, hosts in offers:
                before = (False, False)
                for place, said in self.climb(ladder, offer):
                    for kind in (0, 1):
                        if said[kind] is not before[kind]:
                            steps[place][kind] ^= hosts
                    before = said
            ifs = nos = 0
            for (_, demand), step in zip(ladder, steps, strict=True):
                ifs, nos = ifs ^ step[0], nos ^ step[1]
                self.ifs[demand], self.nos[demand] = ifs, nos

    def climb(self, ladder: list[tuple[int, int]], offer: Any) -> Iterator[tuple[int, tuple[bool, bool]]]:
        """Of the first and the last, and both sides of each change between: IF and NO."""
        known: dict[int, tuple[bool, bool]] = {}
        spans = [(0, len(ladder) - 1)]
        while spans:
            low, high = spans.pop()
            for place in (low, high):
                if place not in known:
                    known[place] = self.said(ladder[place][1], offer)
            if high - low > 1 and known[low] != known[high]:
                spans += [(low, (low + high) // 2), ((low + high) // 2, high)]
        yield from sorted(known.items())

    def said(self, demand: int, offer: Any) -> tuple[bool, bool]:
        verdicts = {finding.verdict for finding in self.rule(self.demands[demand], offer)}
        return Verdict.IF in verdicts, Verdict.NO in verdicts


def ask(rule: Rule, guests: Sequence[GuestProfile], hosts: Sequence[HostProfile]) -> Asked:
    """With the first ones alone until it is mostly known what the rule reads; then with all."""
    fields: Fields = {scope: () for scope in KINDS}
    some = 2
    while True:
        asked = Asked(rule)
        offer(asked, fields, guests[:some], hosts[:some])
        demand(asked, fields, guests[:some], hosts[:some])
        try:
            asked.answer()
        except Unread as missing:
            scope, name = missing.field
            fields[scope] += (name,)
        except TypeError:  # it wants whole profiles; a defect of its own comes again
            return asked_plainly(rule, guests, hosts)
        else:
            if some >= max(len(guests), len(hosts)):
                return asked
            some = max(len(guests), len(hosts))


def asked_plainly(rule: Rule, guests: Sequence[GuestProfile], hosts: Sequence[HostProfile]) -> Asked:
    numbers = [{each} for each in range(len(guests))]
    asked = Asked(rule, list(guests), list(hosts), numbers, list(range(len(hosts))))
    asked.ladders = {each: [(0, each)] for each in range(len(guests))}
    asked.answer()
    return asked


def offer(
    asked: Asked, fields: Fields, guests: Sequence[GuestProfile], hosts: Sequence[HostProfile]
) -> None:
    """The parts of hosts; an identity counts where a guest runs there."""
    homes = frozenset(each.host for each in guests if each.host)
    numbers: dict[object, int] = {}
    for host in hosts:
        told = (key(host, fields["host"], homes), key(host.bus, fields["host.bus"]))
        number = numbers.setdefault(told, len(numbers))
        if number == len(asked.offers):
            bus = Part("host.bus", values(host.bus, fields["host.bus"]))
            own = values(host, fields["host"], homes) | {"name": HOST, "bus": bus}
            asked.offers.append(Part("host", own))
        asked.of_host.append(number)


def demand(
    asked: Asked, fields: Fields, guests: Sequence[GuestProfile], hosts: Sequence[HostProfile]
) -> None:
    """The parts of guests; a device's UUID counts where the rule reads what a host has for it."""
    homes = frozenset(each.identity for each in hosts)
    masks = chain.from_iterable(each.masks for each in hosts if "masks" in fields["host"])
    held = chain.from_iterable(each.held.values() for each in hosts if "held" in fields["host"])
    masked = frozenset((*masks, *held))
    names = tuple(name for name in fields["guest"] if name != "devices")
    numbers: dict[object, int] = {}
    for guest in guests:
        shared = (key(guest, names, homes), key(guest.bus, fields["guest.bus"]))
        own: set[int] = set()
        for told, devices in shares(asked.rule, fields, guest, masked):
            value = told.limit[1] if told.limit else 0
            number = numbers.setdefault((shared, told), len(numbers))
            if number == len(asked.demands):
                bus = Part("guest.bus", values(guest.bus, fields["guest.bus"]) | {"name": GUEST})
                whole = values(guest, names, homes) | {"name": GUEST, "bus": bus}
                if "devices" in fields["guest"]:
                    whole["devices"] = tuple(
                        Part("device", values(each, fields["device"], masked)) for each in devices
                    )
                asked.demands.append(Part("guest", whole))
                step = (shared, told._replace(limit=(told.limit[0], 0) if told.limit else None))
                asked.ladders.setdefault(step, []).append((value, number))
            own.add(number)
        asked.of_guest.append(own)


class Share(NamedTuple):
    """What is equal for two that a rule cannot tell apart: fields, one bit's groups (None: of several
    devices or none), one limit.
    """

    own: tuple[object, ...] = ()
    bits: tuple[tuple[int, int], ...] | None = None
    limit: tuple[str, int] | None = None


def shares(
    rule: Rule, fields: Fields, guest: GuestProfile, masked: frozenset[UUID]
) -> Iterator[tuple[Share, Sequence[GuestDevice]]]:
    """What the rule sees at once: all devices, one, one with one bit, or none where it reads none."""
    names = fields["device"]
    if "devices" not in fields["guest"]:
        yield Share(), ()
    elif rule.__name__ in TOGETHER or not guest.devices:
        yield Share(tuple(key(each, names, masked) for each in guest.devices), None), guest.devices
    else:
        rest = tuple(name for name in names if name not in ("active", "limits"))
        for device in guest.devices:
            own = key(device, rest, masked)
            limits: list[tuple[str, int] | None] = [None]
            if "limits" in names and device.limits:
                limits = list(device.limits.items())
            for bits in bit_by_bit(device) if "active" in names else [{}]:
                for limit in limits:
                    told = replace(device, active=bits, limits=dict([limit] if limit else []))
                    yield Share(own, tuple(bits.items()), limit), (told,)


def bit_by_bit(device: GuestDevice) -> list[Groups]:
    """Each with those of the active ones that it needs."""
    found: list[Groups] = []
    for group, active in device.active.items():
        needs = (device.type, group) in OFFLOAD_GROUPS
        for bit in each_bit(active):
            others = CSUM | (TSO4 | TSO6 if bit == ECN else 0) if needs else 0
            found.append({group: bit | active & others})
    return found or [{}]
