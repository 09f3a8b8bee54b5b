# SPDX-License-Identifier: MIT
"""The plan: every combination once, a reason in words for what is left out, shards that add up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuskit.base.errors import UsageError
from vbuskit.base.places import ROOT
from vbuskit.compat import scenario
from vbuskit.compat.guests import GuestKind, Level, guest_kinds
from vbuskit.compat.plan import Axes, Coordinates, Planned, plan
from vbuskit.compat.scenario import Scenario, choose, scenarios
from vbuskit.drivers.kernels import KERNELS

PAIRWISE = "not in the pairwise set"


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(scenario, "REGISTERED", {kind.name: kind for kind in scenarios()})


def kind(name: str, **words: Any) -> GuestKind:
    return GuestKind(name, KERNELS[0], **words)


def made(name: str, needs: tuple[str, ...] = (), **words: Any) -> type[Scenario]:
    scenario.REGISTERED.pop(name, None)
    words = {"order": 99, "title": name, "families": ("deb", "rpm"), **words}
    body = {"name": name, "needs": needs, "run": lambda *_: None, **words}
    return type(name, (Scenario,), body)


def kinds_of(count: int) -> list[GuestKind]:
    return [kind(f"guest-{number}", family=("deb", "rpm")[number % 2]) for number in range(count)]


def run(planned: Iterable[Planned]) -> list[str]:
    return [each.coordinates.id for each in planned if not each.excluded]


def why(planned: Iterable[Planned], cell: str) -> str:
    return next(each.excluded for each in planned if each.coordinates.id == cell)


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
VALUES = st.one_of(
    st.sampled_from(["this", "q35"]), st.from_regex(r"[A-Za-z0-9][\w.+~-]{0,9}", fullmatch=True)
)
WHERE = st.builds(
    Coordinates, NAMES, NAMES, VALUES.filter(str.isascii), st.just("this"), st.just("0.1~dev0")
)


@given(WHERE)
def test_an_id_is_read_back(at: Coordinates) -> None:
    assert Coordinates.parse(at.id) == at


def test_an_id_names_unusual_axes_only_and_in_their_order() -> None:
    at = Coordinates("debian-12", "kill", host="0.1", drivers="0.1")
    assert (at.id, at.group) == ("debian-12/kill[drivers=0.1,host=0.1]", "debian-12[drivers=0.1,host=0.1]")
    assert at.axes == {"drivers": "0.1", "host": "0.1"}
    assert Coordinates("debian-12", "kill").id == "debian-12/kill"
    assert Coordinates.parse("debian-12/kill[machine=q35,host=0.1,drivers=0.1]") == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kill",
        "a/b/c",
        "A/b",
        "a/b@c",
        "a/b[]",
        "a/b[c=d]",
        "a/b[host]",
        "a/b[host=]",
        "a/b[host=1,host=1]",
        "a/b[host=1",
        "a/b[host=x y]",
        "a/b[host=1]\n",
        "a/b[host=[]]",
    ],
)
def test_what_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Coordinates.parse(text)


def test_what_a_chosen_one_needs_comes_with_it_in_order() -> None:
    chosen = [each for each in scenarios() if each.name == "kill"]
    planned = plan([kind("one")], chosen, Axes(), expected={})
    assert run(planned) == [f"one/{name}" for name in ("boot", "install", "negotiate", "transfer", "kill")]


def test_each_reason_is_said_in_words() -> None:
    chosen = [
        made("boot", order=0),
        made("install", ("boot",), order=1),
        made("kmp", ("boot",), families=("rpm",)),
        made("kmp2", ("kmp",)),
    ]
    guests = [
        kind("deb"),
        kind("rpm", family="rpm"),
        kind("debug", level=Level.EXPERIMENTAL),
        kind("windows"),
    ]
    planned = plan(guests, chosen, Axes(), expected={}, unavailable={"windows": "its image is not here"})
    assert why(planned, "deb/kmp") == "the scenario is for guests of the family rpm"
    assert why(planned, "deb/kmp2") == "the scenario needs `kmp`, which is not for this guest"
    assert why(planned, "debug/boot") == "the guest is tried only when it is named"
    assert why(planned, "windows/boot") == "its image is not here"
    assert run(planned) == ["deb/boot", "deb/install", "rpm/boot", "rpm/install", "rpm/kmp", "rpm/kmp2"]
    named = plan(guests, chosen, Axes(), names=("debug", "rpm"), expected={})
    assert why(named, "deb/boot") == "other guests were named"
    assert why(named, "debug/boot") == ""


def test_no_guest_is_booted_for_a_need_of_nothing() -> None:
    chosen = [made("boot", order=0), made("kmp", ("boot",), families=("rpm",))]
    planned = plan([kind("deb"), kind("rpm", family="rpm")], chosen, Axes(), names=("kmp",), expected={})
    assert why(planned, "deb/boot") == "nothing that was asked for needs it on this guest"
    assert run(planned) == ["rpm/boot", "rpm/kmp"]


def test_a_value_of_an_axis_that_is_not_there_leaves_out_its_cells_and_no_others() -> None:
    missing = {"drivers=0.1": "no goldens of 0.1", "b[host=0.1]": "b has no such host"}
    axes = Axes(("this", "0.1"), ("this", "0.1"))
    planned = plan([kind("a"), kind("b")], [made("boot")], axes, expected={}, unavailable=missing)
    assert run(planned) == ["a/boot", "a/boot[host=0.1]", "b/boot"]
    assert why(planned, "a/boot[drivers=0.1]") == "no goldens of 0.1"
    assert why(planned, "b/boot[host=0.1]") == "b has no such host"


def test_seconds_come_from_history_then_from_other_guests_then_from_the_kind_of_scenario() -> None:
    chosen = [
        made("seen"),
        made("cold", cold=True),
        made("long", long=True),
        made("soak", soak=True),
        made("hot"),
    ]
    guests = [kind("a"), kind("b"), kind("slow", patience=6)]
    planned = plan(guests, chosen, Axes(), expected={"a/seen": 2.0, "c/seen": 4.0, "b/seen[host=0.1]": 9.0})
    took = {each.coordinates.id: each.seconds for each in planned}
    assert (took["a/seen"], took["b/seen"], took["slow/seen"]) == (2.0, 4.0, 24.0)
    assert took["a/hot"] < took["a/long"] < took["a/cold"] < took["a/soak"]
    assert took["slow/hot"] == 6 * took["a/hot"]


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0), (-1, 1)])
def test_a_shard_that_there_is_not_is_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="is none"):
        plan([kind("a")], [made("boot")], Axes(), expected={}, shard=shard)


def test_several_workers_get_what_takes_longest_first() -> None:
    expected = {"a/boot": 1.0, "b/boot": 9.0, "c/boot": 5.0}
    guests = [kind("a"), kind("b"), kind("c")]
    assert run(plan(guests, [made("boot")], Axes(), expected=expected)) == ["a/boot", "b/boot", "c/boot"]
    assert run(plan(guests, [made("boot")], Axes(), expected=expected, workers=2)) == [
        "b/boot",
        "c/boot",
        "a/boot",
    ]


def pairs(cells: Sequence[Coordinates]) -> set[tuple[Any, ...]]:
    rows = [(at.guest, at.scenario, at.drivers, at.host, at.machine) for at in cells]
    return {pair for row in rows for pair in combinations(enumerate(row), 2)}


def cells(planned: Iterable[Planned]) -> list[Coordinates]:
    return [each.coordinates for each in planned if not each.excluded]


SEVERAL = ("this", "0.1", "0.0", "0.3")
AXES = st.builds(
    lambda a, b, c: Axes(SEVERAL[:a], SEVERAL[:b], ("q35", "pc")[:c]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
)
SECONDS = st.floats(0.0, 1000.0, allow_nan=False)


def chain(draw: Any) -> list[type[Scenario]]:
    """Scenarios of which each may need any before it."""
    found: list[type[Scenario]] = []
    for number in range(draw(st.integers(1, 6))):
        needs = tuple(draw(st.sets(st.sampled_from([each.name for each in found])))) if found else ()
        families = draw(st.sampled_from([("deb",), ("rpm",), ("deb", "rpm")]))
        found.append(made(f"scenario{number}", needs, order=number, families=families))
    return found


@given(st.data(), st.integers(1, 5), AXES, st.integers(1, 5), st.booleans())
@settings(deadline=None)
def test_shards_are_disjoint_and_complete_and_the_same_each_time(
    data: st.DataObject, guests: int, axes: Axes, count: int, pairwise: bool
) -> None:
    kinds, chosen = kinds_of(guests), chain(data.draw)
    every = [
        Coordinates(guest.name, each.name, *point).id
        for guest in kinds
        for each in chosen
        for point in [("this", "this", "q35"), ("0.1", "this", "pc")]
    ]
    expected = {cell: data.draw(SECONDS) for cell in every}
    whole = plan(kinds, chosen, axes, expected=expected, pairwise=pairwise)
    parts = [
        plan(kinds, chosen, axes, expected=expected, pairwise=pairwise, shard=(number, count))
        for number in range(1, count + 1)
    ]
    assert sorted(cell for part in parts for cell in run(part)) == sorted(run(whole))
    again = plan(
        kinds, chosen, axes, expected=dict(reversed(expected.items())), pairwise=pairwise, shard=(1, count)
    )
    assert again == parts[0]
    swapped = plan(kinds[::-1], chosen, axes, expected=expected, shard=(1, count))
    kept = plan(kinds, chosen, axes, expected=expected, shard=(1, count))
    assert sorted(run(swapped)) == sorted(run(kept))
    for part in parts:
        for each, its in zip(whole, part, strict=True):
            assert its.excluded == each.excluded or (not each.excluded and its.excluded.startswith("shard "))
    groups = [{each.group for each in part if not each.excluded} for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    loads = [sum(each.seconds for each in part if not each.excluded) for part in parts]
    each_group = Counter[str]()
    for each in whole:
        each_group[each.group] += 0 if each.excluded else each.seconds  # type: ignore[assignment]
    assert max(loads) - min(loads) <= max(each_group.values()) + 1e-6


@given(st.data(), st.integers(1, 5), AXES, st.booleans())
@settings(deadline=None)
def test_every_combination_is_listed_once_and_what_runs_has_what_it_needs_before_it(
    data: st.DataObject, guests: int, axes: Axes, pairwise: bool
) -> None:
    kinds, chosen = kinds_of(guests), chain(data.draw)
    planned = plan(kinds, chosen, axes, expected={}, pairwise=pairwise, workers=data.draw(st.integers(1, 3)))
    ids = [each.coordinates.id for each in planned]
    wide = len(axes.drivers) * len(axes.host) * len(axes.machine)
    assert len(ids) == len(set(ids)) == guests * len(chosen) * wide
    assert [name for name, _ in groupby(each.group for each in planned)] == list(
        dict.fromkeys(each.group for each in planned)
    )
    before: set[tuple[str, str]] = set()
    for each in planned:
        if not each.excluded:
            needs = scenario.REGISTERED[each.coordinates.scenario].needs
            assert {(each.group, need) for need in needs} <= before
            before.add((each.group, each.coordinates.scenario))


@given(st.data(), st.integers(1, 6), AXES)
@settings(deadline=None)
def test_pairwise_loses_no_pair_that_can_be_tried(data: st.DataObject, guests: int, axes: Axes) -> None:
    kinds, chosen = kinds_of(guests), chain(data.draw)
    whole = plan(kinds, chosen, axes, expected={})
    few = plan(kinds, chosen, axes, expected={}, pairwise=True)
    assert pairs(cells(few)) == pairs(cells(whole))
    assert {each.excluded for each in few} - {each.excluded for each in whole} <= {PAIRWISE}


def test_pairwise_is_a_good_deal_less() -> None:
    chosen = [made(f"scenario{number}", order=number) for number in range(10)]
    axes = Axes(SEVERAL, SEVERAL, ("q35", "pc"))
    few = plan(kinds_of(10), chosen, axes, expected={}, pairwise=True)
    assert 100 <= len(run(few)) <= 130
    assert len(few) == 3200


def test_the_guests_that_there_are_can_be_planned() -> None:
    kinds = list(guest_kinds(ROOT).values())
    planned = plan(kinds, choose(None, long=True), Axes(), expected={})
    assert "debian-12/kill" in run(planned)
    assert why(planned, "debian-12/kmp").startswith("the scenario is for guests of the family")


def quick(work: Any) -> float:
    """Seconds of this process, the best of three: others on the machine do not count."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("pairwise", [False, True])
