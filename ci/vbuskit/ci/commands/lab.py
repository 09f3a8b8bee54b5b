# SPDX-License-Identifier: MIT
"""`vbuskit lab`: several hosts on this machine, of several Debian suites, to migrate guests between."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.errors import Blocked, Exit, UsageError
from vbuskit.base.places import Places, make
from vbuskit.base.run import Arg, Runner, environment
from vbuskit.base.wait import until
from vbuskit.compat import standing
from vbuskit.compat.hostroot import SUITES, checked, own_suite, root_for
from vbuskit.compat.lab import MOST, SHARED, Lab, Outfit
from vbuskit.compat.standing import PATIENCE, Seat, Standing
from vbuskit.drivers.build import host_programs, static_programs

ROW = "{:6} {:10} {:12} {:32} {}"
HOURS = 3600.0


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="up|shell|partition|heal|status|down")
    up = verbs.add_parser("up", help="start the hosts, and hold them until Ctrl-C; root")
    up.add_argument("--hosts", type=int, metavar="N", help=f"up to {MOST}; else one a suite, at least two")
    up.add_argument(
        "--suite", metavar="NAME,...", help=f"of {', '.join(SUITES)}, in turn; else this machine's own"
    )
    up.add_argument("--storage", choices=("bind", "nfs"), default="bind", help=f"how they share {SHARED}")
    up.add_argument("--detach", action="store_true", help="return when they are up; `down` ends them")
    shell = verbs.add_parser("shell", help="a shell on a host, or one command")
    shell.add_argument("host", metavar="HOST")
    shell.add_argument("words", nargs="*", metavar="COMMAND", help="behind --; options come before HOST")
    cut = verbs.add_parser("partition", help="lose all that two hosts send each other")
    heal = verbs.add_parser("heal", help="undo that, for two hosts or for all")
    for verb, needs in ((cut, 2), (heal, "*")):
        verb.add_argument("pair", nargs=needs, metavar="HOST")
    status = verbs.add_parser("status", help="the hosts, how to reach them, what runs there")
    status.add_argument("--json", action="store_true")
    verbs.add_parser("down", help="end the lab, with all that runs there")
    for verb in verbs.choices.values():
        verb.add_argument("--name", default="lab", help="of the lab; default: lab")
        verb.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")


def main(options: argparse.Namespace) -> int:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", options.name):
        raise UsageError(f"{options.name!r}: a lab's name is a-z, 0-9 and -, at most 32 of them")
    places = Places.from_environment(options.out)
    folder = places.out / "lab" / options.name
    if options.verb == "up":
        return up(places, folder, options)
    if standing.holder(folder) is not None:
        as_root()
    if options.verb == "down":
        standing.end(folder)
        print(f"lab {options.name}: gone")
        return Exit.OK
    lab = Standing(Runner(), folder)
    if options.verb == "shell":
        return shell(lab, options)
    if options.verb in ("partition", "heal"):
        return change(lab, options)
    show(lab, as_json=options.json)
    return Exit.OK


def up(places: Places, folder: Path, options: argparse.Namespace) -> int:
    suites = suites_of(options)
    if options.storage == "nfs":
        raise Blocked(
            "storage nfs: is not there yet: no machine with an NFS client in its kernel was there to try it",
            hint="--storage bind: one folder, bound into each host",
        )
    if pid := standing.holder(folder):
        raise standing.taken(folder, pid)
    as_root()
    make(folder)
    if options.detach:
        return detached(folder, options)
    run = Runner(log=folder / "commands.log")
    own = own_suite()
    programs = {suite: vbusd(run, places, is_own=suite == own) for suite in dict.fromkeys(suites)}
    sandbox.enter()
    with standing.held(folder):
        outfits = {suite: outfit(run, places, suite, programs[suite]) for suite in programs}
        shared = make(folder / "shared")
        hosts = [outfits[suite] for suite in suites]
        # Once it stands, Ctrl-C and `lab down` are its end, and no failure.
        with Lab(run, hosts, folder / "hosts", shared=shared) as lab, suppress(KeyboardInterrupt):
            show_seats(standing.publish(folder, lab))
            print(f"lab {options.name}: up; Ctrl-C or `vbuskit lab down` ends it", flush=True)
            while True:
                signal.pause()
    print(f"lab {options.name}: gone", flush=True)
    return Exit.OK


def as_root() -> None:
    if os.geteuid() != 0:
        raise Blocked(
            "a lab needs root: its hosts are namespaces, mounts and a libvirtd each",
            hint="run it as root, for example with sudo",
        )


def suites_of(options: argparse.Namespace) -> list[str]:
    """Of each host."""
    own = own_suite()
    named = checked(options.suite.split(",")) if options.suite else [own]
    count = max(2, len(named)) if options.hosts is None else options.hosts
    if not 1 <= count <= MOST:
        raise UsageError(f"a lab of {count} hosts", hint=f"from 1 to {MOST}")
    return list(islice(cycle(named), count))


def vbusd(run: Runner, places: Places, *, is_own: bool) -> Path:
    """Built here: another suite's C library may be older than the one it would be linked with."""
    return (host_programs if is_own else static_programs)(run, places)["vbusd"].path


