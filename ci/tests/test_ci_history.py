# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.run import Runner
from vbuskit.ci import history
from vbuskit.ci.facts import Host, RunFacts
from vbuskit.ci.history import Damaged, History, this_machine
from vbuskit.ci.verdict import cell_id
from vbuskit.compat.cells import Blame, Cell, Outcome, Retry


@pytest.fixture
def past(tmp_path: Path) -> History:
    return History(tmp_path / "state" / "history.sqlite")


def run_at(hour: int, accelerator: str = "tcg", defect: str = "") -> RunFacts:
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    host = Host(system="", kernel="", qemu="", libvirt="")
    return RunFacts(
        version="0.1.0",
        commit="",
        dirty=False,
        host=host,
        accelerator=accelerator,
        started=started,
        defect=defect,
    )


def kill(seconds: float, outcome: Outcome = Outcome.GREEN) -> Cell:
    return Cell("kill", "Kill", "debian-12", outcome, seconds)


def test_a_cell_off_the_usual_axes_has_them_in_its_id_in_one_order() -> None:
    cell = Cell("kill", "Kill", "debian-12", axes={"machine": "pc", "drivers": "0.1"})
    assert cell_id(cell) == "debian-12/kill[drivers=0.1,machine=pc]"
    assert cell_id(kill(1)) == "debian-12/kill"


def test_what_was_added_is_read_back_newest_first(past: History) -> None:
    red = kill(3, Outcome.RED)
    red.blame, red.retries = Blame.TIMEOUT, [Retry(Outcome.RED, 9.0, "late")]
    assert past.add(run_at(1), [kill(2)]) == ""
    past.add(run_at(2), [red])
    assert [run.started.hour for run in past.runs()] == [2, 1]
    (run, found), (_, earlier) = past.cell("debian-12/kill")
    assert (run.version, found.outcome, found.seconds) == ("0.1.0", Outcome.RED, 3.0)
    assert (found.blame, found.retries, earlier.outcome) == ("timeout", 1, Outcome.GREEN)
    assert past.cells_of(run) == {"debian-12/kill": found}


def test_a_run_that_is_added_twice_is_there_once(past: History) -> None:
    past.add(run_at(1), [kill(2)])
    past.add(run_at(1), [kill(5)])
    assert [each.seconds for _, each in past.cell("debian-12/kill")] == [5.0]


def test_expected_is_the_median_of_the_last_green_ones(past: History) -> None:
    for hour, seconds in enumerate((1000, 1000, 3, 4, 5, 6, 90)):
        past.add(run_at(hour), [kill(seconds)])
    past.add(run_at(10), [kill(0.1, Outcome.RED)])
    assert past.expected() == {"debian-12/kill": 5.0}


def test_what_a_planted_defect_made_of_cells_is_neither_expected_nor_counted(past: History) -> None:
    past.add(run_at(1), [kill(5)])
    assert past.add(run_at(2, defect="late"), [kill(90), Cell("mask", "Mask", "x", Outcome.RED, 1)]) == ""
    assert past.expected() == {"debian-12/kill": 5.0}
    assert len(past.runs()) == 1
    assert past.cell("x/mask") == []


def test_expected_is_of_the_same_accelerator(past: History) -> None:
    past.add(run_at(1, "kvm"), [kill(2)])
    past.add(run_at(2, "tcg"), [kill(20)])
    assert past.expected() == past.expected("tcg") == {"debian-12/kill": 20.0}
    assert past.expected("kvm") == {"debian-12/kill": 2.0}


