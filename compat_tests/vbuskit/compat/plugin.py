# SPDX-License-Identifier: MIT
"""The pytest plugin: the cells of a plan as tests, a guest with its bus as fixtures for tests of one's own.

`pytest -p vbuskit.ci.matrix --pyargs vbuskit.compat.matrix --guest debian-12 --scenario kill` is what
`./vbuskit matrix run` starts. A test that asks for `guest`, `bus`, `device`, `host` or `second_host` runs
once for each chosen guest; `@pytest.mark.vbuskit(needs=["negotiate"])` says what must have been green on it,
`install` unless it says so. docs/matrix.md has an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from vbuskit.base.errors import Blocked, UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Bus, Card
from vbuskit.compat.cells import Cell, CellSkipped, Outcome, document_of
from vbuskit.compat.crash import Groups, Starts
from vbuskit.compat.domain import TYPES
from vbuskit.compat.evidence import Before, examine
from vbuskit.compat.guest import Guest
from vbuskit.compat.guests import choose_guests, guest_kinds, images_of
from vbuskit.compat.host import Host, PrivateHost
from vbuskit.compat.plan import USUAL, Axes, Coordinates, Planned, plan
from vbuskit.compat.scenario import Scenario, choose
from vbuskit.compat.strategy import Stand, Strategy

OWN = "test"  # where a scenario's name would be, for a test that is none
FIXTURES = frozenset({"lane", "bench", "guest", "bus", "device"})

WHERE = re.compile(r"(?P<guest>[a-z0-9_-]+)/[a-z][a-z0-9_-]*(?P<axes>\[[^\[\]]*\])?")

# The axes beside guests and scenarios, as options.
AXES = {
    "drivers": "drivers of `this` checkout, or of a release such as 0.1",
    "host": "the host's programs, likewise",
    "machine": f"what guests are plugged into: {', '.join(TYPES)}",
}

NOTHING: Mapping[str, float] = MappingProxyType({})

PLAN: pytest.StashKey[list[Planned]] = pytest.StashKey()
LANES: pytest.StashKey[Lanes] = pytest.StashKey()
CELL: pytest.StashKey[Cell] = pytest.StashKey()
ID: pytest.StashKey[str] = pytest.StashKey()


class Hooks:
    """What the plugin asks whoever builds what is tried."""

    @pytest.hookspec(firstresult=True)
    def pytest_vbuskit_stand(self, config: pytest.Config, where: Coordinates) -> Stand:
        """Where the guest of these coordinates is tried; what it is made of is made now."""
        raise NotImplementedError

    @pytest.hookspec(firstresult=True)
    def pytest_vbuskit_expected(self, config: pytest.Config) -> dict[str, float]:
        """Seconds by a cell's id, as earlier runs took them."""
        raise NotImplementedError

    @pytest.hookspec(firstresult=True)
    def pytest_vbuskit_unavailable(self, config: pytest.Config) -> dict[str, str]:
        """Why not, by `axis=value`, of what the options name and nobody has."""
        raise NotImplementedError

    @pytest.hookspec
    def pytest_vbuskit_cell(self, cell: Cell, id: str) -> None:
        """A cell that was cut short by Ctrl-C: no report tells of it."""


