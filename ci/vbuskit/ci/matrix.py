# SPDX-License-Identifier: MIT
"""The matrix as one pytest run: what builds a guest's stand for the plugin, and what collects its cells."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base import sandbox
from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Blocked, Exit, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.again import again
from vbuskit.ci.facts import Guest
from vbuskit.ci.goldens import Goldens, given_of, unavailable
from vbuskit.ci.goods import MODULE_DEFECTS, delivery
from vbuskit.ci.history import History, file_of
from vbuskit.ci.quarantine import fits, read, remarks, standing
from vbuskit.ci.report import write_report
from vbuskit.ci.road import Diary, Goods, Road, alone, fresh_folders, planted, programs_of, say, told
from vbuskit.ci.verdict import cell_id, judge
from vbuskit.compat import plugin
from vbuskit.compat.cells import Blame, Cell, Outcome, Retry, cell_of
from vbuskit.compat.domain import has_kvm
from vbuskit.compat.guests import GuestKind, choose_guests
from vbuskit.compat.host import ForeignHost, Host, PrivateHost, raise_stage
from vbuskit.compat.plan import THIS, Coordinates
from vbuskit.compat.plugin import LANES, PLAN, kind_of, planned_for
from vbuskit.compat.pool import leased_host, noted, worker_spec
from vbuskit.compat.scenario import scenarios
from vbuskit.compat.strategy import Stand
from vbuskit.drivers.kernel import modules, newest_release
from vbuskit.drivers.matrix import image_for, modules_for, site_for

CONTROLLER = "controller"
# Nothing of a pytest.ini or a conftest.py that happens to lie above, no terminal but ours, no cache.
PYTEST = (
    *("-c", os.devnull, "--noconftest", "--import-mode=importlib", "-s"),
    *("-p", "no:terminal", "-p", "no:cacheprovider", "-p", "vbuskit.ci.matrix"),
)


class Workshop:
    """What this process builds with: its host, the host's programs, and the diary of what it made."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.places = Places.from_environment(config.option.out)
        given = getattr(config, "workerinput", {})
        self.worker = str(given.get("workerid", CONTROLLER))
        self._given = {name: artifact(each) for name, each in given.get("programs", {}).items()}
        self.run = Runner(log=self.places.work("logs") / f"commands-{self.worker}.log")
        self.diary = Diary(self.places)
        self._undo = ExitStack()
        self._input = given or None
        self._run_id = str(given.get("testrunuid") or uuid.uuid4().hex)
        self._hosting = ExitStack()
        self._host: Host | None = None
        self._serves = ""  # the group that it is leased for

    @cached_property
    def programs(self) -> dict[str, Artifact]:
        """The host's, the same for all guests of a run."""
        given = self._given or self.config.stash.get(PROGRAMS, {})
        return given or programs_of(self.run, self.places, self.diary, self.config.option.defect)

    def host_for(self, group: str) -> Host:
        """The one that there is, while it lives; a pool's serves one group, while it is ours."""
        host = self._host
        if host and host.ended() is None and not host.lost() and self._serves in ("", group):
            return host
        self._hosting.close()
        option, logs, name = self.config.option, self.places.out / "logs", f"host-{self.worker}"
        made: AbstractContextManager[Host]
        if option.hosts:
            made, self._serves = leased_host(self.run, option.hosts, logs, group, self._input), group
        elif option.connect:
            made = ForeignHost(option.connect, logs / name)
        else:
            made = PrivateHost(self.run, name, logs / name)
        self._host = self._hosting.enter_context(made)
        return self._host

    def stand(self, where: Coordinates) -> Stand:
        """Drivers, packages, ISO and image of one guest; raises VbuskitError for what cannot be made."""
        (kind,) = choose_guests(self.places.tree, [where.guest])
        try:
            return self._stand(where, kind)
        except VbuskitError:
            if kind.name not in {guest.name for guest in self.diary.guests}:
                self.diary.guests.append(Guest(name=kind.name, informing=kind.informing))
            raise

    def _stand(self, where: Coordinates, kind: GuestKind) -> Stand:
        option = self.config.option
        defect = planted(option.defect, MODULE_DEFECTS)
        own = replace(self.places, out=self.places.work("guests", folder_of(where)))
        self._undo.enter_context(guests_folders(own, self._run_id, option.keep))
        more = tuple(dict.fromkeys(package for name in self._scenarios(where) for package in name.packages))
        road = partial(
            Road,
            run=self.run,
            places=own,
            kind=kind,
            diary=self.diary,
            more=more,
            defect=option.defect,
            machine=where.machine,
        )
        programs, host = self._programs(where.host), partial(self.host_for, where.group)
        if option.here:
            build = partial(modules, defect=defect)
            release = newest_release(kind.kernel.flavour)
            golden = self._golden(where.drivers, release, release)
            return road(release=release, build=build, golden=golden).stand(host, programs)
        with self.diary.step(f"{kind.name}: build root"):
            release = site_for(self.run, self.places, kind.kernel).release
        made = partial(delivery, self.run, own, kind.family)
        return road(
            release=release,
            build=lambda run, places, release: modules_for(run, places, kind.kernel, defect=defect),
            kernel=image_for(self.run, self.places, kind.kernel),
            first=partial(made, kind.kernel, option.defect),
            update=partial(made, kind.update, option.defect) if kind.update else None,
            golden=self._golden(where.drivers, kind.kernel.name, release),
        ).stand(host, programs)

    @property
    def _goldens(self) -> Goldens:
        return Goldens(run=self.run, places=self.places, given=given_of(self.config.option.golden))

    def _programs(self, release: str) -> dict[str, Artifact]:
        if release == THIS:
            return self.programs
        with self.diary.step(f"host programs of release {release}"):
            return self._goldens.programs(release)

    def _golden(self, release: str, kernel: str, uname: str) -> Callable[[], Goods] | None:
        return None if release == THIS else partial(self._goldens.goods, release, kernel, uname)

    def _scenarios(self, where: Coordinates) -> list[Any]:
        planned = self.config.stash[PLAN]
        mine = [each for each in planned if not each.excluded and each.coordinates.group == where.group]
        return [kind_of(each.coordinates) for each in mine]

    def news(self) -> dict[str, Any]:
        """What the diary has since it was asked last, as JSON has it."""
        return self.diary.give()

    def noted(self, where: Coordinates) -> None:
        """A cell starts: a pool's log says so. Where the host was lost, the cell comes to another one."""
        if self._host is not None and self._host.lost():
            self.config.stash[LANES].give_up()
        if self.config.option.hosts:
            noted(self.host_for(where.group), where.id)

    def close(self) -> None:
        self._hosting.close()
        self._undo.close()


