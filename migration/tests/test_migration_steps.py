# SPDX-License-Identifier: MIT
"""A migration that is cut off anywhere ends, by --resume or --abort, with the guest on exactly one side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vbuskit.base.errors import VbuskitError
from vbuskit.migration.journal import Heading, Journal
from vbuskit.migration.steps import Bus, Guest, Notes, Seen, Step, Stuck, drive, next_step

HEADING = Heading(guest="vm1", uuid=UUID(int=7), source="here", destination="there")
often = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


class Crash(BaseException):
    """The mover is killed."""


class Failed(VbuskitError):
    """A host says no."""


@dataclass
class World:
    """Two hosts and libvirt's own job between them, which goes on whether anybody looks or not.

    job: how far libvirt is; late: a word on the wire that a killed mover has left behind.
    """

    choose: Callable[[int], int]
    source: Guest = Guest.RUNNING
    source_bus: Bus = Bus.SERVING
    destination: Guest = Guest.GONE
    destination_bus: Bus = Bus.GONE
    job: str = ""
    ticket: str = ""
    released: str = ""
    given: bool = False
    late: Callable[[], object] | None = None
    faults: int = 3
    cut: bool = False
    woken: bool = False
    trail: list[str] = field(default_factory=list)

    # -- what happens by itself

    def tick(self) -> None:
        for _ in range(self.choose(3)):
            self.step_of_libvirt()
        if self.late and self.choose(2):
            late, self.late = self.late, None
            late()
        self.holds()

    def step_of_libvirt(self) -> None:
        fails = self.faults > 0 and self.choose(6) == 5
        if fails and self.job in ("copying", "stopped"):
            self.faults -= 1
            self.job, self.source, self.destination = "", Guest.RUNNING, Guest.GONE
        elif self.job == "copying":
            self.job, self.source, self.destination = "stopped", Guest.MOVING, Guest.MOVING
        elif self.job == "stopped":
            self.job, self.destination = "arrived", Guest.PAUSED
        elif self.job == "arrived":
            self.job = ""
            if fails:  # libvirtd dies between its two last steps, or hears the other one no more
                self.faults -= 1
                self.source = (Guest.MOVING, Guest.RUNNING)[self.choose(2)]
            else:
                self.source = Guest.GONE

    def holds(self) -> None:
        """Never two writers, at any time; a guest that has run there never runs here again."""
        assert [self.source_bus, self.destination_bus].count(Bus.SERVING) < 2 or not self.woken, self.trail
        if self.destination is Guest.RUNNING:
            assert self.destination_bus is Bus.SERVING and self.source_bus is not Bus.SERVING, self.trail
        if self.source is Guest.RUNNING and self.source_bus is Bus.SERVING:
            assert not self.woken, self.trail

    # -- what the mover does

    def look(self) -> Seen:
        self.tick()
        here = (self.source, self.source_bus, self.destination, self.destination_bus)
        return Seen(
            source=here[0],
            source_bus=here[1],
            destination=Guest.UNKNOWN if self.cut else here[2],
            destination_bus=Bus.UNKNOWN if self.cut else here[3],
            moving=bool(self.job),
        )

    def do(self, step: Step, notes: Notes) -> Mapping[str, str]:
        """A step, cut off before it, after it, or with its words still on their way; or it fails."""
        self.trail.append(step)
        fate = self.choose(12) if self.faults else 0
        if fate in (1, 2, 3, 4):
            self.faults -= 1
        if fate == 1:
            raise Crash
        if fate == 2 and step in (Step.START, Step.RETURN, Step.RELEASE):
            self.late = lambda: self.unless_refused(step, notes)
            raise Crash
        if fate == 4 and step not in (Step.CLEAR, Step.RETURN, Step.REVIVE, Step.WAKE, Step.TIDY):
            raise Failed(step)
        found = cast(Mapping[str, str], getattr(self, step.name.lower())(notes) or {})
        self.tick()
        if fate == 3:
            raise Crash
        return found

    def unless_refused(self, step: Step, notes: Notes) -> None:
        try:
            getattr(self, step.name.lower())(notes)
        except Failed:
            self.trail.append(f"late {step} refused")

    def gate(self, notes: Notes) -> None:
        pass

    def prepare(self, notes: Notes) -> Mapping[str, str]:
        self.destination_bus, self.ticket = Bus.HELD, f"{self.ticket}t"
        return {"ticket": self.ticket}

    def move(self, notes: Notes) -> None:
        assert not self.job and self.source is Guest.RUNNING and self.destination_bus is Bus.HELD
        self.job = "copying"

    def arrive(self, notes: Notes) -> Mapping[str, str]:
        before = self.destination
        self.step_of_libvirt()
        return {"arrived": "yes"} if (before, self.destination) == (Guest.MOVING, Guest.PAUSED) else {}

    def release(self, notes: Notes) -> Mapping[str, str]:
        if self.source_bus is Bus.HELD and Step.RELEASE not in notes.failed:
            return {"receipt": "lost"}
        if self.source_bus is not Bus.SERVING or self.source is Guest.RUNNING:
            raise Failed("release", hint="--source-is-fenced")
        self.source_bus, self.released = Bus.HELD, notes.ticket
        return {"receipt": notes.ticket}

    def start(self, notes: Notes) -> None:
        if self.destination_bus is Bus.GONE:
            raise Failed("no bus")
        assert self.source_bus is not Bus.SERVING, self.trail
        self.destination_bus = Bus.SERVING

    def wake(self, notes: Notes) -> None:
        assert self.destination_bus is Bus.SERVING and self.destination is Guest.PAUSED
        self.destination, self.woken = Guest.RUNNING, True

    def tidy(self, notes: Notes) -> None:
        assert self.woken
        while self.job:
            self.step_of_libvirt()
        self.source, self.source_bus = Guest.GONE, Bus.GONE

    def cancel(self, notes: Notes) -> None:
        if self.job in ("copying", "stopped") and self.choose(2):
            self.job, self.source, self.destination = "", Guest.RUNNING, Guest.GONE
        while self.job:
            self.step_of_libvirt()

    def clear(self, notes: Notes) -> None:
        assert self.source is not Guest.GONE and not self.job, self.trail
        if self.cut and Step.START not in notes.begun:
            return
        if self.cut:
            raise Failed("cut off")
        self.destination, self.destination_bus = Guest.GONE, Bus.GONE

    def return_(self, notes: Notes) -> None:
        assert not self.woken and self.destination_bus is not Bus.SERVING, self.trail
        self.source_bus = Bus.SERVING

    def revive(self, notes: Notes) -> None:
        assert self.source_bus is Bus.SERVING
        self.source = Guest.RUNNING


setattr(World, "return", World.return_)


def goes(world: World, folder: Path, choose: Callable[[int], int]) -> tuple[Step, Journal]:
    """A migration, killed and taken up again until it has come to its end."""
    journal = Journal.begun(folder, HEADING)
    fenced = False
    for life in range(40):
        if life:
            tear(journal.path, choose)
            journal = Journal.reopened(journal.path)
            if choose(3) == 2 and not journal.notes.back:
                journal.turn_back("--abort")
        try:
            return drive(journal, world, fenced=fenced), journal
        except Crash:
            world.trail.append("crash")
        except (Stuck, VbuskitError) as error:
            world.trail.append(f"raised {error}")
            world.faults = 0
            # Whoever gives his word has looked.
            fenced = "--source-is-fenced" in str(error.hint) and world.source_bus is Bus.HELD
    raise AssertionError(world.trail)


def tear(path: Path, choose: Callable[[int], int]) -> None:
    """What was being written when the power went, or had not been synced."""
    if choose(3) == 1:
        with path.open("ab") as file:
            file.write(b'{"end":"start"'[: 1 + choose(13)])
    *lines, last = path.read_bytes().splitlines(keepends=True)
    if choose(3) == 1 and last.startswith(b'{"end":') and b"," not in last:
        path.write_bytes(b"".join(lines))


@often
@given(st.integers(0, 1 << 32))
def test_after_a_crash_at_any_point_the_guest_is_alive_on_exactly_one_side(seed: int) -> None:
    choose = Random(seed).randrange  # a draw of hypothesis' own for each choice takes a minute
    world = World(choose)
    with TemporaryDirectory() as name:
        end, journal = goes(world, Path(name), choose)
        journal.close(end)
        assert list(Path(name).glob("*.jsonl")) == []
    here = (world.source, world.source_bus)
    there = (world.destination, world.destination_bus)
    alive = (Guest.RUNNING, Bus.SERVING)
    gone = (Guest.GONE, Bus.GONE)
    assert (here, there) == ((gone, alive) if end is Step.MOVED else (alive, gone)), world.trail


def seen(**words: object) -> Seen:
    usual = {
        "source": Guest.MOVING,
        "source_bus": Bus.HELD,
        "destination": Guest.PAUSED,
        "destination_bus": Bus.HELD,
        "moving": False,
    }
    return Seen(**{**usual, **words})  # type: ignore[arg-type]


MOVED = frozenset({Step.GATE, Step.PREPARE, Step.MOVE})


def test_a_source_that_does_not_answer_and_gave_no_receipt_needs_the_administrators_word() -> None:
    notes = Notes(begun=MOVED, ticket="t")
    away = seen(source=Guest.UNKNOWN, source_bus=Bus.UNKNOWN)
    with pytest.raises(Stuck) as told:
        next_step(notes, away)
    assert "--source-is-fenced" in str(told.value.hint)
    assert next_step(notes, away, fenced=True) is Step.START


def test_a_destination_that_was_told_to_go_on_and_is_silent_stops_the_way_back() -> None:
    notes = Notes(begun=MOVED | {Step.RELEASE, Step.START}, ticket="t", receipt="r", back="asked to")
    with pytest.raises(Stuck, match="was told to go on"):
        next_step(notes, seen(destination=Guest.UNKNOWN, destination_bus=Bus.UNKNOWN))
    assert next_step(notes, seen()) is Step.CLEAR
    assert next_step(notes, seen(destination_bus=Bus.SERVING)) is Step.WAKE


def test_what_the_guest_has_left_behind_is_never_started_again() -> None:
    """Back at the source, the guest has ended there since; the destination still has its old copy."""
    notes = Notes(begun=MOVED | {Step.RELEASE, Step.CLEAR, Step.RETURN}, ticket="t", receipt="r")
    ended = seen(source=Guest.GONE, source_bus=Bus.SERVING)
    assert next_step(notes, ended) is Step.CLEAR
    assert next_step(notes, ended, fenced=True) is Step.CLEAR


def test_a_source_without_the_destination_takes_its_guest_back() -> None:
    world = World(lambda _: 0, faults=0)
    notes = Notes(begun=MOVED | {Step.RELEASE}, receipt="r", back="network cut")
    cut = seen(destination=Guest.UNKNOWN, destination_bus=Bus.UNKNOWN)
    assert next_step(notes, cut) is Step.CLEAR
    world.cut = True
    world.clear(notes)
    cleared = Notes(begun=notes.begun | {Step.CLEAR}, done=frozenset({Step.CLEAR}), back="network cut")
    assert next_step(cleared, cut) is Step.RETURN
