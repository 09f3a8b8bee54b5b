# SPDX-License-Identifier: MIT
"""`vbuskit migrate`: its words and exit codes; and a guest that goes between hosts of a lab."""

from __future__ import annotations

import json
import re
import shlex
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Finished, Runner
from vbuskit.base.wait import until
from vbuskit.ci import cli
from vbuskit.ci.commands.migrate import reaching
from vbuskit.compat.domain import Hardware, domain_xml
from vbuskit.compat.standing import Standing
from vbuskit.drivers.host import Host
from vbuskit.drivers.kernel import modules
from vbuskit.migration.journal import Heading, Journal, locked
from vbuskit.migration.steps import Step

SHARED = Path("/var/lib/libvirt/shared")  # on each host
AWAY = "qemu+unix:///system?socket=/nowhere"
HEADING = Heading(guest="vm1", uuid=UUID(int=7), source=AWAY, destination=AWAY, bus="vm1")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "state"))
    folder = tmp_path / "state/migrations"
    folder.mkdir(parents=True)
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is told on standard error, with the exit code in front."""
    code = cli.main(["migrate", *words])
    return f"{code} {capsys.readouterr().err}"


def test_words_that_do_not_go_together_are_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 vbuskit: migrate: needs a DESTINATION_URI" in said(capsys, "vm1")
    assert "2 vbuskit: --source-is-fenced: is for --resume" in said(capsys, "vm1", "x", "--source-is-fenced")
    assert "2 vbuskit: vm1: no migration of it was cut off" in said(capsys, "vm1", "--resume")
    assert said(capsys, "vm1", "x", "--bandwidth", "0").startswith("2 ")
    assert said(capsys, "vm1", "--resume", "--abort").startswith("2 ")


def test_without_libvirt_nothing_is_begun(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "vm1", AWAY, "--connect", AWAY)
    assert told.startswith("3 vbuskit: ") and "/nowhere" in told.splitlines()[0]
    assert list(state.iterdir()) == []


def test_one_that_another_process_is_at_is_not_taken_up(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Journal.begun(state, HEADING)
    with locked(state, HEADING.uuid, "vm1"):
        assert said(capsys, "vm1", "--abort").startswith(
            "3 vbuskit: vm1: another vbuskit migrate is at it\n"
        )


def test_one_that_has_touched_nothing_is_taken_back_without_either_host(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Journal.begun(state, HEADING).begin(Step.GATE)
    told = said(capsys, "vm1", "--abort", "--socket", str(tmp_path / "none"))
    assert told.startswith("1 ") and told.endswith("vbuskit: vm1: stays at the source: --abort\n")
    assert len(list((state / "closed").iterdir())) == 1
    assert said(capsys, "vm1", "--abort").startswith("2 ")


def test_one_whose_hosts_are_silent_stays_open(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal.begun(state, HEADING)
    journal.begin(Step.MOVE)
    told = said(capsys, "vm1", "--resume", "--socket", str(tmp_path / "none"))
    assert told.startswith("3 ") and "unknown at the source and unknown at the destination" in told
    assert journal.path.exists()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("qemu:///system", None),
        ("qemu+unix:///system?socket=/x", None),
        ("qemu+ssh://root@b:2222/system", ["ssh", "-o", "BatchMode=yes", "-p", "2222", "root@b", "vbuskit"]),
        ("qemu+libssh2://b/system", ["ssh", "-o", "BatchMode=yes", "b", "vbuskit"]),
    ],
)
def test_the_other_host_is_reached_as_the_uri_reaches_it(uri: str, words: list[str] | None) -> None:
    assert reaching(uri, None) == words
    assert reaching(uri, "nsenter -t 1 vbuskit") == ["nsenter", "-t", "1", "vbuskit"]


@pytest.mark.parametrize("uri", ["qemu+tcp://b/system", "qemu+tls://b/system", "qemu+ssh://-oProxy/system"])
def test_a_uri_that_leads_to_no_command_is_refused(
    uri: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vbuskit.base.errors import UsageError

    with pytest.raises(UsageError):
        reaching(uri, None)


# ---- A lab ----


def lab(out: Path, *words: str | Path, seconds: float = 600) -> Finished:
    verb, *more = words
    command: list[str | Path] = [sys.executable, "-m", "vbuskit.ci.cli", "lab", verb, "--out", out, *more]
    return Runner().attempt(command, seconds=seconds)


@contextmanager
def standing(out: Path, *words: str) -> Iterator[Standing]:
    done = lab(out, "up", "--detach", *words)
    assert done.code == 0, done.err + (out / "lab/lab/up.log").read_text()
    try:
        yield Standing(Runner(), out / "lab/lab")
    finally:
        lab(out, "down")


def tiny(out: Path, folder: Path) -> tuple[Path, Path]:
    """As in test_ci_lab.py: a kernel of Debian 12, our bridge, one program that counts."""
    run = Runner()
    done = run([sys.executable, "-m", "vbuskit.ci.cli", "guest", "build", "debian-12"], seconds=1800)
    [(release, image)] = re.findall(r"^debian-12: (\S+), .* s: (/.+)$", done, re.MULTILINE)
    bridge = modules(run, Places.from_environment(out), release)["vbus"].path
    (folder / "vbus.ko").write_bytes(bridge.read_bytes())
    source = ROOT / "compat_tests/guest/ticking.c"
    run(["gcc", "-static", "-O2", "-Wall", "-Werror", "-o", folder / "init", source])
    run(["sh", "-c", "printf 'init\\nvbus.ko\\n' | cpio --quiet -o -H newc >initrd"], cwd=folder)
    kernel = folder / "vmlinuz"
    kernel.write_bytes(Path(image, "vmlinuz").read_bytes())
    return kernel, folder / "initrd"


def ticks(console: Path) -> list[int]:
    """Whole lines only."""
    text = console.read_text(errors="replace") if console.exists() else ""
    return [int(number) for number in re.findall(r"^tick (\d+)\r?\n", text, re.MULTILINE)]


def goes_on(console: Path) -> bool:
    last = len(ticks(console))
    return bool(until(lambda: len(ticks(console)) > last + 5, 60, pause=0.1))


def command(it: Standing, start: int, end: int, *more: str) -> list[str | Path]:
    """From this machine: both hosts by their ways in from outside, libvirt by the lab's own ssh."""
    here, there = it.hosts[start], it.hosts[end]
    words: list[str | Path] = [sys.executable, "-m", "vbuskit.ci.cli", "migrate", "g1", there.uri]
    words += ["--connect", it.uri(here), "--socket", it.outside(here.vbusd)]
    words += ["--destination-connect", it.uri(there), "--destination-socket", it.outside(there.vbusd), *more]
    return words


