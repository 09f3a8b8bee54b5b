# SPDX-License-Identifier: MIT
"""`vbuskit run`: from sources to cells, on one real guest, with nothing left running."""

from __future__ import annotations

import argparse
from pathlib import Path

from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.ci.matrix import played
from vbuskit.ci.road import DEFECTS
from vbuskit.compat.guests import DEFAULT
from vbuskit.compat.scenario import choose


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
    choose(options.only)
    words = [f"--guest={DEFAULT}", "--here"]
    words += [f"--scenario={name}" for name in options.only or ()]
    words += [f"--connect={options.connect}"] if options.connect else []
    words += ["--keep"] if options.keep else []
    return played(Places.from_environment(options.out), words, defect=options.defect)
