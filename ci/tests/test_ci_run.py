# SPDX-License-Identifier: MIT
"""`vbuskit run` as a user has it: whole runs with a real guest, and runs that are cut short."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked, Exit
from vbuskit.base.places import Places
from vbuskit.base.run import Process, Runner
from vbuskit.ci.road import alone, fresh_folders, told
from vbuskit.compat.cells import Cell, Outcome

RUN = [sys.executable, "-m", "vbuskit.ci.cli", "run"]
guest = pytest.mark.guest


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tree=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


def test_a_second_run_in_the_same_folder_is_blocked(places: Places) -> None:
    with alone(places), pytest.raises(Blocked, match="another run"), alone(places):
        pass
    with alone(places):
        pass


def test_what_a_guest_said_is_one_line_of_the_terminal_and_no_command_of_a_ci(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told(Cell("boot", "It boots", "guest", Outcome.RED, 1.0, "saw \x1b]0;x\x07\n::error::\ud800\u202e"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable() and line.endswith("saw ?]0;x??::error::??")


@pytest.mark.parametrize("keep", [False, True])
def test_what_an_earlier_run_left_is_gone_and_work_stays_only_when_kept(keep: bool, places: Places) -> None:
    (places.work("work") / "old").touch()
    (places.work("logs") / "old").touch()
    with fresh_folders(places, keep):
        (places.out / "work" / "disk").touch()
        (places.out / "logs" / "log").touch()
        assert not (places.out / "work" / "old").exists()
        assert not (places.out / "logs" / "old").exists()
    assert (places.out / "work" / "disk").exists() is keep
    assert (places.out / "logs" / "log").exists()


def test_a_scenario_that_does_not_exist_is_a_usage_error_before_anything_starts() -> None:
    done = Runner().attempt([*RUN, "--only", "nothing"])
    assert done.code == Exit.USAGE
    assert "there are: boot" in done.err


def pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def everybody() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def inside(namespace: str) -> list[bytes]:
    """Command lines of whoever lives in a PID namespace. (libvirt starts QEMU with an empty environment,
    in a session of its own and as nobody's child: the namespace is the one mark that all of them carry.)"""
    return [cmdline(pid) for pid in everybody() if pid_namespace(pid) == namespace]


def namespace_of(run: Process) -> str:
    """The namespace that a run has made for its children; empty until it has."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    names = {pid_namespace(int(child)) for child in children} - {"", pid_namespace(os.getpid())}
    return names.pop() if names else ""


def until(holds: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Process]:
    with Runner().start([*RUN, "--out", tmp_path, "--only", "boot"], output=tmp_path / "output") as process:
        yield process


def with_guest(run: Process, output: Path) -> str:
    """Wait until the run has a guest; its PID namespace."""
    found: list[str] = []

    def has_guest() -> bool:
        found[:] = [namespace_of(run)]
        return bool(found[0]) and any(b"guest=debian-12" in line for line in inside(found[0]))

    assert until(has_guest, 180), output.read_text()
    return found[0]


@guest
def test_a_whole_run_is_green_and_leaves_no_process(run: Process, tmp_path: Path) -> None:
    namespace = with_guest(run, tmp_path / "output")
    assert run.wait(300) == Exit.OK, (tmp_path / "output").read_text()
    assert "ok       debian-12/boot" in (tmp_path / "output").read_text()
    assert not inside(namespace)


@guest
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_run_that_is_cut_short_leaves_no_guest(
    number: signal.Signals, code: int, run: Process, tmp_path: Path
) -> None:
    namespace = with_guest(run, tmp_path / "output")
    run.kill(number)
    assert run.wait(30) == code
    assert until(lambda: not inside(namespace), 10)
    if number is signal.SIGINT:
        assert "interrupted" in (tmp_path / "output").read_text()
