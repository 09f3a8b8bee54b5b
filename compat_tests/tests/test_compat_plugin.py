# SPDX-License-Identifier: MIT
"""The pytest plugin: cells as tests, guests that stay with one worker, fixtures for tests of one's own."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.run import Finished, Runner
from vbuskit.compat.plugin import auto_workers, group_of

# Stands without a guest, and scenarios that note who ran them.
FAKE = """
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

from vbuskit.base.errors import VbuskitError
from vbuskit.compat import strategy
from vbuskit.compat.scenario import Scenario

pytest_plugins = ["vbuskit.compat.plugin"]
strategy.Health = lambda bench: SimpleNamespace(check=lambda cell: None)
strategy.examined = lambda *_, **__: nullcontext()
strategy.unhurried = lambda: nullcontext(1.0)
strategy.is_here = lambda host: False
strategy.console = lambda bench: bench.guest.serial
LOG = Path(__file__).parent / "log"


def note(what):
    with LOG.open("a") as file:
        file.write(f"{os.environ.get('PYTEST_XDIST_WORKER', 'alone')} {what}\\n")


class Stand:
    def __init__(self, where):
        self.where = where

    @contextmanager
    def bench(self):
        note(f"{self.where.guest} opened")
        guest = SimpleNamespace(name=self.where.guest, serial=Path("x"), check_room=lambda: None)
        yield SimpleNamespace(guest=guest, bus=SimpleNamespace(net="a card"), host="a host")
        note(f"{self.where.guest} closed")


def pytest_vbuskit_stand(config, where):
    if where.guest == "debian-11":
        raise VbuskitError("no kernel")
    return Stand(where)


def pytest_vbuskit_expected(config):
    return {}


def scenario(name, number, needs):
    def run(self, bench, cell):
        note(f"{bench.guest.name}/{name}")
        cell.compare("x", expected=1, seen=1)

    body = {"name": name, "title": name, "order": number, "needs": needs, "run": run}
    type(name, (Scenario,), {**body, "families": ("deb", "rpm", "dkms")})


scenario("one", 100, ())
scenario("two", 101, ("one",))
scenario("three", 102, ("two",))
"""

OWN = """
import pytest

def test_the_guest_answers(guest, device):
    assert (guest.name, device) == (guest.name, "a card")

@pytest.mark.vbuskit(needs=["two"])
@pytest.mark.parametrize("size", [1, 2])
def test_of_mine(size, bus, host):
    assert host == "a host"
