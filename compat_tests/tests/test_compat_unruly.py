# SPDX-License-Identifier: MIT
"""Guests that hang, flood their console, restart for ever; a QEMU and a libvirtd that are killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

SECONDS = 25  # that a boot is waited for here; these guests need two

BODY = """
import json, os, signal, sys, threading, time
from pathlib import Path
from types import SimpleNamespace
from vbuskit.base import sandbox
from vbuskit.base.places import Places
from vbuskit.base.run import Arg, Runner
from vbuskit.base.wait import until
from vbuskit.compat import console
from vbuskit.compat.bus import Bus
from vbuskit.compat.cells import Cell, judged
from vbuskit.compat.domain import Hardware
from vbuskit.compat.evidence import examined
from vbuskit.compat.guest import Guest
from vbuskit.compat.guests import DEFAULT, guest_kinds
from vbuskit.compat.host import PrivateHost
from vbuskit.compat.images import image_for
from vbuskit.compat.recipe import Recipe
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.kernel import newest_release

out, most, seconds, cases = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
sandbox.enter()
console.MOST = most
places, run = Places.from_environment(out), Runner(log=out / "commands.log")
kind = guest_kinds(places.tree)[DEFAULT]
recipe = Recipe(newest_release(kind.kernel.flavour), kind.suite, None, kind.packages(""), None)
kernel = image_for(run, places, recipe).kernel.path
programs = {name: made.path for name, made in host_programs(run, places).items()}


def initrd(mode):
    top = places.work("work", mode)
    flags = ["-static", "-Wall", "-Wextra", "-Werror", f"-DMODE={mode}"]
    run(["gcc", *flags, "-o", top / "init", places.tree / "compat_tests/guest/unruly.c"])
    pack = "mkdir -p dev; mknod dev/console c 5 1; find . | cpio -o -H newc >../$0.cpio; rm -r dev"
    run(["sh", "-c", pack, mode], cwd=top)
    return top.parent / f"{mode}.cpio"


def tried(case):
    mode, _, then = case.partition("+")
    cell = Cell("boot", "x", "unruly")
    with PrivateHost(run, case.lower().replace("+", "-"), places.work("logs", case)) as host:
        bus = Bus(run=run, host=host, name="unruly", programs=programs, logs=host.logs, cards=())
        hardware = Hardware(
            name="unruly", disk=None, kernel=kernel, initrd=initrd(mode), serial=places.out / f"{case}.log",
            bus=bus.socket, memory=128,
        )
        with bus, Guest(host.connection, hardware) as guest:
            victims = {
                "kill": lambda: os.kill(guest.qemu, signal.SIGKILL),
                "crash": lambda: os.kill(guest.qemu, signal.SIGSEGV),
                "term": lambda: os.kill(guest.qemu, signal.SIGTERM),
                "libvirtd": lambda: host._daemon.kill(),
                "vbusd": lambda: bus._daemon.kill(signal.SIGABRT),
                "vbusd-killed": lambda: bus._daemon.kill(),
            }

            def strike():
                until(lambda: "unruly" in serial() , 60)
                victims[then]()

            def serial():
                return hardware.serial.read_text(errors="replace") if hardware.serial.exists() else ""

            bench = SimpleNamespace(guest=guest, host=host, bus=bus, places=places)
            hand = threading.Thread(target=strike if then else lambda: None)
            hand.start()
            with judged(cell), examined(cell, lambda: bench, installed=False):
                guest.boot(seconds * (4 if mode in ("RESTART", "FLOOD") else 1))
            hand.join()
            cell.comparisons.clear()
    return {
        "blame": cell.blame, "reason": cell.reason, "evidence": cell.evidence, "seconds": cell.seconds,
        "logs": sorted(log.name for log in cell.logs), "console": hardware.serial.stat().st_size,
    }


def others():
    # Whatever runs in here besides the sandbox's two.
    found = [pid for pid in Path("/proc").glob("[0-9]*") if int(pid.name) > 2]
    return sorted(f"{pid.name} {(pid / 'comm').read_text().strip()}" for pid in found if pid.exists())


print(json.dumps({case: tried(case) for case in cases}))
print(json.dumps(until(lambda: not others(), 10) or others()))
"""

WORDS = {
    "HANG": ("product", "its agent did not answer within 25 s"),
    "SPIN": ("product", "its agent did not answer within 25 s"),
    "FLOOD": ("guest image", "floods its serial port"),
    "RESTART": ("guest image", "has started 6 times, its agent has not answered"),
    "SHELL": ("guest image", "its agent did not answer within 25 s"),
    "PANIC": ("guest image", "its agent did not answer within 25 s"),
    "OFF": ("product", "switched itself off before its agent answered"),
    "HANG+kill": ("infrastructure", "switched itself off"),
    "HANG+term": ("infrastructure", "switched itself off"),
    "HANG+crash": ("product", "switched itself off"),
    "HANG+libvirtd": ("infrastructure", ""),
    "HANG+vbusd": ("product", "its agent did not answer within 25 s"),
    "HANG+vbusd-killed": ("infrastructure", "its agent did not answer within 25 s"),
}
MOST = 1 << 20


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("unruly")
    words: list[str | Path] = [sys.executable, "-c", BODY, out, str(MOST), str(SECONDS), *WORDS]
    told, left = Runner()(words, seconds=900).splitlines()[-2:]
    return {**json.loads(told), "left": json.loads(left)}


@pytest.mark.guest
@pytest.mark.parametrize("case", WORDS)
def test_each_ends_within_its_time_with_the_right_words_and_class(case: str, seen: dict[str, Any]) -> None:
    blame, words = WORDS[case]
    cell = seen[case]
    assert (cell["blame"], cell["evidence"]) == (blame, cell["evidence"])
    assert words in cell["reason"]
    assert cell["seconds"] < 4 * SECONDS
    assert {"host.txt", "serial.log", "vbusd.log", "qemu.log"} <= set(cell["logs"])
    assert cell["console"] < 2 * MOST


@pytest.mark.guest
def test_nothing_of_them_is_left_behind(seen: dict[str, Any]) -> None:
    assert seen["left"] is True
    assert not [path for path in Path("/run").glob("vbuskit/*") if "hang" in path.name]


def test_the_modes_of_the_test_are_those_of_the_program() -> None:
    text = (ROOT / "compat_tests/guest/unruly.c").read_text()
    assert all(f"{case.partition('+')[0]}" in text for case in WORDS)