def outfit(run: Runner, places: Places, suite: str, program: Path) -> Outfit:
    root = None if suite == own_suite() else root_for(run, places, suite).tree
    return Outfit(suite=suite, root=root, vbusd=program)


def detached(folder: Path, options: argparse.Namespace) -> int:
    """The same command once more, as a process of its own; what keeps it from standing is told here."""
    words: list[Arg] = [sys.executable, "-P", "-m", "vbuskit.ci.cli", "lab", "up", "--name", options.name]
    words += ["--out", folder.parents[1], "--storage", options.storage]
    words += ["--hosts", str(options.hosts)] if options.hosts is not None else []
    words += ["--suite", options.suite] if options.suite else []
    log = folder / "up.log"
    log.unlink(missing_ok=True)
    process = Runner().start(words, output=log)
    try:
        until(lambda: process.poll() is not None or standing.is_whole(folder), HOURS, pause=0.05)
    except BaseException:
        process.stop(PATIENCE)
        raise
    if (code := process.poll()) is not None:
        print(log.read_text(errors="replace"), end="", file=sys.stderr)
        return code if code > 0 else Exit.FAILED
    lab = Standing(Runner(), folder)
    show_seats(lab.hosts)
    print(f"lab {lab.name}: up, held by process {lab.pid}; `vbuskit lab down` ends it")
    return Exit.OK


def shell(lab: Standing, options: argparse.Namespace) -> int:
    """Hand the process over to it."""
    words = [str(word) for word in lab.command(lab.host(options.host), options.words or ["bash", "-l"])]
    os.execvpe(words[0], words, environment(None))


def change(lab: Standing, options: argparse.Namespace) -> int:
    """partition or heal."""
    if len(options.pair) not in (0, 2):
        raise UsageError("heal: between two hosts, or of all without any")
    pairs = [(lab.host(options.pair[0]), lab.host(options.pair[1]))] if options.pair else lab.partitions()
    for one, other in pairs:
        (lab.partition if options.verb == "partition" else lab.heal)(one, other)
        print(f"{one.name} and {other.name}: {'parted' if options.verb == 'partition' else 'joined'}")
    return Exit.OK


def show(lab: Standing, *, as_json: bool) -> None:
    said = lab.status()
    if as_json:
        print(json.dumps(said, indent=2))
        return
    show_seats(lab.hosts)
    for host in said["hosts"]:
        guests = host["guests"]
        for name, state in (guests or {}).items():
            print(f"{host['name']}: guest {name}: {state}")
        if guests is None:
            print(f"{host['name']}: its libvirtd does not answer")
    for one, other in said["partitions"]:
        print(f"{one} and {other}: parted")


def show_seats(seats: Sequence[Seat]) -> None:
    print(ROW.format("host", "suite", "address", "versions", "for the other hosts"))
    for seat in seats:
        print(ROW.format(seat.name, seat.suite, seat.address, seat.versions, seat.uri))
