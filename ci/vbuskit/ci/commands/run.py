# SPDX-License-Identifier: MIT
"""`vbuskit run`: from sources to cells, on one real guest, with nothing left running."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.report import write_report
from vbuskit.ci.road import DEFECTS, Diary, Road, alone, fresh_folders, planted, programs_of, say
from vbuskit.ci.verdict import judge
from vbuskit.compat.guests import DEFAULT, guest_kinds
from vbuskit.compat.host import ForeignHost, Host, PrivateHost
from vbuskit.compat.scenario import choose
from vbuskit.drivers.kernel import DEFECTS as MODULE_DEFECTS
from vbuskit.drivers.kernel import modules, newest_release


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect", metavar="URI", help="a libvirt of this machine instead of a private one"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the guest's disk in out/work for a look afterwards"
    )
    parser.add_argument(
        "--defect",
        choices=DEFECTS,
        default="none",
        help="plant a defect: the run must turn red",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these scenarios, and what they need")


def main(options: argparse.Namespace) -> Exit:
    chosen = choose(options.only)
    places = Places.from_environment(options.out)
    kind = guest_kinds(places.tree)[DEFAULT]
    release = newest_release(kind.kernel.flavour)
    sandbox.enter()
    with alone(places), fresh_folders(places, options.keep):
        run = Runner(log=places.out / "logs" / "commands.log")
        diary = Diary(places)
        build = partial(modules, defect=planted(options.defect, MODULE_DEFECTS))
        road = Road(
            run=run,
            places=places,
            kind=kind,
            release=release,
            build=build,
            diary=diary,
            defect=options.defect,
        )
        programs = programs_of(run, places, diary, options.defect)
        with a_host(run, places, options.connect) as host:
            cells = list(road.travel(host, programs, chosen))
        write_report(places, diary.facts(run), cells)
    say(f"the report is {places.out / 'report.html'}")
    return judge(cells).exit_code


def a_host(run: Runner, places: Places, uri: str | None) -> Host:
    logs = places.out / "logs" / "host"
    return PrivateHost(run, "host", logs) if uri is None else ForeignHost(uri, logs)
