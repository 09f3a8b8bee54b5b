# SPDX-License-Identifier: MIT
"""The mover on a libvirt and two vbusd that are made up: what it asks of them, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from vbuskit.base.errors import VbuskitError
from vbuskit.base.virt import Progress
from vbuskit.drivers.host import RequestRefused
from vbuskit.drivers.host_abi import Connector, Result
from vbuskit.migration import mover
from vbuskit.migration.journal import Heading, Journal
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.mover import Move, Side
from vbuskit.migration.steps import Step, drive

GUEST = UUID(int=7)
HEADING = Heading(guest="vm1", uuid=GUEST, source="here", destination="there", bus="vm1")


@dataclass
class FakeVbusd:
    """The part of vbusd that a move asks for; held buses, tickets and receipts as it has them."""

    name: str
    log: list[str]
    state: str = ""
    ticket: str = ""
    given: bool = False
    sync_fails: bool = False
    left: dict[UUID, str] = field(default_factory=dict)

    def bus(self, name: str) -> Any:
        if not self.state:
            raise RequestRefused(f"bus {name}: is not there", Result.NO_ENTRY)
        return SimpleNamespace(
            name=name,
            path=Path("/run/vbus/vm1.sock"),
            connector=Connector.IVSHMEM,
            window_mib=16,
            vectors=8,
            held=self.state == "held",
        )

    def devices(self, bus: str) -> list[Any]:
        return []

    def add_bus(self, name: str, path: Path, **words: Any) -> str:
        if self.state:
            raise RequestRefused(f"bus {name}: is there", Result.EXISTS)
        assert words["held"] and words["window_mib"] == 16
        self.log.append(f"{self.name}: held")
        self.state, self.ticket = "held", "ab" * 16
        return self.ticket

    def release(self, bus: str, ticket: str) -> str:
        if self.sync_fails:
            raise RequestRefused("disk: Input/output error", Result.SYSTEM)
        if self.given or self.state != "serving":
            raise RequestRefused("is held already; a receipt is given once", Result.BUSY)
        self.log.append(f"{self.name}: released")
        self.state, self.ticket, self.given = "held", ticket, True
        return f"{ticket}:1"

    def start(self, bus: str, receipt: str, *, fenced: bool = False) -> None:
        if not fenced and receipt != f"{self.ticket}:1":
            raise RequestRefused("is held for another receipt", Result.BUSY)
        assert self.state == "held"
        self.log.append(f"{self.name}: started{' fenced' if fenced else ''}")
        self.state = "serving"

    def remove_bus(self, name: str) -> None:
        self.log.append(f"{self.name}: bus removed")
        self.state = ""

    def leave_ticket(self, uuid: UUID, ticket: str) -> None:
        self.left[uuid] = ticket

    def withdraw_ticket(self, uuid: UUID) -> None:
        self.left.pop(uuid, None)


@dataclass
class FakeLibvirt:
    """One guest that both libvirts know of; `story` is what its migration does, event by event."""

    log: list[str]
    here: str = "running"
    there: str = "gone"
    story: Callable[[FakeLibvirt], None] = lambda self: None
    told: dict[str, Callable[[str], None]] = field(default_factory=dict)
    aborted: bool = False

    def side(self, name: str) -> Any:
        return FakeConnection(self, name)


@dataclass
class FakeConnection:
    world: FakeLibvirt
    attribute: str

    def find_uuid(self, uuid: UUID) -> Any:
        return self if self.whereabouts() != "gone" else None

    def whereabouts(self) -> str:
        return str(getattr(self.world, self.attribute))

    @contextmanager
    def watch(self, uuid: UUID, heard: Callable[[str], None]) -> Iterator[None]:
        self.world.told[self.attribute] = heard
        yield

    def migrate(self, uri: str, bandwidth: int, downtime: int) -> None:
        assert uri == "there"
        self.world.story(self.world)

    def progress(self) -> Progress | None:
        return None

    def abort_job(self) -> None:
        self.world.aborted = True

    def resume(self) -> None:
        self.world.log.append(f"{self.attribute}: resumed")
        setattr(self.world, self.attribute, "running")

    def destroy(self) -> None:
        self.world.log.append(f"{self.attribute}: destroyed")
        setattr(self.world, self.attribute, "gone")


@dataclass
class Stage:
    log: list[str]
    libvirt: FakeLibvirt
    source: FakeVbusd
    destination: FakeVbusd
    journal: Journal

    def move(self) -> Move:
        return Move(
            HEADING,
            Side(self.libvirt.side("here"), self.source),  # type: ignore[arg-type]
            Side(self.libvirt.side("there"), self.destination),  # type: ignore[arg-type]
            lambda _: None,  # type: ignore[arg-type,return-value]
            lambda _: None,
        )

    def run(self, *, fenced: bool = False) -> Step:
        return drive(self.journal, self.move(), fenced=fenced)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(Move, "judged", lambda self: (Verdict.YES, []))
    monkeypatch.setattr(mover, "LOOK_SECONDS", 0.02)
    log: list[str] = []
    source = FakeVbusd("source", log, "serving")
    destination = FakeVbusd("destination", log)
    return Stage(log, FakeLibvirt(log), source, destination, Journal.begun(tmp_path, HEADING))


def stops(world: FakeLibvirt) -> None:
    world.here = world.there = "moving"
    world.told["here"]("moving")


def arrives(world: FakeLibvirt) -> None:
    stops(world)
    world.there = "paused"
    world.told["there"]("paused")
    world.here = "gone"


def test_a_move_that_holds_releases_before_it_starts_and_starts_before_the_guest_goes_on(
    stage: Stage,
) -> None:
    stage.libvirt.story = arrives
    assert stage.run() is Step.MOVED
    assert stage.log == [
        "destination: held",
        "source: released",
        "destination: started",
        "there: resumed",
        "source: bus removed",
    ]
    assert (stage.source.state, stage.destination.state, stage.destination.left) == ("", "serving", {})


def test_the_ticket_is_at_the_destination_before_libvirt_is_asked(stage: Stage) -> None:
    seen: list[dict[UUID, str]] = []

    def story(world: FakeLibvirt) -> None:
        seen.append(dict(stage.destination.left))
        arrives(world)

    stage.libvirt.story = story
    stage.run()
    assert seen == [{GUEST: "ab" * 16}]


def test_a_move_that_libvirt_gives_up_leaves_the_source_as_it_was(stage: Stage) -> None:
    def story(world: FakeLibvirt) -> None:
        raise VbuskitError("vm1: migrate: no route to host")

    stage.libvirt.story = story
    assert stage.run() is Step.BACK
    assert "no route to host" in stage.journal.notes.back
    assert stage.log == ["destination: held", "destination: bus removed"]
    assert (stage.source.state, stage.libvirt.here, stage.destination.left) == ("serving", "running", {})


def test_a_failure_after_the_release_gives_the_bus_back_with_its_own_receipt(stage: Stage) -> None:
    def story(world: FakeLibvirt) -> None:
        stops(world)
        while stage.source.state != "held":
            pass
        world.there, world.here = "gone", "running"
        raise VbuskitError("vm1: migrate: load of migration failed")

    stage.libvirt.story = story
    assert stage.run() is Step.BACK
    assert stage.log == [
        "destination: held",
        "source: released",
        "destination: bus removed",
        "source: started",
    ]


def test_a_disk_that_cannot_be_synced_turns_the_move_back(stage: Stage) -> None:
    """libvirt is told to end; it has stopped the guest, and lets it go on."""

    def story(world: FakeLibvirt) -> None:
        stops(world)
        while not world.aborted:
            pass
        world.there, world.here = "gone", "running"
        raise VbuskitError("vm1: migrate: canceled")

    stage.libvirt.story = story
    stage.source.sync_fails = True
    assert stage.run() is Step.BACK
    assert "Input/output error" in stage.journal.notes.back and stage.source.state == "serving"


@pytest.mark.parametrize("state", ["serving", "held"])
def test_a_bus_of_that_name_at_the_destination_is_left_alone(stage: Stage, state: str) -> None:
    stage.destination.state = state
    assert stage.run() is Step.BACK
    assert stage.log == [] and stage.destination.state == state
    assert Step.PREPARE in stage.journal.notes.failed


def test_the_gates_no_changes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Move, "judged", lambda self: (Verdict.NO, ["machine-unknown: q35"]))
    assert stage.run() is Step.BACK
    assert stage.journal.notes.failed == {Step.GATE} and "machine-unknown" in stage.journal.notes.back
    assert stage.log == []


def test_a_receipt_that_died_with_its_mover_is_not_asked_for_twice(stage: Stage) -> None:
    journal = stage.journal
    for step, found in [(Step.GATE, {}), (Step.PREPARE, {"ticket": "t"}), (Step.MOVE, {})]:
        journal.begin(step)
        journal.end(step, found)
    journal.begin(Step.RELEASE)
    stage.source.state, stage.source.given = "held", True
    stage.destination.state, stage.destination.ticket = "held", "t"
    stage.libvirt.here, stage.libvirt.there = "gone", "paused"
    assert stage.run() is Step.MOVED
    assert stage.log == ["destination: started fenced", "there: resumed", "source: bus removed"]
