# SPDX-License-Identifier: MIT
"""Which cells of the matrix would run, why each of the others would not, and how long it takes; no I/O.

Raises UsageError for an id, a shard or an axis that cannot be meant.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace
from itertools import product
from typing import Self

from vbuskit.base.errors import UsageError
from vbuskit.compat import scenario
from vbuskit.compat.guests import GuestKind, Level
from vbuskit.compat.pairs import cover
from vbuskit.compat.scenario import Scenario

THIS = "this"  # of this checkout, as opposed to a release
USUAL = {"drivers": THIS, "host": THIS, "machine": "q35"}  # sorted, as an id has them
NAME, VALUE = re.compile(r"[a-z][a-z0-9_-]{0,31}"), re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}")
CELL = re.compile(r"([^/\[\]]+)/([^/\[\]]+)(?:\[([^\[\]]*)\])?")

# Seconds that a scenario may take of which nothing is known, for a patience of 1.
SOAK, COLD, LONG, USUALLY = 1200.0, 90.0, 45.0, 10.0


@dataclass(frozen=True, slots=True, order=True)
class Coordinates:
    """Where a cell lies: `debian-12/kill`, with unusual axes `debian-12/kill[drivers=0.1]`."""

    guest: str
    scenario: str
    drivers: str = "this"
    host: str = "this"
    machine: str = "q35"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.guest) or not NAME.fullmatch(self.scenario):
            raise UsageError(f"{self.id}: guest and scenario are a-z, 0-9, _ and -")
        for axis in USUAL:
            if not VALUE.fullmatch(getattr(self, axis)):
                raise UsageError(f"{self.id}: {axis}: a value is letters, digits and any of . + ~ _ -")

    @property
    def axes(self) -> dict[str, str]:
        """Those with another value than the usual one, as `Cell.axes` has them."""
        values = (self.drivers, self.host, self.machine)
        return {
            axis: value for (axis, usual), value in zip(USUAL.items(), values, strict=True) if value != usual
        }

    @property
    def place(self) -> str:
        """The same without guest and scenario: empty, or `[drivers=0.1]`."""
        axes = self.axes
        return f"[{','.join(f'{axis}={value}' for axis, value in axes.items())}]" if axes else ""

    @property
    def id(self) -> str:
        return f"{self.guest}/{self.scenario}{self.place}"

    @property
    def group(self) -> str:
        """What shares this one's guest, and so its boots."""
        return f"{self.guest}{self.place}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The coordinates that have this id; usual values may be spelled out, in any order."""
        found = CELL.fullmatch(text)
        words = [word.partition("=") for word in found[3].split(",")] if found and found[3] else []
        axes = {axis: value for axis, _, value in words}
        if not found or found[3] == "" or len(axes) < len(words) or axes.keys() - USUAL.keys():
            raise UsageError(
                f"{text}: is no cell",
                hint=f"GUEST/SCENARIO, or GUEST/SCENARIO[AXIS=VALUE,...] of the axes {', '.join(USUAL)}",
            )
        return cls(found[1], found[2], **axes)


@dataclass(frozen=True, slots=True)
class Axes:
    """The values of each axis that are tried beside guests and scenarios."""

    drivers: tuple[str, ...] = ("this",)
    host: tuple[str, ...] = ("this",)
    machine: tuple[str, ...] = ("q35",)

    def __post_init__(self) -> None:
        for axis in USUAL:
            values = getattr(self, axis)
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{axis}: needs at least one value, and each of them once")


@dataclass(frozen=True, slots=True)
class Planned:
    """One combination: `excluded` is empty, or says in words why it is not tried."""

    coordinates: Coordinates
    excluded: str
    seconds: float
    group: str


