# SPDX-License-Identifier: MIT
"""`vbuskit report`: out/report.html and out/junit.xml again, from out/results.json and the logs."""

from __future__ import annotations

import argparse
from pathlib import Path

from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.ci import results
from vbuskit.ci.report import write_views
from vbuskit.ci.verdict import judge


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, help="the folder with results.json (default: out/ of the checkout)"
    )


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    facts, cells = results.read(places.out)
    write_views(places.out, facts, cells)
    verdict = judge(cells, facts.informing)
    print(f"{places.out / 'report.html'}: {verdict.outcome}: {verdict.line}")
    return Exit.OK