def migrate(it: Standing, state: Path, start: int, end: int, *more: str) -> Finished:
    words = command(it, start, end, *more)
    return Runner().attempt(words, env={"VBUSKIT_STATE": str(state)}, seconds=180)


def has_it(it: Standing, host: int) -> bool:
    """The guest agrees with that host on the epoch, and the other one has neither guest nor bus."""

    def look() -> bool:
        found = []
        for seat in it.hosts:
            with Host(it.outside(seat.vbusd)) as vbusd:
                found.append([bus for bus in vbusd.buses() if bus.name == "g1"])
        mine = found.pop(host)
        return found == [[]] and len(mine) == 1 and mine[0].confirmed and not mine[0].held

    return bool(until(look, 60, pause=0.1))


@contextmanager
def at_home(out: Path, suites: str) -> Iterator[tuple[Standing, Path]]:
    """A lab, and a guest with a bus on its first host; also its console, which both hosts append to."""
    with standing(out, "--suite", suites) as it:
        shared = out / "lab/lab/shared"
        kernel, initrd = tiny(out, shared)
        hardware = Hardware(
            name="g1",
            disk=None,
            kernel=SHARED / kernel.name,
            initrd=SHARED / initrd.name,
            serial=SHARED / "console",
            memory=128,
            type="q35",
            bus=Path("/run/vbus/g1.sock"),
        )
        with Host(it.outside(it.hosts[0].vbusd)) as vbusd:
            vbusd.add_bus("g1", Path("/run/vbus/g1.sock"))
        ET.ElementTree(domain_xml(hardware)).write(shared / "g1.xml")
        it.run(it.hosts[0], ["virsh", "-q", "create", str(SHARED / "g1.xml")], seconds=120)
        console = shared / "console"
        assert goes_on(console) and has_it(it, 0)
        yield it, console
        assert goes_on(console)
        seen = ticks(console)
        assert seen == [*range(1, seen[-1] + 1)]  # none lost, none twice


