# SPDX-License-Identifier: MIT
"""`vbuskit lab`: hosts that reach each other and end together, and a guest that goes between them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Dialogue, Finished, Runner
from vbuskit.base.virt import Connection
from vbuskit.base.wait import until
from vbuskit.ci import cli
from vbuskit.compat.domain import Hardware, domain_xml
from vbuskit.compat.standing import Standing, is_whole, parent_of
from vbuskit.drivers.host import Host
from vbuskit.drivers.kernel import modules

SHARED = Path("/var/lib/libvirt/shared")  # on each host


def lab(out: Path, *words: str | Path, seconds: float = 600) -> Finished:
    """One `vbuskit lab` with this folder for its results."""
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


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: the host's programs are built once."""
    return tmp_path_factory.mktemp("out")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is told on standard error, with the exit code in front."""
    code = cli.main(["lab", *words])
    return f"{code} {capsys.readouterr().err}"


def test_words_that_mean_nothing_are_told_with_those_that_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "2 vbuskit: suite 'jessie': no lab host" in said(capsys, "up", "--suite", "bookworm,jessie")
    assert "2 vbuskit: a lab of 17 hosts\nhint: from 1 to 16" in said(capsys, "up", "--hosts", "17")
    assert "2 vbuskit: '../x': a lab's name is" in said(capsys, "up", "--name", "../x")
    assert "3 vbuskit: storage nfs: is not there yet" in said(capsys, "up", "--storage", "nfs")


@pytest.mark.parametrize(
    "words",
    [["status"], ["status", "--json"], ["down"], ["heal"], ["shell", "lab1"], ["partition", "1", "2"]],
)
def test_without_a_lab_the_other_verbs_say_so(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(capsys, *words, "--out", str(tmp_path))
    assert told == "3 vbuskit: lab lab: does not stand\nhint: ./vbuskit lab up starts one\n"


def test_without_root_no_lab_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "3 vbuskit: a lab needs root" in said(capsys, "up", "--out", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def reaches(lab: Standing, one: int, other: int) -> bool:
    there = lab.hosts[other].address
    words = ["timeout", "3", "bash", "-c", f"</dev/tcp/{there}/22"]
    return Runner().attempt(lab.command(lab.hosts[one], words)).code == 0


@pytest.mark.guest
def test_hosts_reach_each_other_by_ssh_and_are_reached_from_outside(out: Path) -> None:
    with standing(out, "--hosts", "3") as it:
        words = ["virsh", "-c", it.hosts[1].uri, "hostname"]
        assert it.run(it.hosts[0], words).strip() == "lab2"
        state = json.loads(lab(out, "status", "--json").out)
        for host in state["hosts"]:
            with Connection(host["outside"]) as libvirt, Host(Path(host["vbusd"])) as vbusd:
                assert libvirt.running() == [] and vbusd.buses() == []
        assert {host["vbusd"] for host in state["hosts"]} == {str(it.outside(h.vbusd)) for h in it.hosts}
        (out / "lab/lab/shared/seen").write_text("by all")
        assert {it.run(host, ["cat", SHARED / "seen"]) for host in it.hosts} == {"by all"}
        assert lab(out, "shell", "lab3", "--", "sh", "-c", "exit 7").code == 7
        again = lab(out, "up", "--detach")
        assert (again.code, again.err.splitlines()[0]) == (
            Exit.BLOCKED,
            f"vbuskit: lab lab: stands already, held by process {it.pid}",
        )
        unknown = lab(out, "shell", "lab4", "--", "true")
        assert (unknown.code, unknown.err) == (
            Exit.USAGE,
            "vbuskit: lab4: is no host of lab lab\nhint: there are: lab1, lab2, lab3\n",
        )


@pytest.mark.guest
def test_a_partition_is_between_two_hosts_only_and_is_healed(out: Path) -> None:
    with standing(out, "--hosts", "3") as it:
        pairs = [(one, other) for one in range(3) for other in range(3) if one != other]
        assert [pair for pair in pairs if not reaches(it, *pair)] == []
        assert lab(out, "partition", "lab1", "3").out == "lab1 and lab3: parted\n"
        assert [pair for pair in pairs if not reaches(it, *pair)] == [(0, 2), (2, 0)]
        assert json.loads(lab(out, "status", "--json").out)["partitions"] == [["lab1", "lab3"]]
        assert lab(out, "heal").out == "lab1 and lab3: joined\n"
        assert [pair for pair in pairs if not reaches(it, *pair)] == []


ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 7)) as listening:
    print("listens", flush=True)
    peer, _ = listening.accept()
    while said := peer.recv(99):
        peer.sendall(said)
"""
SPEAK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7)) as peer:
    peer.settimeout(float(sys.argv[2]))
    for line in sys.stdin:
        peer.sendall(line.encode())
        try:
            print(peer.recv(99).decode().strip(), flush=True)
        except TimeoutError:
            print("nothing", flush=True)