def test_expected_is_of_a_machine_like_this_when_there_is_one(
    past: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.add(run_at(1), [kill(2)])
    monkeypatch.setattr(history, "this_machine", lambda: "64 x another one")
    assert past.expected() == {"debian-12/kill": 2.0}
    past.add(run_at(2), [kill(1)])
    assert past.expected() == {"debian-12/kill": 1.0}


def test_a_machine_is_its_processors(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor: 0\nmodel name\t: A 1\n\nprocessor: 1\nmodel name\t: A 1\n")
    assert this_machine(tmp_path / "cpuinfo") == "2 x A 1"
    assert this_machine(tmp_path / "none") == ""


def test_without_a_file_there_is_no_past(past: History) -> None:
    assert (past.runs(), past.expected(), past.cell("a/b")) == ([], {}, [])
    assert not past.path.parent.exists()


def test_neither_a_run_without_cells_nor_a_cell_that_was_cut_short_is_remembered(past: History) -> None:
    assert past.add(run_at(1), []) == ""
    assert past.add(run_at(2), [Cell("kill", "", "guest", Outcome.RED, 1, "interrupted")]) == ""
    assert past.runs() == []


def test_the_oldest_runs_make_room(past: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_RUNS", 3)
    for hour in range(5):
        past.add(run_at(hour), [kill(hour), Cell(f"only-{hour}", "", "debian-12", Outcome.GREEN, 1)])
    assert [run.started.hour for run in past.runs()] == [4, 3, 2]
    assert set(past.expected()) == {"debian-12/kill", *(f"debian-12/only-{hour}" for hour in (2, 3, 4))}
    monkeypatch.setattr(history, "MOST_ROWS", 2)
    past.add(run_at(6), [kill(1)] + [Cell(str(number), "", "g", Outcome.GREEN, 1) for number in range(9)])
    assert [run.started.hour for run in past.runs()] == [6]


def test_the_file_stays_small(past: History) -> None:
    cells = [Cell(f"scenario-{n % 40}", "", f"guest-{n // 40}", Outcome.GREEN, n / 7) for n in range(1000)]
    for hour in range(5):
        past.add(run_at(hour), cells)
    assert past.path.stat().st_size < 10e6 * 5000 / history.MOST_ROWS


@pytest.mark.parametrize("damage", [b"no database" * 900, b""])
def test_a_damaged_file_goes_aside_and_a_new_one_begins(past: History, damage: bytes) -> None:
    past.add(run_at(1), [kill(2)])
    past.path.write_bytes(damage)
    assert past.runs() == []
    said = past.add(run_at(2), [kill(2)])
    assert len(past.runs()) == 1
    if damage:  # an empty file is one that was never filled
        assert "history.sqlite: was damaged; it is history.damaged now" in said
        assert past.path.with_suffix(".damaged").read_bytes() == damage


def test_one_damaged_page_is_seen(past: History) -> None:
    past.add(run_at(1), [kill(2)])
    raw = bytearray(past.path.read_bytes())
    raw[4096:-4096] = b"\xa5" * (len(raw) - 8192)
    past.path.write_bytes(raw)
    assert past.runs() == []
    assert "was damaged" in past.add(run_at(2), [kill(2)])


def test_a_value_that_no_run_wrote_is_damage(past: History) -> None:
    past.add(run_at(1), [kill(2)])
    raw = past.path.read_bytes()
    assert raw.count(b"2026-01-01T01") == 2  # the row and its index
    past.path.write_bytes(raw.replace(b"2026-01-01T01", b"2026-99-01T01"))
    assert past.runs() == []
    assert "was damaged" in past.add(run_at(2), [kill(2)])


def test_the_history_of_a_newer_vbuskit_is_refused_in_words_and_kept(past: History) -> None:
    past.add(run_at(1), [kill(2)])
    with closing(sqlite3.connect(past.path)) as base:
        base.execute("PRAGMA user_version = 7")
    before = past.path.read_bytes()
    for question in (lambda: past.add(run_at(2), [kill(2)]), past.runs, past.expected):
        with pytest.raises(Refused, match="schema 7, this vbuskit reads 1"):
            question()
    assert past.path.read_bytes() == before


def test_a_damaged_file_that_cannot_go_aside_is_said(past: History) -> None:
    past.path.with_suffix(".lock").mkdir(parents=True)
    past.path.write_bytes(b"damage" * 999)
    with pytest.raises(Blocked, match=r"history\.sqlite: Is a directory"):
        past.add(run_at(1), [kill(1)])


@contextmanager
def no_room() -> Iterator[None]:
    """Files of this process may not grow: SQLite sees what a full disk makes it see."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_said_and_leaves_what_was_there(past: History) -> None:
    past.add(run_at(1), [kill(2)])
    with no_room(), pytest.raises(Blocked, match=r"history\.sqlite: "):
        past.add(run_at(2), [kill(2)] * 1000)
    assert [run.started.hour for run in past.runs()] == [1]
    assert past.add(run_at(2), [kill(2)]) == ""


def test_a_writer_that_has_the_file_for_too_long_is_said(
    past: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.add(run_at(1), [kill(2)])
    monkeypatch.setattr(history, "PATIENCE", 0.05)
    with closing(sqlite3.connect(past.path, isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Blocked, match="another run has been writing to it"):
            past.add(run_at(2), [kill(2)])


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ci_history import Cell, History, Outcome, run_at
past, first = History(Path({path!r})), int(sys.argv[1])
open(sys.argv[2]).read()
cells = [Cell(str(number), "", "guest", Outcome.GREEN, number) for number in range(500)]
for hour in range(first, first + 20):
    assert past.add(run_at(hour), cells) == ""
"""


def test_two_processes_write_at_once_and_nothing_is_lost(past: History, tmp_path: Path) -> None:
    program = WRITER.format(tests=str(Path(__file__).parent), path=str(past.path))
    gates = {first: tmp_path / f"gate-{first}" for first in (0, 20)}
    with ExitStack() as both:
        for first, gate in gates.items():
            os.mkfifo(gate)
            words = [sys.executable, "-c", program, str(first), str(gate)]
            both.enter_context(ThreadPoolExecutor()).submit(Runner(), words)
        # Each open waits until its process is there; then both are let go at once.
        for file in [gate.open("w") for gate in gates.values()]:
            file.close()
    assert len(past.runs()) == 40


def test_a_damaged_file_goes_aside_once_though_four_see_it(past: History) -> None:
    class Late(History):
        def store(self, facts: RunFacts, cells: Sequence[Cell]) -> None:
            try:
                super().store(facts, cells)
            except Damaged:
                with suppress(threading.BrokenBarrierError):
                    seen.wait(0.5)  # the one who may put it aside waits in vain
                raise

    seen = threading.Barrier(4)
    past.path.parent.mkdir()
    past.path.write_bytes(b"damage" * 999)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda hour: Late(past.path).add(run_at(hour), [kill(1)]), range(4)))
    assert len(past.runs()) == 4
    assert len([each for each in said if each]) == 1
