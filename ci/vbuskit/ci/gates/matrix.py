# SPDX-License-Identifier: MIT
"""`vbuskit gate matrix HOST...`: a verdict for each guest, or each host, on each host."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from vbuskit.base.errors import Exit, printable
from vbuskit.ci.gates import output
from vbuskit.ci.gates.profiles import guests_of, hosts_of
from vbuskit.migration.fleet import Grid, between, grid
from vbuskit.migration.judgement import Verdict

WORDS = {"Y": Verdict.YES, "?": Verdict.IF, "N": Verdict.NO}
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would work out


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "hosts", nargs="+", type=Path, metavar="HOST", help="profiles, or folders of them (*.json)"
    )
    parser.add_argument(
        "--guests", nargs="+", type=Path, metavar="GUEST",
        help="profiles or folders; without it a guest for each host, which consumes all that it offers",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="text", help="text, if nothing else is said")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to; else it is printed")


def main(options: argparse.Namespace) -> Exit:
    hosts = hosts_of(options.hosts)
    found = grid(guests_of(options.guests), hosts) if options.guests else between(hosts)
    text = FORMATS[options.format](found)
    if options.out:
        output.write(options.out, text)
    else:
        sys.stdout.write(text)
    return Exit.OK


def as_text(found: Grid) -> str:
    """A row a guest; its letters stand in the order of the hosts, and no line is cut short."""
    names = [printable(each.name) for each in found.guests]
    width = min(max(map(len, names), default=0), 40)
    rows = [f"{name:{width}}  {found.letters(number)}" for number, name in enumerate(names)]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in found.counts().items())
    hosts = ", ".join(printable(each.name) for each in found.hosts)
    return "".join(f"{line}\n" for line in (f"to: {hosts}", *rows, counts))


def as_csv(found: Grid) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["guest", *(harmless(each.name) for each in found.hosts)])
    for number, guest in enumerate(found.guests):
        table.writerow([harmless(guest.name), *(WORDS[each].value for each in found.letters(number))])
    return file.getvalue()


def harmless(name: str) -> str:
    shown = printable(name)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


def as_json(found: Grid) -> str:
    """`rows` are strings with a letter a host: Y, ? (yes-if) or N."""
    words = {
        "guests": [each.name for each in found.guests],
        "hosts": [each.name for each in found.hosts],
        "rows": [found.letters(number) for number in range(len(found.guests))],
        "counts": found.counts(),
    }
    return json.dumps(words, indent=1) + "\n"


def as_html(found: Grid) -> str:
    from vbuskit.ci.fleetpage import html

    return html(found)


FORMATS: dict[str, Callable[[Grid], str]] = {
    "text": as_text,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}
