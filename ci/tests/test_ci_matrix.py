# SPDX-License-Identifier: MIT
"""`vbuskit matrix`: which guests are tried with what, by the family of their packages."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vbuskit.base import sandbox
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Arg, Runner
from vbuskit.ci import cli, matrix
from vbuskit.ci.commands.matrix import PROFILES, fitting, listed
from vbuskit.ci.facts import RunFacts
from vbuskit.ci.matrix import Desk, Workshop, guests_folders
from vbuskit.ci.road import Diary
from vbuskit.compat.cells import Blame, Cell, Outcome
from vbuskit.compat.crash import LIVES
from vbuskit.compat.guests import choose_guests
from vbuskit.compat.plan import Coordinates
from vbuskit.compat.plugin import LANES
from vbuskit.compat.scenario import choose


def test_who_names_a_scenario_gets_the_guests_that_it_is_for() -> None:
    kinds = choose_guests(ROOT, None)
    wanted = (
        (["kmp"], {"rpm"}),
        (["update"], {"deb"}),
        (["dkms"], {"dkms"}),
        (["boot"], {"deb", "rpm", "dkms"}),
    )
    for names, families in wanted:
        found = fitting(kinds, choose(names), names)
        assert {kind.family for kind in found} == families


def test_a_guest_that_nothing_named_is_for_is_a_usage_error_that_says_for_whom_it_is() -> None:
    with pytest.raises(UsageError, match="debian-12: no guest") as caught:
        fitting(choose_guests(ROOT, ["debian-12"]), choose(["kmp"]), ["kmp"])
    assert caught.value.hint is not None and "rpm" in caught.value.hint


def test_the_list_says_which_cells_each_family_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert PROFILES["kernels"] is None
    chosen = choose(None, long=True)
    assert listed(fitting(choose_guests(ROOT, None), chosen, None), chosen) == 0
    said = capsys.readouterr().out.splitlines()
    assert "each guest of rpm packages with: boot, kmp" in said
    assert "each guest of dkms packages with: boot, dkms" in said
    (debian,) = (line for line in said if line.startswith("each guest of deb packages"))
    assert "update" in debian and "kmp" not in debian


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hosts", "junk"], "junk: is no host of a pool"),
        (["--hosts", "qemu+ssh://a/system", "qemu+ssh://a/system"], "a pool has a host twice"),
        (["--retries", "-1"], "'-1'"),
        (["--workers", "0"], "'0'"),
    ],
)
def test_words_that_cannot_be_meant_are_a_usage_error_before_anything_is_tried(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> object:
        raise AssertionError("it was tried")

    monkeypatch.setattr("vbuskit.ci.commands.matrix.played", never)
    try:
        assert cli.main(["matrix", "run", *words]) == Exit.USAGE
    except SystemExit as error:
        assert error.code == Exit.USAGE
    assert said in capsys.readouterr().err


def test_a_pool_has_no_more_workers_than_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def play(places: Places, words: list[str], *, workers: int, defect: str) -> Exit:
        seen.append(workers)
        return Exit.OK

    monkeypatch.setattr("vbuskit.ci.commands.matrix.played", play)
    hosts = ["--hosts", *(f"qemu+ssh://{name}/system" for name in "abc")]
    guests = ["--guest", "debian-12", "debian-13", "debian-sid", "debian-12-lts"]
    for more in ([], ["--workers", "1"]):
        assert cli.main(["matrix", "run", *guests, *hosts, *more]) == Exit.OK
    assert seen == [3, 1]


# Stands without a guest, and a run of two workers, of which one is killed in the middle of a cell.
FAKE = """
import json, os, signal, sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

from vbuskit.base.artifact import Artifact
from vbuskit.ci import matrix
from vbuskit.ci.matrix import Desk, play
from vbuskit.ci.road import Diary
from vbuskit.base.places import Places
from vbuskit.compat import strategy
from vbuskit.compat.cells import document_of
from vbuskit.compat.scenario import Scenario

HERE = Path(__file__).parent
strategy.Health = lambda bench: SimpleNamespace(check=lambda cell: None)
strategy.examined = lambda *_, **__: nullcontext()
strategy.unhurried = lambda: nullcontext(1.0)
strategy.is_here = lambda host: False
strategy.console = lambda bench: bench.guest.serial


