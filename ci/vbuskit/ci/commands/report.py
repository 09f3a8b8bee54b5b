# SPDX-License-Identifier: MIT
"""`vbuskit report`: report.html, junit.xml and summary.md again, from out/results.json and the logs."""

from __future__ import annotations

import argparse
from pathlib import Path

from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.ci import results
from vbuskit.ci.compare import compare, of_folder
from vbuskit.ci.report import earlier, write_views
from vbuskit.ci.verdict import judge


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, help="the folder with results.json (default: out/ of the checkout)"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="FOLDER", help="put it beside the results in this folder first"
    )


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    facts, cells = results.read(places.out)
    past = earlier(places, facts, cells)
    if options.compare:
        past.insert(0, of_folder(options.compare))
    write_views(places.out, facts, cells, past)
    verdict = judge(cells, facts.informing, facts.quarantine)
    print(f"{places.out / 'report.html'}: {verdict.outcome}: {verdict.line}")
    if past:
        against = compare(facts, cells, past[0])
        print(f"against {against.label}: {against.line}")
    return Exit.OK
