# SPDX-License-Identifier: MIT
"""The health check after a cell: what it sees of guest and host, and what it lets pass."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vbuskit.base.run import Runner
from vbuskit.compat import health, scenario
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellRed
from vbuskit.compat.health import NONE, Health
from vbuskit.compat.scenario import Scenario

OOPS = "[   12.000001] BUG: unable to handle page fault for address: ffffffffdeadbeef"
KERNEL, PROCESSES = "kernel logs", "processes left"
PROGRAMS, OPEN, MEMORY = "logs of the host's programs", "descriptors left open", "window memory lost"


@dataclass
class Stage:
    """A guest and a host, of which a test moves one thing; vbusd and its worker are this process."""

    folder: Path
    boot: str = "first"
    free: str = "4096"
    dmesg: tuple[str, ...] = ()
    is_on: bool = True
    devices: tuple[int, ...] = (1, 2)

    # ---- The guest ----

    name = "guest"

    @property
    def serial(self) -> Path:
        return self.folder / "guest-serial.log"

    def is_running(self) -> bool:
        return self.is_on

    def __call__(self, command: str) -> str:
        return "\n".join((self.boot, self.free, *self.dmesg))

    # ---- Its bus ----

    pid = os.getpid()

    @property
    def log(self) -> Path:
        return self.folder / "vbusd.log"

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(worker=self.pid, connected=True)

    @property
    def client(self) -> SimpleNamespace:
        devices = [SimpleNamespace(uuid=number, is_open=True) for number in self.devices]
        return SimpleNamespace(devices=lambda bus: devices, classes=list)

    def says(self, file: str, line: str) -> None:
        with (self.folder / file).open("a") as log:
            log.write(line + "\n")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(health, "PATIENCE", 0.1)
    monkeypatch.setattr(scenario, "REGISTERED", dict(scenario.REGISTERED))
    made = Stage(tmp_path)
    made.says("guest-serial.log", OOPS)  # before the cell
    made.says("vbusd.log", "vbusd: no event loop (Bad file descriptor)")
    return made


@pytest.fixture
def before(stage: Stage) -> Health:
    bench = SimpleNamespace(
        guest=stage, bus=stage, host=SimpleNamespace(logs=stage.folder, place=lambda near: near)
    )
    return Health(cast(Bench, bench))


def checked(before: Health, name: str = "x") -> dict[str, str]:
    """What was seen of each thing that was compared."""
    cell = Cell(name, "title", "guest")
    cell.compare("epoch", expected=2, seen=2)
    with suppress(CellRed):
        before.check(cell)
    return {each.what.removeprefix("health: "): each.seen for each in cell.comparisons[1:]}


def red(before: Health, name: str = "x") -> str:
    """The last thing that was looked at: it is the one that did not hold."""
    *held, last = checked(before, name).items()
    assert {seen for _, seen in held} <= {NONE}
    return ": ".join(last)


def test_when_all_is_as_it_was_five_things_were_compared(before: Health) -> None:
    assert checked(before) == dict.fromkeys((KERNEL, PROGRAMS, PROCESSES, OPEN, MEMORY), NONE)


def test_a_cell_that_proved_nothing_is_left_so(before: Health) -> None:
    cell = Cell("x", "title", "guest")
    before.check(cell)
    assert cell.comparisons == []


def test_a_complaint_of_the_kernel_is_seen_once_though_the_console_has_it_too(
    before: Health, stage: Stage
) -> None:
    line = OOPS.replace("12.000001", "13.000001")
    stage.dmesg = (line,)
    stage.says("guest-serial.log", line)
    assert red(before) == f"{KERNEL}: {line}"


def test_what_the_kernel_complained_of_before_is_another_cells(stage: Stage) -> None:
    stage.dmesg = (OOPS,)
    bench = SimpleNamespace(
        guest=stage, bus=stage, host=SimpleNamespace(logs=stage.folder, place=lambda near: near)
    )
    assert set(checked(Health(cast(Bench, bench))).values()) == {NONE}


def test_a_kernel_that_is_gone_has_complained_on_its_console_and_the_next_ones_memory_is_no_measure(
    before: Health, stage: Stage
) -> None:
    stage.boot, stage.free = "second", "0"
    assert checked(before) == dict.fromkeys((KERNEL, PROGRAMS, PROCESSES, OPEN), NONE)
    stage.says("guest-root-serial.log", OOPS)
    assert red(before) == f"{KERNEL}: {OOPS}"


def test_of_a_guest_that_is_off_the_host_is_still_looked_at(before: Health, stage: Stage) -> None:
    stage.is_on = False
    assert checked(before) == dict.fromkeys((KERNEL, PROGRAMS, PROCESSES, OPEN), NONE)


def test_a_descriptor_that_stays_open_is_seen_and_named(before: Health) -> None:
    with Path("/dev/null").open():
        assert red(before) == f"{OPEN}: 1 vbus-worker: /dev/null, 1 vbusd: /dev/null"


def test_with_other_devices_other_descriptors_and_memory_are_no_leak(before: Health, stage: Stage) -> None:
    stage.devices, stage.free = (1, 2, 3), "0"
    with Path("/dev/null").open():
        assert checked(before) == dict.fromkeys((KERNEL, PROGRAMS, PROCESSES), NONE)


def test_window_memory_that_does_not_come_back_is_seen(before: Health, stage: Stage) -> None:
    stage.free = "1096"
    assert red(before) == f"{MEMORY}: 3000 bytes"


def test_what_comes_back_a_moment_later_is_no_leak(before: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(("1096", "4096"))
    stage.__class__ = type("Slow", (Stage,), {"__call__": lambda self, command: f"first\n{next(looks)}"})
    assert checked(before)[MEMORY] == NONE


def test_only_the_last_look_counts(before: Health, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def loses_a_device(stage: Stage, command: str) -> str:
        stage.devices = (1,)
        return "first\n4096"

    monkeypatch.setattr(Stage, "__call__", loses_a_device)
    with Path("/dev/null").open():
        assert OPEN not in checked(before)


def test_a_process_that_still_writes_to_vbusds_log_is_left_over(before: Health, stage: Stage) -> None:
    with Runner().start(["sleep", "60"], output=stage.log):
        assert red(before) == f"{PROCESSES}: 1 sleep"
    assert checked(before)[PROCESSES] == NONE


def test_a_qemu_is_named_by_its_guest(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_bytes(b"/usr/bin/qemu\0-name\0guest=one-root,debug-threads=on\0")
    assert health.name_of(tmp_path) == "QEMU of one-root"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("vbusd.log", "vbus-worker: bus x: worker ends (no epoch: Success)"),
        ("vbusd.log", "vbusd: bus x: worker 7 died (signal 11), the next starts in 0 ms"),
        ("vbusd.log", "../drivers/host/vbusd_main.c:42:7: runtime error: index 9 out of bounds"),
        ("vbusd.log", "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010"),
        ("libvirtd.out", "libvirtd: corrupted size vs. prev_size"),
        ("qemu/x.log", "qemu-system-x86_64: ../hw/core/qdev.c:1: f: Assertion `x' failed."),
        ("qemu/x.log", "2026-11-23 22:00:00.000+0000: shutting down, reason=crashed"),
    ],
)
def test_a_complaint_of_a_program_of_the_host_is_seen(
    before: Health, stage: Stage, file: str, line: str
) -> None:
    (stage.folder / "qemu").mkdir()
    stage.says(file, line)
    assert red(before) == f"{PROGRAMS}: {line}"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("vbusd.log", "vbusd: bus x: worker 7 died (signal 9), the next starts in 10 ms"),
        (
            "vbusd.log",
            "vbusd: bus x: worker 7 died (a former vbusd had started it), the next starts in 0 ms",
        ),
        ("vbusd.log", "vbus-worker: bus x: epoch 0123456789abcdef (worker started)"),
        ("vbusd.log", "vbusd: ends"),
        ("qemu/x.log", "2026-11-23 22:00:00.000+0000: Domain id=1 is tainted: custom-argv"),
        ("qemu/x.log", "2026-11-23 22:00:00.000+0000: shutting down, reason=shutdown"),
        ("qemu/x.log", "qemu-system-x86_64: terminating on signal 15 from pid 17 (libvirtd)"),
    ],
)
def test_what_they_say_of_kills_and_ends_that_were_asked_for_is_no_complaint(
    before: Health, stage: Stage, file: str, line: str
) -> None:
    (stage.folder / "qemu").mkdir()
    stage.says(file, line)
    assert checked(before)[PROGRAMS] == NONE


def test_what_a_scenario_is_there_to_bring_about_is_its_own_and_nobody_elses(
    before: Health, stage: Stage
) -> None:
    body = {"name": "lies", "title": "lies", "order": 0, "run": lambda *_: None, "provokes": "no epoch"}
    type("Lies", (Scenario,), body)
    stage.says("vbusd.log", "vbus-worker: bus x: worker ends (no epoch: Success)")
    assert checked(before, "lies")[PROGRAMS] == NONE
    assert checked(before)[PROGRAMS] != NONE
    stage.says("vbusd.log", "vbus-worker: bus x: worker ends (no pipe: Success)")
    assert checked(before, "lies")[PROGRAMS] != NONE
