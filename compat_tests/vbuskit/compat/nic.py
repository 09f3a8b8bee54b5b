# SPDX-License-Identifier: MIT
"""What ethtool and vbusd say of one card: offloads, counters, and whether both sides count alike."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card

PATIENCE = 20.0  # seconds
ROOM = 14  # bytes of an Ethernet header; the MTU does not count them


def offloads(bench: Bench, name: str) -> dict[str, bool]:
    """{feature: on} of `ethtool -k`; what it says in brackets behind is left out."""
    return {word: state == "on" for word, state in words(bench, f"ethtool -k {name}", r"on|off")}


def counters(bench: Bench, name: str) -> dict[str, int]:
    """{counter: value} of `ethtool -S`."""
    return {word: int(value) for word, value in words(bench, f"ethtool -S {name}", r"\d+")}


def words(bench: Bench, command: str, value: str) -> list[tuple[str, str]]:
    found = re.findall(rf"^\s*([\w-]+): ({value})\b", bench.guest(command), re.MULTILINE)
    if not found:
        raise VbuskitError(f"{command}: the guest says nothing that can be read")
    return found


def queues(seen: dict[str, int], direction: str, what: str) -> list[int]:
    """One counter of every queue: `queues(seen, "rx", "frames")` -> [of rx0, of rx1, ...]."""
    pattern = re.compile(rf"{direction}(\d+)_{what}")
    found = {int(match[1]): value for name, value in seen.items() if (match := pattern.fullmatch(name))}
    return [found[index] for index in sorted(found)]


@dataclass(frozen=True, slots=True)
class Counted:
    """Frames and bytes each way, from the guest's view."""

    tx_frames: int
    tx_bytes: int
    rx_frames: int
    rx_bytes: int

    def since(self, before: Counted) -> Counted:
        return Counted(
            self.tx_frames - before.tx_frames,
            self.tx_bytes - before.tx_bytes,
            self.rx_frames - before.rx_frames,
            self.rx_bytes - before.rx_bytes,
        )


NAMES = ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes")


def by_north(bench: Bench, name: str) -> Counted:
    seen = counters(bench, name)
    return Counted(*(sum(queues(seen, *name_.split("_"))) for name_ in NAMES))


def by_south(bench: Bench, card: Card) -> Counted:
    seen = bench.bus.device(card).counters
    return Counted(*(seen[name] for name in NAMES))


@dataclass(frozen=True, slots=True)
class Marked:
    """Where both sides' counters stood."""

    north: Counted
    south: Counted


def mark(bench: Bench, card: Card, name: str) -> Marked:
    """Both at one moment: nothing moved while they were read."""
    seen = until(lambda: still(bench, card, name), PATIENCE)
    if seen is None:
        raise TimedOut(f"{card.name}: never idle for {PATIENCE:g} s")
    return seen


def still(bench: Bench, card: Card, name: str) -> Marked | None:
    before = by_south(bench, card)
    north = by_north(bench, name)
    return Marked(north, before) if by_south(bench, card) == before else None


def passed(bench: Bench, card: Card, name: str, before: Marked) -> tuple[Counted, Counted]:
    """(what the guest counted, what the worker counted) since `before`, when all has arrived.

    They are equal unless one of them miscounts: a difference does not go away by waiting.
    """

    def look() -> tuple[Counted, Counted] | None:
        now = mark(bench, card, name)
        seen = now.north.since(before.north), now.south.since(before.south)
        return seen if seen[0] == seen[1] else None

    now = until(look, PATIENCE / 4) or None
    if now is not None:
        return now
    last = mark(bench, card, name)
    return last.north.since(before.north), last.south.since(before.south)
