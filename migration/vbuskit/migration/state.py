# SPDX-License-Identifier: MIT
"""Two releases' layout of what is moved, held against each other without running either: line by line.

A guest brings its window along, whichever of the two wrote it; a vbusd finds what the one before it left.
So what is misread is misread both ways. What the later one adds to the window needs a feature bit
(docs/protocol.md, Versions): a guest without the bit goes both ways, and one with it only forward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vbuskit.migration.judgement import Verdict, worst
from vbuskit.migration.release import Release

FIELD = re.compile(r"struct (\w+)\.(\w+): (.+) at (\d+), (\d+) bytes(?: each)?")
SIZE = re.compile(r"struct (\w+): (\d+) bytes")
CONSTANT = re.compile(r"(\S+) = (.+)")
RECORD_VERSION = "VBUSD_RECORD_VERSION"
# What is new: to whom it matters.
ADDED = {
    "window": (Verdict.YES, "no guest meets it without its bit, and none goes back with it"),
    "host": (Verdict.IF, "a worker or vbusd from before does not know it"),
}
LEFT_ALONE = "a vbusd that does not read it leaves such a bus alone, and its worker goes on"


class Place(NamedTuple):
    """Of a field: bytes from the structure's beginning, and how many; of an open array, of each."""

    kind: str
    at: int
    size: int

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}, {self.size} bytes"


@dataclass(frozen=True, slots=True)
class Layout:
    constants: Mapping[str, str]
    sizes: Mapping[str, int]
    fields: Mapping[str, Mapping[str, Place]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. YES: nobody meets it unasked; IF: only an update in place does; NO: it is misread.

    part: `window`, which moves with the guest, or `host`, which one vbusd leaves to the next
    word: removed, changed, moved, resized, renamed, named (what was reserved), new
    """

    part: str
    word: str
    subject: str
    verdict: Verdict
    was: str
    now: str
    reason: str

    def __str__(self) -> str:
        change = f"{self.was} -> {self.now}" if self.was and self.now else self.was or self.now
        return f"{self.verdict}: {self.part}: {self.word}: {self.subject}: {change}: {self.reason}"


def compare(old: Release, new: Release) -> tuple[Change, ...]:
    """Every difference of layout, of the window first."""
    window = changes("window", layout(old.wire), layout(new.wire))
    host = list(changes("host", layout(old.saved), layout(new.saved)))
    raised = any(each.subject == RECORD_VERSION and each.word == "changed" for each in host)
    return (*window, *(softened(each) if raised else each for each in host))


def verdict(found: Iterable[Change]) -> Verdict:
    return worst(each.verdict for each in found)


def softened(change: Change) -> Change:
    """The record says by its version that it is another; nothing is misread."""
    if change.verdict is Verdict.YES:
        return change
    return Change(
        change.part,
        change.word,
        change.subject,
        Verdict.IF,
        change.was,
        change.now,
        f"told by {RECORD_VERSION}: {LEFT_ALONE}",
    )


def layout(lines: Iterable[str]) -> Layout:
    constants: dict[str, str] = {}
    sizes: dict[str, int] = {}
    fields: dict[str, dict[str, Place]] = {}
    for line in lines:
        if found := FIELD.fullmatch(line):
            struct, name, kind, at, size = found.groups()
            fields.setdefault(struct, {})[name] = Place(kind, int(at), int(size))
        elif found := SIZE.fullmatch(line):
            sizes[found[1]] = int(found[2])
        elif found := CONSTANT.fullmatch(line):
            constants[found[1]] = found[2]
        else:
            constants[line] = "not understood"
    return Layout(constants, sizes, fields)


def changes(part: str, old: Layout, new: Layout) -> Iterator[Change]:
    for name in {**old.constants, **new.constants}:
        yield from value(part, name, old.constants.get(name, ""), new.constants.get(name, ""))
    for struct in {**old.sizes, **new.sizes, **old.fields, **new.fields}:
        was, now = old.sizes.get(struct), new.sizes.get(struct)
        yield from value(part, f"struct {struct}", sized(was), sized(now))
        if (was is None) is (now is None):  # who lacks it altogether is told by its size
            here, there = old.fields.get(struct, {}), new.fields.get(struct, {})
            yield from members(part, struct, was or 0, here, there)


def sized(count: int | None) -> str:
    return "" if count is None else f"{count} bytes"


def value(part: str, subject: str, was: str, now: str) -> Iterator[Change]:
    if was == now:
        return
    if not was:
        matters, reason = ADDED[part]
        yield Change(part, "new", subject, matters, was, now, reason)
    elif not now:
        yield Change(part, "removed", subject, Verdict.NO, was, now, "the later one does not know it")
    else:
        yield Change(part, "changed", subject, Verdict.NO, was, now, "each takes it for something else")


def members(
    part: str, struct: str, size: int, old: Mapping[str, Place], new: Mapping[str, Place]
) -> Iterator[Change]:
    """Fields of a structure that both have; `size`: bytes that it had."""
    gone, added = old.keys() - new.keys(), [name for name in new if name not in old]
    renamed = {old[name]: name for name in gone}
    for name in added:
        place, subject = new[name], f"struct {struct}.{name}"
        if before := renamed.get(place):
            gone.discard(before)
            yield Change(part, "renamed", subject, Verdict.YES, before, name, "the bytes mean the same")
        elif place.at + place.size <= size and not any(overlap(place, each) for each in old.values()):
            reason = f"it was reserved, and is 0 of who does not know it; {ADDED[part][1]}"
            yield Change(part, "named", subject, Verdict.YES, "", str(place), reason)
        else:
            reason = "it lies where something else was, or beyond the end"
            yield Change(part, "new", subject, Verdict.NO, "", str(place), reason)
    for name, was in old.items():
        subject = f"struct {struct}.{name}"
        if name in gone:
            yield Change(
                part, "removed", subject, Verdict.NO, str(was), "", "the later one does not fill it"
            )
        elif name in new and new[name] != was:
            word = "moved" if new[name].at != was.at else "resized"
            reason = "each reads something else there"
            yield Change(part, word, subject, Verdict.NO, str(was), str(new[name]), reason)


def overlap(one: Place, other: Place) -> bool:
    return one.at < other.at + other.size and other.at < one.at + one.size