class Stand:
    def __init__(self, where):
        self.where = where

    @contextmanager
    def bench(self):
        yield SimpleNamespace(guest=SimpleNamespace(name=self.where.guest, serial=Path("x")), host=None)


def pytest_vbuskit_stand(config, where):
    return Stand(where)


def scenario(name, number, needs):
    def run(self, bench, cell):
        with (HERE / "log").open("a") as file:
            file.write(f"{os.environ['PYTEST_XDIST_WORKER']} {bench.guest.name}/{name}\\n")
        times = name == "two" and bench.guest.name == "debian-12" and int((HERE / "times").read_text())
        if times:
            (HERE / "times").write_text(str(times - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        cell.compare("x", expected=1, seen=1)

    body = {"name": name, "title": name, "order": number, "needs": needs, "run": run}
    type(name, (Scenario,), body)


scenario("one", 100, ())
scenario("two", 101, ("one",))
scenario("three", 102, ("two",))

if (HERE / "unfit").exists() and "PYTEST_XDIST_WORKER" in os.environ:
    os._exit(3)  # as one whose sandbox cannot be made

if __name__ == "__main__":
    matrix.PYTEST = (*matrix.PYTEST, "-p", "fake")
    programs = {"vbusd": Artifact.of(Path(__file__))}
    desk = Desk(Diary(Places.from_environment(HERE / "out")), programs)
    words = [f"--out={HERE / 'out'}", "--guest=debian-12", "--guest=debian-13", "--scenario=three"]
    words += ["--defect=late"]
    play(desk, [*words, *sys.argv[1:]], 2)
    print(json.dumps([document_of(cell) for cell in desk.finish()]))
"""


@pytest.mark.parametrize("times", [1, 99])
def test_the_cells_of_a_killed_worker_run_elsewhere_and_the_killed_attempt_is_shown(
    times: int, tmp_path: Path
) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "times").write_text(str(times))
    path = ":".join([str(tmp_path), *sys.path[1:]])
    done = Runner().attempt([sys.executable, tmp_path / "fake.py"], env={"PYTHONPATH": path}, cwd=tmp_path)
    assert done.code == 0, done.err
    cells = {f"{cell['guest']}/{cell['name']}": cell for cell in json.loads(done.out.splitlines()[-1])}
    assert {cells[f"debian-13/{name}"]["outcome"] for name in ("one", "two", "three")} == {"green"}, cells
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    tries = [worker for worker, cell in lines if cell == "debian-12/two"]
    assert len(set(tries)) == len(tries) == (2 if times == 1 else 4)
    two = cells["debian-12/two"]
    if times == 1:
        (retry,) = two["retries"]
        assert (two["outcome"], cells["debian-12/three"]["outcome"]) == ("green", "green")
        assert (retry["blame"], retry["reason"]) == (
            "infrastructure",
            "the process that tried it was killed",
        )
    else:
        three = cells["debian-12/three"]  # on the way to it, too
        for cell in (two, three):
            assert (cell["outcome"], cell["blame"], len(cell["retries"])) == ("red", "infrastructure", 1)
            assert cell["again"].endswith(f"--only {cell['name']} --defect=late")


def test_workers_that_cannot_start_are_replaced_a_few_times_and_the_run_is_blocked_in_words(
    tmp_path: Path,
) -> None:
    for name, text in (("fake.py", FAKE), ("times", "0"), ("unfit", "")):
        (tmp_path / name).write_text(text)
    path = ":".join([str(tmp_path), *sys.path[1:]])
    words: list[Arg] = [sys.executable, tmp_path / "fake.py"]
    done = Runner().attempt(words, env={"PYTHONPATH": path}, cwd=tmp_path, seconds=60)
    said = f"Blocked: {LIVES * 2} workers in a row ended before they tried anything, gw"
    assert said in done.err.splitlines()[-1], done.err
    assert not (tmp_path / "log").exists()


def test_a_run_of_which_cells_were_not_told_is_no_green_one(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "times").write_text("0")
    path = ":".join([str(tmp_path), *sys.path[1:]])
    words: list[Arg] = [sys.executable, tmp_path / "fake.py", "-k", "one or two"]
    done = Runner().attempt(words, env={"PYTHONPATH": path}, cwd=tmp_path)
    assert "VbuskitError: 2 cells of the plan were never told of, such as debian-12/three" in done.err


@pytest.mark.parametrize(("planted", "told"), [("late", "late"), ("none", "")])
def test_a_run_says_what_was_planted_in_it(
    planted: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunFacts] = []
    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(sandbox, "enter", lambda: None)
    for name in ("raise_stage", "programs_of", "play"):
        monkeypatch.setattr(matrix, name, lambda *_: None)
    monkeypatch.setattr(matrix, "write_report", lambda places, facts, cells: seen.append(facts))
    matrix.played(Places.from_environment(tmp_path), [], defect=planted)
    assert [facts.defect for facts in seen] == [told]


@pytest.mark.parametrize("again", [Outcome.GREEN, None])
def test_a_red_cell_whose_worker_dies_after_it_stays_as_it_was(
    again: Outcome | None, tmp_path: Path
) -> None:
    desk = Desk(Diary(Places.from_environment(tmp_path)), {})
    red = Cell("kill", "title", "debian-12", Outcome.RED, reason="lost a byte", blame=Blame.PRODUCT)
    desk.pytest_vbuskit_cell(red, "debian-12/kill")
    desk.pytest_handlecrashitem("x.py::test_cell[debian-12/kill]")
    if again:
        desk.pytest_vbuskit_cell(Cell("kill", "title", "debian-12", again), "debian-12/kill")
    (seen,) = desk.finish()
    assert (seen.outcome, seen.reason, seen.blame) == (Outcome.RED, "lost a byte", Blame.PRODUCT)


def test_a_cell_is_noted_under_the_lease_of_its_own_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leased(run: Runner, hosts: list[str], logs: Path, what: str, given: object) -> object:
        return nullcontext(SimpleNamespace(ended=lambda: None, lost=lambda: "", name=f"the host of {what}"))

    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(matrix, "leased_host", leased)
    monkeypatch.setattr(matrix, "noted", lambda host, cell: seen.append((host.name, cell)))
    option = SimpleNamespace(out=tmp_path, hosts=["qemu+ssh://one/system"])
    shop = Workshop(cast(pytest.Config, SimpleNamespace(option=option)))
    for name in ("debian-12/boot", "debian-12/install", "debian-13/boot"):
        shop.noted(Coordinates.parse(name))
    assert seen == [
        ("the host of debian-12", "debian-12/boot"),
        ("the host of debian-12", "debian-12/install"),
        ("the host of debian-13", "debian-13/boot"),
    ]


def test_a_group_whose_host_was_lost_goes_on_upon_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts: list[str] = []
    given_up: list[str] = []

    def leased(*_: object) -> object:
        hosts.append(f"host {len(hosts)}")
        lost = "" if len(hosts) > 1 else "the lease is lost"
        return nullcontext(SimpleNamespace(ended=lambda: None, lost=lambda: lost, name=hosts[-1]))

    seen: list[str] = []
    monkeypatch.setattr(matrix, "leased_host", leased)
    monkeypatch.setattr(matrix, "noted", lambda host, cell: seen.append(host.name))
    option = SimpleNamespace(out=tmp_path, hosts=["qemu+ssh://one/system", "qemu+ssh://two/system"])
    lanes = SimpleNamespace(give_up=lambda: given_up.append("the guest"))
    shop = Workshop(cast(pytest.Config, SimpleNamespace(option=option, stash={LANES: lanes})))
    for name in ("boot", "install", "kill"):
        shop.noted(Coordinates.parse(f"debian-12/{name}"))
    assert (seen, given_up) == (["host 0", "host 1", "host 1"], ["the guest"])


def test_who_takes_over_a_guest_finds_what_was_kept_of_its_red_cells(tmp_path: Path) -> None:
    own = Places.from_environment(tmp_path)
    red, console, disk = (
        tmp_path / name for name in ("logs/guest/boot-1/dmesg", "logs/serial.log", "work/disk")
    )
    for run, left in (("one", False), ("one", True), ("two", False)):
        with guests_folders(own, run, keep=True):
            assert (red.exists(), console.exists(), disk.exists()) == (left, False, False)
            red.parent.mkdir(parents=True, exist_ok=True)
            for file in (red, console, disk):
                file.touch()
