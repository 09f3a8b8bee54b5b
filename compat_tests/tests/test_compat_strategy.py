# SPDX-License-Identifier: MIT
"""One guest's cells: the way to each of them, what a red one leaves, and when a guest is given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.compat import scenario, strategy
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped, Outcome
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.strategy import Strategy

ERRORS: dict[str, Exception] = {}


class Played:
    """Stands whose benches note what is run on them; `full`: the machine's disk is."""

    def __init__(self, full: bool = False, host: str = "here", ports: bool = True) -> None:
        self.ports = ports
        self.host = host
        self.benches: list[list[str]] = []
        self.open = 0
        self.full = full

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        self.benches.append([])
        self.open += 1
        ran = self.benches[-1]
        guest = SimpleNamespace(
            name="guest",
            serial=Path("serial.log"),
            check_room=self.check_room,
            hardware=SimpleNamespace(has_ports=self.ports),
            plug=lambda bus: ran.append(f"plugged {bus}"),
        )
        bus = SimpleNamespace(socket="bus", ready=lambda guest: ran.append("ready"))
        yield cast(Bench, SimpleNamespace(guest=guest, host=self.host, bus=bus, ran=ran))
        self.open -= 1

    def check_room(self) -> None:
        if self.full:
            raise Blocked("out: the disk is full")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Scenario]]:
    """boot <- install <- kill and net; what is in ERRORS is raised by the one of that name."""
    monkeypatch.setattr(scenario, "REGISTERED", {})
    ERRORS.clear()
    needs = {"boot": (), "install": ("boot",), "kill": ("install",), "net": ("install",)}
    return {name: made(name, order, needs[name]) for order, name in enumerate(needs)}