@contextmanager
def guests_folders(own: Places, run_id: str, keep: bool) -> Iterator[None]:
    """Fresh ones. Who takes a guest over from a dead worker of the same run leaves what that one kept."""
    logs, mark = own.out / "logs", own.out / "logs/.run"
    taken_over = mark.is_file() and mark.read_text() == run_id
    with fresh_folders(own, keep, ("work",) if taken_over else ("logs", "work")):
        for file in logs.iterdir():
            if file.is_file():  # such as the console of the dead one's guest
                file.unlink()
        mark.write_text(run_id)
        yield


def folder_of(where: Coordinates) -> str:
    """Its group's name, without what shells, QEMU and patterns of file names take for something else."""
    return re.sub(r"[\[\],=]+", "_", where.group).strip("_")


def artifact(words: Sequence[Any]) -> Artifact:
    return Artifact(Path(words[0]), str(words[1]), int(words[2]))


PROGRAMS: pytest.StashKey[dict[str, Artifact]] = pytest.StashKey()
SHOP: pytest.StashKey[Workshop] = pytest.StashKey()
NODE = re.compile(r"::test_cell\[(?P<id>.+)\]$")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.register(plugin, "vbuskit.compat")
    group = parser.getgroup("vbuskit")
    group.addoption("--out", type=Path, metavar="FOLDER", help="what is built, and logs; default: out/")
    group.addoption(
        "--defect", default="none", metavar="NAME", help="plant a defect: something must turn red"
    )
    group.addoption(
        "--here", action="store_true", help="drivers for the kernel whose headers are installed here"
    )
    group.addoption("--keep", action="store_true", help="keep the guests' disks")
    group.addoption("--golden", action="append", metavar="RELEASE=FOLDER", help="what a release has shipped")
    group.addoption("--connect", metavar="URI", help="a libvirt of this machine instead of private ones")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Who starts pytest by himself gets a sandbox too: nothing that the tests start outlives them."""
    if not sandbox.is_inside() and not config.option.collectonly:
        try:
            sandbox.enter()
        except Blocked as error:
            raise pytest.UsageError(f"{error} ({error.hint})") from error
        raise_stage()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHOP] = Workshop(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if SHOP in config.stash:
        config.stash[SHOP].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The host's programs are built once, before xdist's workers."""
    made = node.config.stash[SHOP].programs
    node.workerinput["programs"] = {
        name: [str(each.path), each.sha256, each.size] for name, each in made.items()
    }


def pytest_vbuskit_stand(config: pytest.Config, where: Coordinates) -> Stand:
    return config.stash[SHOP].stand(where)


def pytest_vbuskit_unavailable(config: pytest.Config) -> dict[str, str]:
    return lacking(Places.from_environment(config.option.out), config.option)


def lacking(places: Places, option: Any) -> dict[str, str]:
    """Which values of which axes cannot be had here, and why; `option` of pytest or of a command."""
    values = {"drivers": option.drivers or (), "host": option.host or ()}
    return unavailable(Runner(), places.tree, values, given_of(option.golden))


def pytest_vbuskit_expected(config: pytest.Config) -> dict[str, float]:
    return expected_in(Places.from_environment(config.option.out))