def plan(
    kinds: Iterable[GuestKind],
    chosen: Iterable[type[Scenario]],
    axes: Axes,
    *,
    names: Collection[str] | None = None,
    expected: Mapping[str, float],
    shard: tuple[int, int] | None = None,
    pairwise: bool = False,
    workers: int = 1,
    unavailable: Mapping[str, str] | None = None,
    far: bool = False,
) -> list[Planned]:
    """Every combination once: a group's cells together, in the order of their scenarios.

    names:       what the user named, guests and scenarios; what else is chosen may come as somebody's need
    expected:    seconds by id of a cell, from history
    shard:       (2, 4) is the second of four
    workers:     with several, the groups that take longest come first
    unavailable: why not, by guest, by `axis=value`, or by group
    far:         on hosts of a pool
    """
    asking = Asking(tuple(kinds), with_needs(chosen), frozenset(names or ()), dict(unavailable or {}), far)
    groups = list(asking.groups(axes))
    excluded = {at: why for group in groups for at, why in asking.impossible(group)}
    if pairwise:
        excluded |= spared(groups, excluded, asking.needs)
    seconds = expectation(groups, asking, expected)
    if shard is not None:
        excluded |= elsewhere(groups, excluded, seconds, shard)
    if workers > 1:
        groups.sort(key=lambda group: -busy(group, excluded, seconds))
    return [
        Planned(at, excluded.get(at, ""), seconds[at], group[0].group) for group in groups for at in group
    ]


Group = list[Coordinates]


def with_needs(chosen: Iterable[type[Scenario]]) -> dict[str, type[Scenario]]:
    """Those, and whatever they need, by name in their order."""
    found: dict[str, type[Scenario]] = {}
    queue = list(chosen)
    known = scenario.REGISTERED | {kind.name: kind for kind in queue}
    while queue:
        kind = queue.pop()
        if kind.name not in found:
            found[kind.name] = kind
            queue.extend(known[name] for name in kind.needs)
    return {kind.name: kind for kind in sorted(found.values(), key=lambda kind: (kind.order, kind.name))}


@dataclass(frozen=True, slots=True)
class Asking:
    """What was asked for; `scenarios` has all that these need, and `unavailable` says what there is not."""

    kinds: tuple[GuestKind, ...]
    scenarios: dict[str, type[Scenario]]
    names: frozenset[str]
    unavailable: dict[str, str]
    far: bool = False

    def groups(self, axes: Axes) -> Iterator[Group]:
        for kind, *point in product(self.kinds, axes.drivers, axes.host, axes.machine):
            yield [Coordinates(kind.name, name, *point) for name in self.scenarios]

    def needs(self, name: str) -> Iterator[str]:
        """What a scenario needs, and what that needs."""
        for need in self.scenarios[name].needs:
            yield need
            yield from self.needs(need)

    def impossible(self, group: Group) -> Iterator[tuple[Coordinates, str]]:
        """What of one group cannot be tried, or nobody wants."""
        kind = next(kind for kind in self.kinds if kind.name == group[0].guest)
        missing = self.missing(kind, group[0])
        if missing:
            yield from ((at, missing) for at in group)
            return
        unfit = {name: unfit for name in self.scenarios if (unfit := self.unfit(kind, group[0], name))}
        asked = self.scenarios.keys() & self.names or self.scenarios.keys()
        wanted = {name for name in asked if name not in unfit}
        wanted |= {need for name in wanted for need in self.needs(name)}
        for at in group:
            if at.scenario in unfit:
                yield at, unfit[at.scenario]
            elif at.scenario not in wanted:
                yield at, "nothing that was asked for needs it on this guest"

    def missing(self, kind: GuestKind, at: Coordinates) -> str:
        """Why no cell of a group can be tried."""
        named = self.names & {each.name for each in self.kinds}
        if named and kind.name not in named:
            return "other guests were named"
        if kind.level is Level.EXPERIMENTAL and not named:
            return "the guest is tried only when it is named"
        keys = (kind.name, *(f"{axis}={getattr(at, axis)}" for axis in USUAL), at.group)
        return next((self.unavailable[key] for key in keys if key in self.unavailable), "")

    def unfit(self, kind: GuestKind, at: Coordinates, name: str) -> str:
        """Why a scenario is none for a guest, or for what else its group has."""
        families, not_on = self.scenarios[name].families, dict(self.scenarios[name].not_on)
        if kind.family not in families:
            return f"the scenario is for guests of the family {' or '.join(families)}"
        if self.far and not self.scenarios[name].far:
            return "the scenario has files or programs of this machine, and is none for a host of a pool"
        for axis, value in at.axes.items():
            if reason := not_on.get(f"{axis}={value}", not_on.get(axis, "")):
                return reason
        for need in self.scenarios[name].needs:
            if self.unfit(kind, at, need):
                return f"the scenario needs `{need}`, which is not for this guest{at.place}"
        return ""