def test_ten_thousand_cells_are_planned_within_a_second(pairwise: bool) -> None:
    """The second is for a machine that looks a million words up within 0.1 s; a slower one has more."""
    table = {str(number): number for number in range(1000)}
    keys = list(table) * 1000
    slow = max(1.0, quick(lambda: sum(table[key] for key in keys)) / 0.1)
    chosen = [
        made(f"scenario{number}", order=number, needs=(f"scenario{number - 1}",) if number else ())
        for number in range(25)
    ]
    axes = Axes(SEVERAL, ("this", "0.1"), ("q35", "pc", "virt")[:2])
    kinds = kinds_of(25)
    expected = {
        f"guest-{guest}/scenario{number}": 1.0 + number for guest in range(25) for number in range(25)
    }
    took = quick(
        lambda: plan(kinds, chosen, axes, expected=expected, pairwise=pairwise, shard=(1, 4), workers=4)
    )
    assert len(plan(kinds, chosen, axes, expected=expected)) == 10_000
    print(f"10,000 cells in {took:.2f} s, {slow:.1f} times as slow as what the bound is for")
    assert took <= slow


def test_a_scenario_that_is_not_for_a_value_says_why_and_who_needs_it_is_left_out_too() -> None:
    plug = made("plug", not_on=(("machine=i440fx", "no ports"), ("drivers", "brings its own")))
    after = made("after", needs=("plug",))
    axes = Axes(drivers=("this", "0.1"), machine=("q35", "i440fx", "pc-q35-6.2"))
    planned = plan([kind("a")], [plug, after], axes, expected={})
    assert run(planned) == [
        f"a/{name}{place}" for place in ("", "[machine=pc-q35-6.2]") for name in ("after", "plug")
    ]
    assert why(planned, "a/plug[machine=i440fx]") == "no ports"
    assert why(planned, "a/plug[drivers=0.1,machine=i440fx]") == "brings its own"
    needs = "the scenario needs `plug`, which is not for this guest"
    assert why(planned, "a/after[machine=i440fx]") == f"{needs}[machine=i440fx]"
