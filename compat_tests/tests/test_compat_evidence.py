# SPDX-License-Identifier: MIT
"""What is kept of a red cell, from a bench that is made up."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbuskit.base.errors import Blocked, TimedOut, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Finished, Runner
from vbuskit.compat import speed
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Blame, Cell, CellRed, CellSkipped, Outcome, judged
from vbuskit.compat.evidence import MOST, Before, again, bounded, examined, installs, whole, without_secrets
from vbuskit.compat.host import Here

PlacesIn = Callable[[Path], Places]


class Local(Here, SimpleNamespace):
    """A host of this machine."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "slowness", lambda: 1.0)


@dataclass
class Rig:
    """A bench as far as evidence looks at it; the guest says what a test lets it say."""

    places: Places
    execute: Callable[..., Finished] = lambda command, seconds: Finished(0, f"said: {command}\n", "")
    awake: bool = True
    rests: bool = False
    ends: dict[str, int | None] = field(default_factory=dict)

    @property
    def bench(self) -> Bench:
        logs = self.places.work("logs", "host")
        guest = SimpleNamespace(
            name="guest",
            serial=self.places.out / "logs" / "guest-serial.log",
            answered=True,
            qemu=0,
            is_awake=lambda: self.awake,
            rests=lambda: self.rests,
            state=lambda: "running",
            execute=self.execute,
            domain=SimpleNamespace(xml=lambda: ET.fromstring("<domain><name>guest</name></domain>")),
        )
        host = Local(logs=logs, ended=lambda: self.ends.get("libvirtd"))
        bus = SimpleNamespace(name="guest", log=logs / "vbusd.log", ended=lambda: self.ends.get("vbusd"))
        bus.status = self.silent
        return cast(Bench, SimpleNamespace(guest=guest, host=host, bus=bus, places=self.places))

    def silent(self) -> Any:
        raise Blocked("vbusd: no answer")


@pytest.fixture
def rig(tmp_path: Path, places_in: PlacesIn) -> Rig:
    rig = Rig(places_in(tmp_path))
    rig.bench.guest.serial.write_text("of a former cell: Kernel panic - not syncing\n")
    return rig


def tried(rig: Rig | None, body: Callable[[Cell], None], name: str = "kill", **words: Any) -> Cell:
    cell = Cell(name, "x", "guest")
    bench = rig.bench if rig else None
    with judged(cell), examined(cell, lambda: bench, **words):
        body(cell)
    return cell


def raising(error: BaseException) -> Callable[[Cell], None]:
    def body(cell: Cell) -> None:
        raise error

    return body


def test_a_green_cell_has_nobody_to_blame_and_a_skipped_one_neither(rig: Rig) -> None:
    for body in (lambda cell: cell.compare("x", expected=1, seen=1), raising(CellSkipped("no such thing"))):
        cell = tried(rig, body)
        assert (cell.blame, cell.evidence, cell.again, cell.logs) == (None, [], "", [])
    assert not (rig.places.out / "logs" / "guest").exists()


def test_a_red_cell_has_blame_evidence_a_line_that_repeats_it_and_a_folder_of_its_own(rig: Rig) -> None:
    def body(cell: Cell) -> None:
        with rig.bench.guest.serial.open("a") as file:
            file.write("of this cell\n")
        cell.compare("x", expected=1, seen=2)

    cells = [tried(rig, body) for _ in range(2)]
    assert [cell.blame for cell in cells] == [Blame.PRODUCT] * 2
    assert cells[0].evidence[0] == "a comparison does not hold: x: expected 1, saw 2"
    assert cells[0].again == "./vbuskit matrix run --guest guest --only kill"
    folders = {log.parent.relative_to(rig.places.out) for cell in cells for log in cell.logs}
    assert folders == {Path("logs/guest/kill-1"), Path("logs/guest/kill-2")}
    files = {log.name: log.read_text() for log in cells[0].logs}
    assert files["serial.log"] == "of this cell\n"
    assert files["domain.xml"] == "<domain><name>guest</name></domain>\n"
    assert files["vbus-status.json"] == "vbusd: no answer\n"
    assert files["dmesg.txt"] == "said: exec 2>&1; dmesg\n"
    assert "MiB free in" in files["host.txt"]


def test_a_panic_of_the_cell_before_is_not_held_against_this_one(rig: Rig) -> None:
    cell = tried(rig, raising(TimedOut("late", moved="its disk moved")), "boot")
    assert cell.blame is Blame.TIMEOUT