def says(told: Path, line: str) -> bool:
    return line in told.read_text()


def closed(state: Path) -> list[str]:
    """How each migration came to its end."""
    journals = (state / "migrations/closed").iterdir()
    return sorted(json.loads(each.read_text().splitlines()[-1])["closed"] for each in journals)


@pytest.mark.full
@pytest.mark.parametrize("other", ["bookworm", "trixie"])
def test_a_guest_goes_to_another_host_with_its_bus_and_comes_back(tmp_path: Path, other: str) -> None:
    state = tmp_path / "state"
    with at_home(tmp_path / "out", f"bookworm,{other}") as (it, console):
        rehearsal = migrate(it, state, 0, 1, "--dry-run")
        assert (rehearsal.code, has_it(it, 0)) == (Exit.OK, True), rehearsal.err
        for start, end in ((0, 1), (1, 0)):
            done = migrate(it, state, start, end)
            assert done.code == Exit.OK, done.err
            assert has_it(it, end) and goes_on(console)
        assert closed(state) == ["moved", "moved"]


@pytest.mark.full
def test_the_other_hosts_vbusd_is_reached_by_a_command_there(tmp_path: Path) -> None:
    """As by ssh: its profile and its bus come from a vbuskit that runs on that host."""
    state = tmp_path / "state"
    with at_home(tmp_path / "out", "bookworm") as (it, _):
        there = it.hosts[1]
        far = [str(word) for word in it.command(there, [sys.executable, "-m", "vbuskit.ci.cli"])]
        more = ["--through", shlex.join(far), "--destination-socket", there.vbusd]
        done = migrate(it, state, 0, 1, *more)
        assert done.code == Exit.OK, done.err
        assert has_it(it, 1)


@pytest.mark.full
def test_a_mover_that_is_killed_leaves_a_guest_that_is_brought_to_one_side(tmp_path: Path) -> None:
    """At each step, once; then --abort or --resume, and the guest is where that says."""
    state, told = tmp_path / "state", tmp_path / "told"
    steps = ["prepare", "move", "release", "start", "wake", "tidy"]
    with at_home(tmp_path / "out", "bookworm") as (it, console):
        place = 0
        for number, (step, word) in enumerate((s, w) for s in steps for w in ("--abort", "--resume")):
            told.write_text("")
            words = command(it, place, 1 - place)
            with Runner().start(words, output=told, env={"VBUSKIT_STATE": str(state)}) as process:
                assert until(partial(says, told, f"g1: {step}\n"), 60, pause=0.0005)
                process.kill()
                process.wait(10)
            done = migrate(it, state, place, 1 - place, word)
            print(step, word, done.code, done.err.splitlines())
            assert done.code in (Exit.OK, Exit.FAILED), done.err
            place = 1 - place if done.code == Exit.OK else place
            assert has_it(it, place) and goes_on(console), f"{step} {word}"
            assert len(closed(state)) == number + 1