def spared(
    groups: Sequence[Group], excluded: Mapping[Coordinates, str], needs: Callable[[str], Iterable[str]]
) -> dict[Coordinates, str]:
    """What may be left out while each two values of two axes still meet in a cell."""
    there = [at for group in groups for at in group if at not in excluded]
    number = {at: index for index, at in enumerate(there)}
    closure = {name: tuple(needs(name)) for name in {at.scenario for at in there}}
    kept = cover(
        [(at.guest, at.scenario, at.drivers, at.host, at.machine) for at in there],
        lambda index: [
            number[replace(there[index], scenario=need)] for need in closure[there[index].scenario]
        ],
    )
    return {at: "not in the pairwise set" for index, at in enumerate(there) if index not in kept}


def elsewhere(
    groups: Sequence[Group],
    excluded: Mapping[Coordinates, str],
    seconds: Mapping[Coordinates, float],
    shard: tuple[int, int],
) -> dict[Coordinates, str]:
    """What other shards try: whole groups, the longest first, each to the shard with the least so far."""
    own, count = shard
    if not 1 <= own <= count:
        raise UsageError(f"shard {own}/{count}: is none", hint="--shard 2/4 is the second of four")
    full = [group for group in groups if any(at not in excluded for at in group)]
    its = spread({group[0].group: busy(group, excluded, seconds) for group in full}, count)
    return {
        at: f"shard {its[at.group]}/{count} tries it"
        for group in full
        for at in group
        if at not in excluded and its[at.group] != own
    }


def spread(loads: Mapping[str, float], count: int) -> dict[str, int]:
    """Name -> which of `count` bins, from 1; a heap decides, and where loads are equal the name."""
    bins = [(0.0, number) for number in range(1, count + 1)]
    found = {}
    for name in sorted(loads, key=lambda name: (-loads[name], name)):
        load, number = bins[0]
        heapreplace(bins, (load + loads[name], number))
        found[name] = number
    return found


def busy(group: Group, excluded: Mapping[Coordinates, str], seconds: Mapping[Coordinates, float]) -> float:
    return sum(seconds[at] for at in group if at not in excluded)


def expectation(
    groups: Sequence[Group], asking: Asking, history: Mapping[str, float]
) -> dict[Coordinates, float]:
    """What each cell took; else what its scenario took elsewhere, by the guests' patience; else a guess."""
    patience = {kind.name: kind.patience for kind in asking.kinds}
    took: dict[str, list[float]] = defaultdict(list)
    for cell, seconds in history.items():
        guest, _, name = cell.partition("[")[0].partition("/")
        took[name].append(seconds / patience.get(guest, 1))
    likely = {
        name: statistics.median(took[name]) if took[name] else guess(kind)
        for name, kind in asking.scenarios.items()
    }
    return {
        at: history.get(at.id, likely[at.scenario] * patience[at.guest]) for group in groups for at in group
    }


def guess(kind: type[Scenario]) -> float:
    return SOAK if kind.soak else LONG if kind.long else COLD if kind.cold else USUALLY
