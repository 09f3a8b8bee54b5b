# SPDX-License-Identifier: MIT
"""Which step of a migration comes next: by what the journal says, and by what both hosts are seen to have.

    gate -> prepare -> move -> (release -> start) switch -> (wake -> tidy) commit

No step is taken on memory alone: a crash at any point leaves a journal and two hosts, and these decide. The
point of no return is `start` at the destination; before it the way back is cancel, clear, return, revive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from vbuskit.base.errors import Blocked, VbuskitError


class Guest(StrEnum):
    """A guest as one host's libvirt has it; `moving`: stopped by a migration that has not ended."""

    GONE = "gone"
    RUNNING = "running"
    PAUSED = "paused"
    MOVING = "moving"
    UNKNOWN = "unknown"


class Bus(StrEnum):
    """The guest's bus as one host's vbusd has it; held: nobody serves it, no image is open."""

    GONE = "gone"
    SERVING = "serving"
    HELD = "held"
    UNKNOWN = "unknown"


class Step(StrEnum):
    GATE = "gate"  # profiles of both sides, judged
    PREPARE = "prepare"  # a held bus and a ticket at the destination
    MOVE = "move"  # libvirt is told to; returns when the guest stands still, or has failed to move
    RELEASE = "release"  # the source's worker gives up the disks, for a receipt
    ARRIVE = "arrive"  # wait for what libvirt does next
    START = "start"  # the destination's worker takes the disks, for the receipt: no way back
    WAKE = "wake"  # the guest goes on there
    TIDY = "tidy"  # what is left of it at the source goes
    CANCEL = "cancel"  # libvirt's job ends
    CLEAR = "clear"  # what was made at the destination goes
    RETURN = "return"  # the source's worker takes the disks back
    REVIVE = "revive"  # the guest goes on at the source
    MOVED = "moved"
    BACK = "back"


ENDS = frozenset({Step.MOVED, Step.BACK})
PHASES = {
    "gate": (Step.GATE,),
    "prepare": (Step.PREPARE,),
    "move": (Step.MOVE,),
    "switch": (Step.RELEASE, Step.ARRIVE, Step.START),
    "commit": (Step.WAKE, Step.TIDY),
    "back": (Step.CANCEL, Step.CLEAR, Step.RETURN, Step.REVIVE),
}


class Stuck(Blocked):
    """Nothing can be done now without a risk of two writers; the journal stays open."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What a journal says. begun, done, failed: steps; `back`: why it goes back, or empty."""

    begun: frozenset[Step] = frozenset()
    done: frozenset[Step] = frozenset()
    failed: frozenset[Step] = frozenset()
    ticket: str = ""
    receipt: str = ""
    back: str = ""
    closed: Step | None = None

    def after(self, line: Mapping[str, Any]) -> Notes:
        """With one more line; ValueError or KeyError when it is none."""
        if "begin" in line:
            return replace(self, begun=self.begun | {Step(line["begin"])})
        if "back" in line:
            failed = self.failed | ({Step(line["failed"])} if "failed" in line else set())
            return replace(self, back=str(line["back"]) or "asked to", failed=failed)
        if "closed" in line:
            return replace(self, closed=Step(line["closed"]))
        step = Step(line["end"])
        found = {name: str(line[name]) for name in ("ticket", "receipt") if name in line}
        return replace(self, done=self.done | {step}, **found)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Both hosts, now. `moving`: libvirt's job at the source has not ended."""

    source: Guest
    source_bus: Bus
    destination: Guest
    destination_bus: Bus
    moving: bool


class Acts(Protocol):
    """What steps do to the world; each may be done again when it is not known whether it was."""

    def look(self) -> Seen: ...

    def do(self, step: Step, notes: Notes) -> Mapping[str, str]: ...


class Book(Protocol):
    """A journal, or a stand-in for one."""

    notes: Notes

    def begin(self, step: Step) -> None: ...

    def end(self, step: Step, found: Mapping[str, str] | None = None) -> None: ...

    def turn_back(self, why: str, failed: Step | None = None) -> None: ...


def drive(book: Book, acts: Acts, *, fenced: bool = False) -> Step:
    """Until the guest is on one side and nothing is left to do. `book` is not closed yet then.

    A step that fails on the way there turns it back; one that fails on the way back is raised, as is Stuck.
    """
    follows: Step | None = None
    while True:
        step = follows or next_step(book.notes, acts.look(), fenced=fenced)
        follows = None
        if step in ENDS:
            return step
        if step is not Step.ARRIVE:  # it does nothing, and the guest stands still meanwhile
            book.begin(step)
        try:
            found = acts.do(step, book.notes)
        except VbuskitError as error:
            if book.notes.back:
                raise
            book.turn_back(str(error), step)
            continue
        if step is not Step.ARRIVE:
            book.end(step, found)
        follows = at_once(step, found, book.notes)