def expected_in(places: Places) -> dict[str, float]:
    """Seconds by a cell's id, as earlier runs of this machine took them; nothing where none is known."""
    try:
        return History(file_of(places)).expected("kvm" if has_kvm() else "tcg")
    except VbuskitError as error:
        say(str(error))
        return {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    where = getattr(item, "funcargs", {}).get("where")
    if isinstance(where, Coordinates):
        item.config.stash[SHOP].noted(where)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """What this process has made since its last report goes with it."""
    report = yield
    report.vbuskit_diary = item.config.stash[SHOP].news()
    return report


class Desk:
    """Where the cells of a run come in, from this process or from xdist's workers, each told at once.

    cells:   by id, in the order in which they came
    blocked: why the run had to end, and what to do then; or nothing
    """

    def __init__(self, diary: Diary, programs: dict[str, Artifact]) -> None:
        self.diary = diary
        self.programs = programs
        self.cells: dict[str, Cell] = {}
        self.blocked: list[str] = []
        self._lost: dict[str, list[Retry]] = {}
        self._session: pytest.Session

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[PROGRAMS] = self.programs

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.diary.take(getattr(report, "vbuskit_diary", {}))
        document = getattr(report, "vbuskit", None)
        if document is not None:
            self.pytest_vbuskit_cell(cell_of(document["cell"]), document["id"])
            self.blocked = self.blocked or document["blocked"]
            if self.blocked:
                self._session.shouldstop = self.blocked[0]

    def pytest_vbuskit_cell(self, cell: Cell, id: str) -> None:
        cell.retries = [*self._lost.pop(id, ()), *cell.retries]
        if cell.again:
            cell.again = again(cell, self._session.config.option)
        if not self._is_red(id):
            self.cells[id] = told(cell)

    def _is_red(self, id: str) -> bool:
        """Whether it was so before its worker died; trying it again makes no such cell any better."""
        return id in self.cells and self.cells[id].outcome is Outcome.RED

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """xdist gives the cells of a worker that is gone to another one, this one first."""
        found = NODE.search(crashitem)
        if found and not self._is_red(found["id"]):
            gone = Retry(Outcome.RED, 0.0, "the process that tried it was killed", Blame.INFRASTRUCTURE)
            self._lost.setdefault(found["id"], []).append(gone)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Also when no worker can be started (compat/crash.py)."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            hint = "what they said is above, mostly what the sandbox lacks; --workers 1 goes without them"
            self.blocked = self.blocked or [str(excinfo.value.msg), hint]

    def silent(self) -> list[str]:
        """The cells of the plan, by id, of which nothing has come in."""
        planned = [each.coordinates.id for each in self._session.config.stash[PLAN] if not each.excluded]
        return [id for id in planned if id not in self.cells and id not in self._lost]

    def finish(self) -> list[Cell]:
        """All cells; one that took every worker with it is red."""
        for id, lost in self._lost.items():
            where = Coordinates.parse(id)
            kind = kind_of(where)
            cell = Cell(kind.name, kind.title, where.guest, Outcome.RED, axes=where.axes)
            cell.reason, cell.blame, cell.retries = lost[-1].reason, lost[-1].blame, lost[:-1]
            cell.again = again(cell, self._session.config.option)
            self.cells[id] = told(cell)
        return list(self.cells.values())


def played(places: Places, words: Sequence[str], *, workers: int = 1, defect: str = "none") -> Exit:
    """What `words` choose (the plugins' options) is tried, `workers` guests at a time, and reported.

    Raises Blocked when the machine ends the run, KeyboardInterrupt as it came; what was tried until then is
    reported.
    """
    today = datetime.now(UTC).date()
    entries = read(places.tree, today)
    fits(
        entries,
        {
            each.coordinates.id
            for each in planned_for(places.tree, scenarios=[kind.name for kind in scenarios()])
        },
    )
    sandbox.enter()
    raise_stage()
    with alone(places), fresh_folders(places, keep=False):
        run, diary = Runner(log=places.out / "logs" / "commands.log"), Diary(places)
        diary.defect = "" if defect == "none" else defect
        desk = Desk(diary, programs_of(run, places, diary, defect))
        try:
            play(desk, [f"--out={places.out}", f"--defect={defect}", *words], workers)
        finally:
            cells = desk.finish()
            outcomes = {cell_id(cell): cell.outcome for cell in cells}
            diary.quarantine = standing(entries, outcomes, today)
            write_report(places, diary.facts(run), cells)
    for remark in remarks(entries, outcomes, today):
        say(remark)
    verdict = judge(cells, diary.informing, diary.quarantine)
    say(f"{verdict.line} The report is {places.out / 'report.html'}")
    return verdict.exit_code


def play(desk: Desk, words: Sequence[str], workers: int) -> None:
    spread = ["--dist", "loadgroup", "--no-loadscope-reorder", "--max-worker-restart", "1000"]
    spread += ["--tx", f"{workers}*{worker_spec()}"]
    code = pytest.main(
        [*PYTEST, *(spread if workers > 1 else ()), *words, "--pyargs", "vbuskit.compat.matrix"],
        plugins=[desk],
    )
    if desk.blocked:
        why, hint = desk.blocked
        raise Blocked(why, hint=hint)
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise VbuskitError("pytest could not try the cells", hint="what it says is above")
    if silent := desk.silent():
        many = f"{len(silent)} cells of the plan were never told of"
        raise VbuskitError(f"{many}, such as {silent[0]}", hint="see logs/ below --out, and run it again")