class Lanes:
    """The one guest at a time that this process tries."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._broken: dict[str, str] = {}
        self._undo = ExitStack()
        self._group = ""
        self._strategy: Strategy

    def lane(self, where: Coordinates) -> Strategy:
        """The same as long as guest and axes are the same.

        Raises VbuskitError when the guest cannot be prepared, once; what comes after that is skipped.
        """
        if where.group in self._broken:
            pytest.skip(f"needs the guest, which could not be prepared: {self._broken[where.group]}")
        if self._group != where.group:
            self.close()
            try:
                stand = self._config.hook.pytest_vbuskit_stand(config=self._config, where=where)
            except CellSkipped as error:
                pytest.skip(str(error))
            except VbuskitError as error:
                self._broken[where.group] = str(error)
                raise
            self._strategy = self._undo.enter_context(Strategy(stand))
            self._group = where.group
        return self._strategy

    def give_up(self) -> None:
        """The host is gone under the guest: the next cell finds another one."""
        if self._group:
            self._strategy.give_up()

    def close(self) -> None:
        self._group = ""
        self._undo.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vbuskit", "the matrix of guests")
    group.addoption("--guest", action="append", metavar="NAME", help="this guest, and others; all without")
    group.addoption(
        "--scenario", action="append", metavar="NAME", help="this one, and what it needs; and others"
    )
    for axis, what in AXES.items():
        group.addoption(f"--{axis}", action="append", metavar="VALUE", help=f"{what}; and others")
    group.addoption("--image", action="append", metavar="NAME=PATH", help="the disk of a Windows guest")
    group.addoption(
        "--hosts", action="append", metavar="URI", help="a libvirt host behind ssh, and others: a pool"
    )
    group.addoption("--long", action="store_true", help="without --scenario: the long ones, too")
    group.addoption("--shard", type=shard, metavar="I/N", help="the I-th of N parts")
    group.addoption("--retries", type=int, default=0, metavar="N", help="of cells that the machine spoilt")
    group.addoption("--pairwise", action="store_true", help="each pair of values of the axes at least once")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vbuskit(needs): what must have been green on the guest before")
    given = getattr(config, "workerinput", {}).get("vbuskit")
    try:
        config.stash[PLAN] = asked_of(config) if given is None else [planned_from(each) for each in given]
    except UsageError as error:
        raise pytest.UsageError(f"{error} ({error.hint})" if error.hint else str(error)) from error
    config.stash[LANES] = Lanes(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if LANES in config.stash:
        config.stash[LANES].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Each of xdist's workers goes by the same plan."""
    node.workerinput["vbuskit"] = [document(each) for each in node.config.stash[PLAN]]


def asked_of(config: pytest.Config) -> list[Planned]:
    option = config.option
    return planned_for(
        Places.from_environment().tree,
        guests=option.guest,
        scenarios=option.scenario,
        long=option.long,
        shard=option.shard,
        pairwise=option.pairwise,
        axes=axes_of(option),
        unavailable=config.hook.pytest_vbuskit_unavailable(config=config) or {},
        expected=config.hook.pytest_vbuskit_expected(config=config) or {},
        images=images_of(option.image),
        far=bool(option.hosts),
    )


def planned_for(
    tree: Path,
    *,
    guests: Sequence[str] | None = None,
    scenarios: Sequence[str] | None = None,
    long: bool = True,
    shard: tuple[int, int] | None = None,
    pairwise: bool = False,
    axes: Axes | None = None,
    unavailable: Mapping[str, str] = MappingProxyType({}),
    expected: Mapping[str, float] = NOTHING,
    images: Mapping[str, Path] | None = None,
    far: bool = False,
) -> list[Planned]:
    """What the options mean, for whoever only looks as for whoever tries it. Raises UsageError."""
    choose_guests(tree, guests)
    kinds = guest_kinds(tree, images).values()
    return plan(
        kinds,
        choose(scenarios, long=long),
        axes or Axes(),
        names=[*(guests or ()), *(scenarios or ())],
        expected={} if shard else expected,  # two machines that know other times would not share alike
        shard=shard,
        pairwise=pairwise,
        unavailable={kind.name: kind.excluded for kind in kinds if kind.excluded} | dict(unavailable),
        far=far,
        workers=2,  # the longest first: whoever has one worker loses nothing by it
    )


def axes_of(option: Any) -> Axes:
    """What the options say, of pytest or of a command; usual values where they say nothing.

    Raises UsageError for a machine type that is none.
    """
    given = {axis: tuple(getattr(option, axis) or (usual,)) for axis, usual in USUAL.items()}
    if unknown := [name for name in given["machine"] if name not in TYPES]:
        raise UsageError(
            f"--machine {unknown[0]}: no such machine type", hint=f"there are: {', '.join(TYPES)}"
        )
    return Axes(**given)


def document(planned: Planned) -> dict[str, Any]:
    return {"id": planned.coordinates.id, "seconds": planned.seconds, "excluded": planned.excluded}


def planned_from(given: dict[str, Any]) -> Planned:
    where = Coordinates.parse(given["id"])
    return Planned(where, given["excluded"], given["seconds"], where.group)