def test_what_a_guest_said_that_was_given_up_is_not_held_against_the_next_one(rig: Rig) -> None:
    def panic(cell: Cell) -> None:
        rig.bench.guest.serial.write_text("Kernel panic - not syncing: no init\n")
        raise TimedOut("late", moved="")

    def later(cell: Cell) -> None:
        benches.append(rig.bench)
        raise TimedOut("late", moved="its disk moved")

    benches: list[Bench] = []
    assert tried(rig, panic).evidence[0].endswith("no init")
    cell = Cell("kill", "x", "guest")
    with judged(cell), examined(cell, lambda: benches[0] if benches else None):
        later(cell)
    assert cell.blame is Blame.TIMEOUT


def test_a_wait_that_a_slow_machine_was_granted_is_no_excuse_for_being_late(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "slowness", lambda: 3.0)
    late = raising(TimedOut("guest: `x` did not end within 60 s"))
    assert tried(rig, late).blame is Blame.TIMEOUT
    with speed.unhurried(lambda: 3.0):
        assert tried(rig, late).blame is Blame.PRODUCT


@pytest.mark.parametrize("rested", [None, False, True])
def test_who_waits_for_a_guest_that_does_nothing_waits_in_vain_on_a_slow_machine_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, rested: bool | None
) -> None:
    monkeypatch.setattr(speed, "slowness", lambda: 3.0)
    rig.rests = True
    late = raising(TimedOut("guest: `x` did not end within 60 s", rested=rested))
    assert tried(rig, late).blame is (Blame.TIMEOUT if rested is False else Blame.PRODUCT)


@pytest.mark.parametrize(("name", "blame"), [("boot", Blame.IMAGE), ("kill", Blame.PRODUCT)])
def test_a_guest_is_its_images_own_until_a_cell_brings_our_packages(
    rig: Rig, name: str, blame: Blame
) -> None:
    def body(cell: Cell) -> None:
        with rig.bench.guest.serial.open("a") as file:
            file.write("Kernel panic - not syncing: no init\n")
        raise TimedOut("late", moved="")

    assert tried(rig, body, name).blame is blame
    assert tried(rig, body, name, installed=True).blame is Blame.PRODUCT


def test_a_daemon_that_ended_is_seen(rig: Rig) -> None:
    rig.ends = {"libvirtd": -9}
    assert tried(rig, raising(VbuskitError("guest: state"))).blame is Blame.INFRASTRUCTURE