"""

Play = Callable[..., Finished]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "test_own.py").write_text(OWN)

    def start(*words: str, what: tuple[str, ...] = ("--pyargs", "vbuskit.compat.matrix")) -> Finished:
        path = ":".join([str(tmp_path), *sys.path[1:]])
        options = ("-c", "/dev/null", "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider")
        command = [sys.executable, "-m", "pytest", *options, "-p", "fake", "-v", *words, *what]
        return Runner().attempt(command, env={"PYTHONPATH": path}, cwd=tmp_path)

    return start


def noted(folder: Path) -> dict[str, list[str]]:
    """What each process noted, in its order."""
    found = defaultdict(list)
    for line in (folder / "log").read_text().splitlines():
        worker, _, what = line.partition(" ")
        found[worker].append(what)
    return found


def test_each_cell_is_a_test_with_its_name_and_a_guest_is_opened_once(play: Play, tmp_path: Path) -> None:
    done = play("--guest", "debian-12", "--guest", "debian-13", "--scenario", "three")
    assert done.code == 0, done.out
    assert "test_cell[debian-12/two] PASSED" in done.out
    assert noted(tmp_path)["alone"] == [
        f"{guest}{what}"
        for guest in ("debian-12", "debian-13")
        for what in (" opened", "/one", "/two", "/three", " closed")
    ]


def test_a_guests_cells_stay_with_one_worker_and_every_worker_has_some(play: Play, tmp_path: Path) -> None:
    done = play("-n2", "--guest", "debian-12", "--guest", "debian-13", "--scenario", "three")
    assert done.code == 0, done.out
    by_worker = noted(tmp_path)
    assert sorted(by_worker) == ["gw0", "gw1"]
    for lines in by_worker.values():
        assert [line.partition("/")[2] for line in lines if "/" in line] == ["one", "two", "three"]


def test_a_guest_that_cannot_be_prepared_has_one_red_cell_and_the_rest_is_skipped(play: Play) -> None:
    done = play("-rs", "--guest", "debian-11", "--scenario", "three")
    assert done.code == 1
    assert "1 error" in done.out and "2 skipped" in done.out, done.out
    assert "could not be prepared: no kernel" in done.out


def test_tests_of_ones_own_run_on_each_chosen_guest_after_what_they_need(play: Play, tmp_path: Path) -> None:
    done = play(
        *("--guest", "debian-12", "--guest", "debian-13", "--scenario", "one", "-k", "mine"),
        what=("test_own.py",),
    )
    assert "4 passed" in done.out, done.out
    ran = [line for line in noted(tmp_path)["alone"] if "/" in line]
    assert ran == [f"{guest}/{name}" for guest in ("debian-12", "debian-13") for name in ("one", "two")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "3/2"], "3/2"),
        (["--guest", "debian-99"], "debian-99: no such guest"),
        (["--scenario", "bot"], "bot: no such scenario"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_in_words(words: list[str], said: str, play: Play) -> None:
    done = play(*words)
    assert done.code == 4
    assert said in done.err + done.out
    assert "Traceback" not in done.err


def test_the_parts_of_a_plan_are_all_of_it_and_have_nothing_in_common(play: Play, tmp_path: Path) -> None:
    for number in (1, 2):
        words = ("--guest", "debian-12", "--guest", "debian-13", "--scenario", "two")
        assert play("--shard", f"{number}/2", *words).code == 0
    ran = sorted(line for line in noted(tmp_path)["alone"] if "/" in line)
    assert ran == ["debian-12/one", "debian-12/two", "debian-13/one", "debian-13/two"]


def test_a_tests_group_is_its_guest_with_axes_wherever_that_stands_in_its_name() -> None:
    guests = sorted(["debian-12", "debian-12-rpm", "12"], key=len)
    assert group_of("matrix.py::test_cell[debian-12-rpm/kill]", guests) == "debian-12-rpm"
    assert group_of("matrix.py::test_cell[debian-12/kill[drivers=0.1]]", guests) == "debian-12[drivers=0.1]"
    assert group_of("test_own.py::test_x[1-debian-12/test]", guests) == "debian-12"
    assert group_of("test_own.py::test_x[debian-12/test-1]", guests) == "debian-12"
    assert group_of("test_own.py::test_x", guests) == "test_own.py::test_x"


def test_there_are_no_more_workers_than_cpus_groups_and_memory_carry() -> None:
    gib = 1 << 30
    assert auto_workers(["a", "b", "a"], 8, 64 * gib, gib) == 2
    assert auto_workers(["a", "b", "c"], 2, 64 * gib, gib) == 2
    assert auto_workers(["a", "b", "c"], 8, 2 * gib, gib) == 2
    assert auto_workers(["a"], 8, 0, gib) == 1


# What a cell is reported as, when it never came to be tried: `noted` of a pool is such a hook.
NO_HOST = """
import json
import pytest
from vbuskit.base.errors import Blocked

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    raise Blocked("no host of the pool can be used", hint="does ssh reach them?")

def pytest_runtest_logreport(report):
    if hasattr(report, "vbuskit"):
        print("REPORT", json.dumps(report.vbuskit))
"""


def test_a_cell_that_never_came_to_be_tried_is_red_and_says_why(play: Play, tmp_path: Path) -> None:
    (tmp_path / "nohost.py").write_text(NO_HOST)
    done = play("-s", "-p", "nohost", "--guest", "debian-12", "--scenario", "one")
    (line,) = (line for line in done.out.splitlines() if "REPORT " in line)
    report = json.loads(line.partition("REPORT ")[2])
    assert report["blocked"] == ["no host of the pool can be used", "does ssh reach them?"]
    cell = report["cell"]
    assert (cell["outcome"], cell["blame"]) == ("red", "infrastructure")
    assert cell["reason"] == "no host of the pool can be used (does ssh reach them?)"