def shard(text: str) -> tuple[int, int]:
    """`2/5`, for argparse."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(text)
    return int(number), int(count)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    planned = [each for each in metafunc.config.stash[PLAN] if not each.excluded]
    if "cell" in metafunc.fixturenames:
        where = [each.coordinates for each in planned]
    elif FIXTURES & {*metafunc.fixturenames}:
        where = list(dict.fromkeys(replace(each.coordinates, scenario=OWN) for each in planned))
    else:
        return
    metafunc.parametrize("where", [param(each) for each in where], scope="session")


def param(where: Coordinates) -> Any:
    return pytest.param(where, id=where.id)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A guest's tests stay together."""
    guests = sorted({each.coordinates.guest for each in config.stash[PLAN]}, key=len)
    groups = Groups(config, log, lambda name: group_of(name, guests))
    config.pluginmanager.register(Starts(groups.numnodes))
    return groups


def group_of(nodeid: str, guests: Sequence[str]) -> str:
    """The group that a test's name has among its parameters, or itself. `guests`: shortest first."""
    found = WHERE.search(nodeid.partition("[")[2])
    if found is None:
        return nodeid
    own = [name for name in guests if f"-{found['guest']}".endswith(f"-{name}")]
    return f"{own[-1] if own else found['guest']}{found['axes'] or ''}"


@pytest.fixture
def lane(request: pytest.FixtureRequest, where: Coordinates) -> Strategy:
    return request.config.stash[LANES].lane(where)


@pytest.fixture
def cell(request: pytest.FixtureRequest, where: Coordinates) -> Callable[[], Cell]:
    """Makes the record of this cell of the plan, one for each attempt; the report shows the last."""
    kind = kind_of(where)

    def made() -> Cell:
        cell = Cell(kind.name, kind.title, where.guest, axes=where.axes)
        request.node.stash[CELL], request.node.stash[ID] = cell, where.id
        return cell

    made()
    return made


@pytest.fixture
def retries(request: pytest.FixtureRequest) -> int:
    return int(request.config.option.retries)


@pytest.fixture
def bench(request: pytest.FixtureRequest, lane: Strategy) -> Bench:
    mark = request.node.get_closest_marker("vbuskit")
    return lane.transition(mark.kwargs["needs"] if mark else ["install"])


@pytest.fixture
def guest(bench: Bench) -> Guest:
    """It runs, with the drivers installed as a user does it."""
    return bench.guest


@pytest.fixture
def bus(bench: Bench) -> Bus:
    return bench.bus


@pytest.fixture
def device(bench: Bench) -> Card:
    """The bus's first card, a venet with a tap on the host."""
    return bench.bus.net


@pytest.fixture
def host(bench: Bench) -> Host:
    return bench.host


@pytest.fixture
def second_host(bench: Bench) -> Iterator[Host]:
    """Another libvirtd beside the guest's own."""
    name = f"{bench.host.name}-second"
    with PrivateHost(Runner(), name, bench.host.logs.parent / name) as other:
        yield other


def kind_of(where: Coordinates) -> type[Scenario]:
    return next(kind for kind in choose([where.scenario]) if kind.name == where.scenario)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """The cell goes with the report of its call, and of a setup that failed, also from a worker."""
    report = yield
    made = item.stash.get(CELL, None)
    if made is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
        error = call.excinfo.value if call.excinfo else None
        if report.when == "setup" or (report.failed and made.outcome is not Outcome.RED):
            made.outcome, made.reason = (Outcome.RED if report.failed else Outcome.SKIPPED), said(error)
            if report.failed and error is not None:
                examine(made, None, error, Before.now(None))
        blocked = [str(error), error.hint] if isinstance(error, Blocked) else []
        report.vbuskit = {"id": item.stash[ID], "cell": document_of(made), "blocked": blocked}
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    try:
        return (yield)
    except KeyboardInterrupt:
        made = item.stash.get(CELL, None)
        if made is not None and made.outcome is Outcome.RED:
            item.ihook.pytest_vbuskit_cell(cell=made, id=item.stash[ID])
        raise


def said(error: BaseException | None) -> str:
    hint = error.hint if isinstance(error, VbuskitError) else ""
    return f"{error} ({hint})" if hint else str(error or "")


def auto_workers(groups: Sequence[str], cpus: int, free: int, each: int) -> int:
    """As many as have a CPU, a group of their own, and `each` of `free` bytes; at least one."""
    return max(1, min(cpus, len({*groups}), free // each))