def at_once(step: Step, found: Mapping[str, str], notes: Notes) -> Step | None:
    """What follows without a look: the source's libvirt is ending its QEMU, and answers 200 ms later."""
    if step is Step.ARRIVE and "arrived" in found and notes.receipt and not notes.back:
        return Step.START
    return Step.WAKE if step is Step.START else None


def next_step(notes: Notes, seen: Seen, *, fenced: bool = False) -> Step:
    """Raises Stuck. `fenced`: the administrator's word that nothing runs at the source any more."""
    if has_started(notes, seen):
        return commit(notes, seen, fenced)
    # From there on the guest is the source's, and what the other one has is old.
    if Step.CLEAR in notes.begun:
        return back(notes, seen)
    if Step.MOVE not in notes.begun:
        return back(notes, seen) if notes.back else ahead(notes)
    if seen.source in (Guest.UNKNOWN, Guest.GONE):
        return take_over(notes, seen, fenced)
    if notes.back or has_failed(seen):
        return back(notes, seen)
    if not notes.receipt and seen.source is Guest.MOVING and seen.source_bus is not Bus.GONE:
        return Step.RELEASE
    if seen.destination is Guest.PAUSED and notes.receipt:
        return Step.START
    return Step.ARRIVE


def has_started(notes: Notes, seen: Seen) -> bool:
    """Whether the destination has the disks. Raises Stuck when that cannot be told."""
    if Step.START in notes.done:
        return True
    if Step.START not in notes.begun or Step.CLEAR in notes.begun:
        return False
    if seen.destination_bus in (Bus.UNKNOWN, Bus.GONE):
        raise Stuck(
            f"the destination was told to go on, and its bus is {seen.destination_bus} now",
            hint="--resume when its vbusd answers again; the source must not go on before",
        )
    return seen.destination_bus is Bus.SERVING


def has_failed(seen: Seen) -> bool:
    """The guest is here, libvirt is done, and has not stopped it for good."""
    return not seen.moving and not (seen.source is Guest.MOVING and seen.destination is Guest.PAUSED)


def ahead(notes: Notes) -> Step:
    if Step.GATE not in notes.done:
        return Step.GATE
    return Step.MOVE if notes.ticket else Step.PREPARE


def take_over(notes: Notes, seen: Seen, fenced: bool) -> Step:
    """The source has let the guest go, or does not answer."""
    gone = seen.source is Guest.GONE
    if seen.destination is Guest.MOVING and (gone or fenced):
        return Step.ARRIVE
    if seen.destination in (Guest.PAUSED, Guest.RUNNING):
        if notes.receipt or fenced:
            return Step.START
        if gone and seen.source_bus in (Bus.SERVING, Bus.HELD):
            return Step.RELEASE
        raise Stuck(
            f"the guest is at the destination, and the source's bus ({seen.source_bus}) gives no receipt",
            hint="see to it that the source writes no more, then --resume --source-is-fenced",
        )
    if gone and seen.destination is Guest.GONE:
        if notes.back:
            return Step.CLEAR
        raise Stuck("the guest is on neither host: it has ended", hint="--abort closes its journal")
    raise Stuck(
        f"the guest is {seen.source} at the source and {seen.destination} at the destination",
        hint="--resume when both hosts answer",
    )


def commit(notes: Notes, seen: Seen, fenced: bool) -> Step:
    """The destination has the disks: the guest goes on there, whatever becomes of the source."""
    if seen.destination is Guest.PAUSED:
        return Step.WAKE
    if seen.destination in (Guest.MOVING, Guest.UNKNOWN):
        raise Stuck(
            f"the guest belongs to the destination, where it is {seen.destination}", hint="--resume later"
        )
    left = seen.source is not Guest.GONE or seen.source_bus is not Bus.GONE or Step.TIDY not in notes.done
    if is_unknown(seen):
        if fenced:
            return Step.MOVED
        raise Stuck(
            "the guest runs at the destination; what is left of it at the source, which is silent, stays",
            hint="--resume when it answers",
        )
    return Step.TIDY if left else Step.MOVED


def back(notes: Notes, seen: Seen) -> Step:
    """The destination has never started: what it has goes first, lest a late word starts it."""
    if Step.MOVE in notes.begun and is_unknown(seen):
        raise Stuck("the guest is the source's, which does not answer", hint="--resume when it answers")
    if seen.moving:
        return Step.CANCEL
    if Step.PREPARE in notes.begun and Step.CLEAR not in notes.done:
        return Step.CLEAR
    if seen.source_bus is Bus.HELD:
        return Step.RETURN
    return Step.REVIVE if seen.source in (Guest.PAUSED, Guest.MOVING) else Step.BACK


def is_unknown(seen: Seen) -> bool:
    return seen.source is Guest.UNKNOWN or seen.source_bus is Bus.UNKNOWN
