# SPDX-License-Identifier: MIT
"""`vbuskit report`: report.html, junit.xml and summary.md again, from out/results.json and the logs.

`vbuskit report GUEST`: a support bundle of one guest (ci/support.py).
"""

from __future__ import annotations

import argparse
import re
from contextlib import ExitStack
from pathlib import Path

from vbuskit.base.errors import Blocked, Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.virt import Connection
from vbuskit.ci import results, support
from vbuskit.ci.compare import compare, of_folder
from vbuskit.ci.report import earlier, write_views
from vbuskit.ci.verdict import judge
from vbuskit.drivers.host import DEFAULT_SOCKET

SYSTEM = "qemu:///system"
SOCKETS = (DEFAULT_SOCKET, Path("/run/vbus/vbusd.sock"))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, help="the folder with results.json (default: out/ of the checkout)"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="FOLDER", help="put it beside the results in this folder first"
    )

    parser.add_argument(
        "guest",
        nargs="?",
        metavar="GUEST",
        help="write a support bundle of this guest: a domain, or a run's",
    )
    parser.add_argument(
        "--connect", metavar="URI", help=f"with GUEST: the libvirt that has it (default: {SYSTEM}, if there)"
    )
    parser.add_argument(
        "--socket", type=Path, metavar="SOCKET", help="with GUEST: of the vbusd that serves it"
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="with GUEST: default GUEST-support.tar.gz"
    )
    parser.add_argument(
        "--names", action="store_true", help="with GUEST: leave names of machines, addresses and ids in it"
    )


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    if options.guest:
        if options.compare:
            raise UsageError("--compare: goes without the name of a guest")
        return supported(places, options)
    for word in ("connect", "socket", "bundle", "names"):
        if getattr(options, word):
            raise UsageError(f"--{word}: goes with the name of a guest")
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


def supported(places: Places, options: argparse.Namespace) -> Exit:
    if not re.fullmatch(r"[\w.+-]{1,64}", options.guest):
        raise UsageError(f"{options.guest}: no name of a guest")
    sockets = (options.socket,) if options.socket else tuple(path for path in SOCKETS if path.exists())
    target = options.bundle or Path(f"{options.guest}-support.tar.gz")
    with ExitStack() as undo:
        connection = connected(undo, options.connect)
        what = support.found(places, options.guest, connection, sockets)
        made = support.bundle(Runner(), places, what, target, names=options.names)
    print(f"{made.path}: {made.size} bytes, SHA-256 {made.sha256}")
    print("names and addresses are in it" if options.names else "names and addresses are replaced in it")
    return Exit.OK


def connected(undo: ExitStack, uri: str | None) -> Connection | None:
    """The libvirt that was named; the machine's own only when it answers."""
    try:
        return undo.enter_context(Connection(uri or SYSTEM))
    except Blocked:
        if uri:
            raise
        return None