@pytest.fixture(autouse=True)
def health(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scenarios whose health was checked."""
    checked: list[str] = []
    fake = SimpleNamespace(check=lambda cell: checked.append(cell.name))
    monkeypatch.setattr(strategy, "Health", lambda bench: fake)
    monkeypatch.setattr(strategy, "examined", lambda *_, **__: nullcontext())
    monkeypatch.setattr(strategy, "unhurried", lambda: nullcontext(1.0))
    monkeypatch.setattr(strategy, "is_here", lambda host: host == "here")
    monkeypatch.setattr(strategy, "console", lambda bench: bench.guest.serial)
    monkeypatch.setattr(strategy, "stage", lambda bench, done, prepare: prepare())
    return checked


def made(name: str, order: int, needs: tuple[str, ...]) -> type[Scenario]:
    def run(self: Scenario, bench: Any, cell: Cell) -> None:
        bench.ran.append(name)
        if name in ERRORS:
            raise ERRORS[name]
        cell.compare("x", expected=1, seen=1)

    body = {"name": name, "title": name, "order": order, "needs": needs, "run": run}
    return type(name, (Scenario,), body)


def tried(lane: Strategy, kind: type[Scenario]) -> Cell:
    return lane.tried(kind, Cell(kind.name, kind.title, "guest"))


def test_cells_share_a_guest_as_long_as_they_are_green(known: dict[str, type[Scenario]]) -> None:
    stand = Played()
    with Strategy(stand, known) as lane:
        assert {tried(lane, kind).outcome for kind in known.values()} == {Outcome.GREEN}
        assert stand.open == 1
    assert stand.benches == [["boot", "install", "kill", "net"]]
    assert stand.open == 0


def test_who_comes_first_finds_what_it_needs_without_a_cell_of_its_own(
    known: dict[str, type[Scenario]],
) -> None:
    stand = Played()
    with Strategy(stand, known) as lane:
        assert tried(lane, known["net"]).outcome is Outcome.GREEN
    assert stand.benches == [["boot", "install", "plugged bus", "ready", "net"]]


def test_after_a_red_cell_the_next_one_finds_another_guest_on_which_the_way_is_gone_again(
    known: dict[str, type[Scenario]],
) -> None:
    stand = Played()
    ERRORS["kill"] = VbuskitError("broke")
    with Strategy(stand, known) as lane:
        cells = [tried(lane, kind) for kind in known.values()]
    assert [cell.outcome for cell in cells] == [Outcome.GREEN, Outcome.GREEN, Outcome.RED, Outcome.GREEN]
    assert stand.benches == [["boot", "install", "kill"], ["boot", "install", "plugged bus", "ready", "net"]]


def test_what_needs_a_red_one_is_skipped_and_names_it(known: dict[str, type[Scenario]]) -> None:
    stand = Played()
    ERRORS["boot"] = VbuskitError("broke")
    with Strategy(stand, known) as lane:
        cells = [tried(lane, known[name]) for name in ("boot", "install", "net")]
    assert [cell.outcome for cell in cells] == [Outcome.RED, Outcome.SKIPPED, Outcome.SKIPPED]
    assert cells[1].reason == "needs `boot`, which is red"
    assert cells[2].reason == "needs `install`, which is skipped"
    assert stand.benches == [["boot"]]


def test_a_way_that_breaks_makes_the_cell_red_and_says_where(known: dict[str, type[Scenario]]) -> None:
    ERRORS["install"] = VbuskitError("no room", hint="make some")
    with Strategy(Played(), known) as lane:
        cell = tried(lane, known["net"])
    assert (cell.outcome, cell.reason) == (Outcome.RED, "on the way, `install`: no room (make some)")


def test_a_way_that_cannot_be_gone_on_this_guest_skips_the_cell(known: dict[str, type[Scenario]]) -> None:
    ERRORS["install"] = CellSkipped("no dpkg")
    with Strategy(Played(), known) as lane:
        cell = tried(lane, known["net"])
    assert (cell.outcome, cell.reason) == (Outcome.SKIPPED, "needs `install`: no dpkg")


def test_a_guest_that_is_restored_has_its_installation_behind_it(
    known: dict[str, type[Scenario]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    monkeypatch.setattr(strategy, "stage", lambda bench, done, prepare: keys.append(done))
    stand = Played()
    with Strategy(stand, known) as lane:
        assert tried(lane, known["net"]).outcome is Outcome.GREEN
        assert tried(lane, known["kill"]).outcome is Outcome.GREEN
    assert stand.benches == [["plugged bus", "ready", "net", "kill"]]
    assert keys[0][:2] == ["boot", "install"]


@pytest.mark.parametrize("stand", [Played(host="there"), Played(ports=False)], ids=["behind ssh", "no port"])
def test_where_none_can_be_restored_the_guest_is_booted(
    stand: Played, known: dict[str, type[Scenario]]
) -> None:
    with Strategy(stand, known) as lane:
        assert tried(lane, known["net"]).outcome is Outcome.GREEN
    assert stand.benches == [["boot", "install", "net"]]


def test_a_skipped_cell_costs_no_guest(known: dict[str, type[Scenario]]) -> None:
    stand = Played()
    ERRORS["kill"] = CellSkipped("not here")
    with Strategy(stand, known) as lane:
        assert tried(lane, known["kill"]).outcome is Outcome.SKIPPED
        assert tried(lane, known["net"]).outcome is Outcome.GREEN
    assert len(stand.benches) == 1


def test_a_guest_that_was_stopped_by_a_full_disk_ends_the_run_and_is_given_up(
    known: dict[str, type[Scenario]],
) -> None:
    stand = Played(full=True)
    with Strategy(stand, known) as lane:
        assert tried(lane, known["boot"]).outcome is Outcome.GREEN
        ERRORS["install"] = VbuskitError("no answer")
        with pytest.raises(Blocked, match="the disk is full"):
            tried(lane, known["install"])
        assert stand.open == 0


def test_the_health_of_each_that_held_is_checked(
    known: dict[str, type[Scenario]], health: list[str]
) -> None:
    ERRORS["kill"] = VbuskitError("broke")
    with Strategy(Played(), known) as lane:
        for name in ("install", "kill", "net"):
            tried(lane, known[name])
    assert health == ["install", "net"]


def test_a_cell_names_the_console_and_the_time_on_the_way_is_not_its_own(
    known: dict[str, type[Scenario]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 8.0, 10.0])  # judged, the way, its end, judged
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Strategy(Played(), known) as lane:
        cell = tried(lane, known["net"])
    assert cell.logs == [Path("serial.log")]
    assert cell.seconds == 3.0