"""


@pytest.mark.guest
def test_a_partition_holds_up_what_is_connected_and_heals_it(out: Path) -> None:
    with standing(out, "--hosts", "2") as it:
        here, there = it.hosts
        run, python = Runner(), sys.executable
        echo = it.command(there, [python, "-c", ECHO, there.address])
        speak = it.command(here, [python, "-c", SPEAK, there.address, "3"])
        with run.converse(echo, errors=out / "errors") as server:
            assert server.heard(60) == "listens"
            with run.converse(speak, errors=out / "errors") as client:
                client.say("one\n")
                assert client.heard(60) == "one"
                it.partition(here, there)
                client.say("two\n")
                assert client.heard(60) == "nothing"
                it.heal(here, there)
                assert until(lambda: said_again(client), 60)  # as soon as TCP sends it once more


def said_again(client: Dialogue) -> bool:
    client.say("three\n")
    return "three" in (client.heard(60) or "")


@pytest.mark.guest
def test_one_in_the_foreground_ends_with_ctrl_c(out: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "vbuskit.ci.cli", "lab", "up", "--out", out]
    with Runner().start([*command, "--name", "here"], output=out / "said") as process:
        assert until(lambda: is_whole(out / "lab/here"), 300)
        inode = str(Path(f"/proc/{Standing(Runner(), out / 'lab/here').pid}/ns/pid").readlink())
        process.kill(signal.SIGINT)
        assert process.wait(60) == Exit.OK
    assert of_namespace("pid", inode) == []
    assert (out / "said").read_text().splitlines()[-1] == "lab here: gone"


def of_namespace(kind: str, inode: str) -> list[str]:
    """Processes of this machine that are in that namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "ns" / kind).readlink()) == inode:
                found.append(process.name)
        except OSError:
            continue
    return found


def machine() -> dict[str, Sequence[str]]:
    """What a lab could leave behind."""
    return {
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "shm": sorted(path.name for path in Path("/dev/shm").iterdir()),
    }


@pytest.mark.guest
@pytest.mark.parametrize("victim", ["holder", "reaper", "command"])
def test_nothing_outlives_a_lab_whose_holder_is_killed(out: Path, victim: str) -> None:
    before = machine()
    with standing(out, "--hosts", "2") as it:
        it.run(it.hosts[0], ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & touch /dev/shm/left"])
        inode = str(Path(f"/proc/{it.pid}/ns/pid").readlink())
        assert len(of_namespace("pid", inode)) > 8
        pids = {"holder": it.pid, "reaper": parent_of(it.pid)}
        pids["command"] = parent_of(pids["reaper"])
        os.kill(pids[victim], signal.SIGKILL)
        assert until(lambda: not of_namespace("pid", inode), 30)
        assert until(lambda: lab(out, "status").code == Exit.BLOCKED, 10)
    assert machine() == before


# ---- A guest between hosts ----


def tiny(out: Path, folder: Path) -> tuple[Path, Path]:
    """A kernel of Debian 12, and an initrd that is a whole guest: our bridge, one program that counts."""
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


def virsh(it: Standing, host: int, *words: str) -> str:
    return it.run(it.hosts[host], ["virsh", "-q", *words], seconds=120).strip()


def moved(it: Standing, start: int, end: int) -> None:
    """Live, from host to host by their own ssh; it arrives paused and goes on when it is told to."""
    words = ["migrate", "g1", it.hosts[end].uri, "--live", "--p2p", "--suspend"]
    virsh(it, start, *words)
    assert virsh(it, end, "domstate", "--reason", "g1") == "paused (user)"
    assert virsh(it, start, "list", "--name") == ""
    virsh(it, end, "resume", "g1")


@pytest.mark.full
@pytest.mark.parametrize("bus", [False, True], ids=["alone", "bus"])
@pytest.mark.parametrize(
    ("other", "machine"),
    [("trixie", "q35"), ("sid", "q35"), ("bullseye", "pc-q35-5.2"), ("trixie,sid", "q35")],
)
def test_a_guest_goes_live_over_hosts_of_other_suites_and_comes_back(
    out: Path, other: str, machine: str, bus: bool
) -> None:
    with standing(out, "--suite", f"bookworm,{other}") as it:
        shared = out / "lab/lab/shared"
        (shared / "console").unlink(missing_ok=True)
        kernel, initrd = tiny(out, shared)
        hardware = Hardware(
            name="g1",
            disk=None,
            kernel=SHARED / kernel.name,
            initrd=SHARED / initrd.name,
            serial=SHARED / "console",
            memory=128,
            type=machine,
            bus=Path("/run/vbus/g1.sock") if bus else None,
        )
        if bus:
            for host in it.hosts:
                with Host(it.outside(host.vbusd)) as vbusd:
                    vbusd.add_bus("g1", Path("/run/vbus/g1.sock"))
        ET.ElementTree(domain_xml(hardware)).write(shared / "g1.xml")
        virsh(it, 0, "create", str(SHARED / "g1.xml"))
        goes_round(it, shared / "console", bus=bus)


def goes_round(it: Standing, console: Path, *, bus: bool) -> None:
    assert goes_on(console)
    assert not bus or confirmed(it, 0)
    order = [*range(len(it.hosts)), 0]
    for start, end in pairwise(order):
        moved(it, start, end)
        assert goes_on(console)
        assert not bus or confirmed(it, end)
    seen = ticks(console)
    assert seen == [*range(1, seen[-1] + 1)]  # none lost, none twice


def confirmed(it: Standing, host: int) -> bool:
    """Whether the guest comes to agree with that host on the epoch, and no other host has it."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Host(it.outside(seat.vbusd))) for seat in it.hosts]

        def look() -> bool:
            buses = [client.bus("g1") for client in clients]
            return [n for n, bus in enumerate(buses) if bus.connected] == [host] and buses[host].confirmed

        return bool(until(look, 60, pause=0.1))