def test_a_host_that_is_lost_is_asked_nothing_and_is_to_blame(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.ends["vbusd"] = 255  # so says ssh
    monkeypatch.setattr(Local, "lost", lambda host: "alpha: the lease is lost")
    cell = tried(rig, raising(VbuskitError("guest: connection is closed")))
    assert cell.blame == Blame.INFRASTRUCTURE
    assert cell.evidence[0] == "the host of the pool is lost: alpha: the lease is lost"


class Far(SimpleNamespace):
    """A host behind ssh, with a console that grows by a line each time that it is brought here."""

    said = "of a former cell: Kernel panic - not syncing", "of this one: ordinary"

    def lost(self) -> str:
        return ""

    def fetch(self, near: Path) -> None:
        self.count += 1
        near.write_text("\n".join(self.said[: self.count]) + "\n")


def test_the_console_of_a_guest_behind_ssh_is_brought_here_and_judged_from_where_the_cell_began(
    rig: Rig,
) -> None:
    bench = rig.bench
    far = Far(logs=bench.host.logs, ended=lambda: None, count=0)
    far_bench = cast(Bench, SimpleNamespace(**{**vars(bench), "host": far}))
    bench.guest.serial = Path("/nowhere/near/guest-serial.log")
    cell = Cell("kill", "x", "guest")
    with judged(cell), examined(cell, lambda: far_bench):
        raising(VbuskitError("broke"))(cell)
    (console,) = (log for log in cell.logs if log.name == "serial.log")
    assert console.read_text() == "of this one: ordinary\n"
    assert cell.evidence[0].startswith("no rule excuses it")


def test_a_guest_that_does_not_answer_is_asked_nothing(rig: Rig) -> None:
    rig.awake = False
    assert "dmesg.txt" not in {log.name for log in tried(rig, raising(CellRed("x"))).logs}


def test_a_guest_that_falls_silent_is_asked_no_more(rig: Rig) -> None:
    asked = []

    def execute(command: str, seconds: float) -> Finished:
        asked.append(command)
        raise TimedOut("guest: did not end within 20 s")

    rig.execute = execute
    cell = tried(rig, raising(CellRed("x")))
    assert len(asked) == 1
    assert cell.blame is Blame.PRODUCT


def test_what_was_never_on_a_bench_is_judged_all_the_same() -> None:
    cell = tried(None, raising(Blocked("the package mirror cannot be reached")))
    assert (cell.blame, cell.outcome, cell.logs) == (Blame.INFRASTRUCTURE, Outcome.RED, [])


def test_logs_that_cannot_be_written_make_a_line_and_no_other_error(rig: Rig) -> None:
    (rig.places.out / "logs" / "guest").write_text("a file in the way")
    cell = tried(rig, raising(CellRed("x")))
    assert (cell.blame, cell.reason) == (Blame.PRODUCT, "x")
    assert cell.evidence[-1].startswith("not all could be collected: ")


def test_a_defect_of_vbuskit_itself_is_examined_and_passed_on(rig: Rig) -> None:
    cell = Cell("kill", "x", "guest")
    with pytest.raises(KeyError), judged(cell), examined(cell, lambda: rig.bench):
        raise KeyError("oops")
    assert cell.blame is Blame.PRODUCT


def test_where_a_cell_lies_is_part_of_the_line_that_repeats_it() -> None:
    cell = Cell("kill", "x", "debian-12", axes={"machine": "q35 9", "drivers": "0.1"})
    line = "./vbuskit matrix run --guest debian-12 --only kill --drivers=0.1 '--machine=q35 9'"
    assert again(cell) == line


FULL = """
import os, sys, tempfile
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.compat.cells import Cell, judged
from vbuskit.compat.evidence import examined

folder = Path(sys.argv[1])
sandbox.enter()
sandbox.mount("tmpfs", str(folder), "tmpfs", 0, "size=1m")
tempfile.tempdir = str(folder)
cell = Cell("boot", "x", "guest")
try:
    with judged(cell), examined(cell, lambda: None):
        (folder / "disk.qcow2").write_bytes(bytes(2 << 20))
except OSError as error:
    print(error.strerror)
print(cell.blame, cell.evidence[0], sep="; ")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")
def test_a_disk_that_is_full_is_nobodys_defect(tmp_path: Path) -> None:
    lines = Runner()([sys.executable, "-c", FULL, tmp_path], seconds=60).splitlines()
    said = f"infrastructure; a disk of the host is full: 0 KiB are free in {tmp_path}"
    assert lines == ["No space left on device", said]


def test_what_is_no_scenario_is_repeated_by_its_guest() -> None:
    assert again(Cell("prepare", "x", "debian-12")) == "./vbuskit matrix run --guest debian-12"


def test_our_packages_are_in_a_guest_from_the_cell_on_that_installs_them() -> None:
    assert not installs("boot")
    assert not installs("prepare")
    assert [name for name in ("install", "negotiate", "kill", "uninstall") if not installs(name)] == []


def test_of_a_long_log_the_first_and_the_last_of_the_cell_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    log.write_text("another cell's\n" + "first" + "x" * 3 * MOST + "last")
    seen = whole(log, Before(0, {log: len("another cell's\n")}))
    assert seen.startswith("firstx") and seen.endswith("xlast")
    assert f"\n... {2 * MOST + 9 + 64} bytes left out ...\n" in seen
    log.write_bytes(b"\xff" * 3 * MOST)
    assert {*whole(log, Before(0, {}))} >= {"?"}
    assert all(bounded(each.encode()) == each.encode() for each in (seen, whole(log, Before(0, {}))))
    log.write_text("cut meanwhile")
    assert whole(log, Before(0, {log: 99})) == "cut meanwhile"
    assert whole(tmp_path / "none", Before(0, {})) == ""


def test_a_file_is_never_longer_than_it_may_be() -> None:
    assert bounded(b"x" * MOST) == b"x" * MOST
    cut = bounded(b"first" + b"x" * 3 * MOST + b"last")
    assert len(cut) < MOST + 100
    assert cut.startswith(b"first") and cut.endswith(b"last") and b"bytes left out" in cut


def test_secrets_are_no_part_of_a_domain() -> None:
    text = '<d><auth user="a"><secret uuid="1"/></auth><graphics passwd="p" type="vnc"/></d>'
    assert without_secrets(ET.fromstring(text)) == '<d><graphics type="vnc" /></d>\n'
