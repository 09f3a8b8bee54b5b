# SPDX-License-Identifier: MIT
"""`vbuskit gate plan GUEST A B C`: a guest on A that goes to B and on to C."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vbuskit.base.errors import Exit, UsageError, printable
from vbuskit.ci.gates.check import EXITS, as_json
from vbuskit.ci.gates.profiles import hosts_of
from vbuskit.migration.judgement import worst
from vbuskit.migration.plan import Plan, Route, plan
from vbuskit.migration.reading import guest_profile


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", type=Path, metavar="GUEST", help="its profile")
    parser.add_argument("hosts", nargs="+", type=Path, metavar="HOST", help="where it is, and where it goes")
    parser.add_argument(
        "--through", nargs="+", type=Path, default=[], metavar="HOST", help="others that a way may lead over"
    )
    parser.add_argument("--json", action="store_true", help="hops, traps and routes as one object")


def main(options: argparse.Namespace) -> Exit:
    guest = guest_profile(options.guest)
    hosts = hosts_of([*options.hosts, *options.through])
    others = len(hosts_of(options.through)) if options.through else 0
    chain = hosts[: len(hosts) - others]
    if len(chain) < 2:
        raise UsageError("plan: one host is no way", hint="name where the guest is, then where it goes")
    found = plan(guest, chain, hosts[len(chain) :])
    names = [each.name for each in chain]
    print(json.dumps(whole(found), indent=1) if options.json else "\n".join(lines(names, found)))
    return EXITS[worst(each.verdict for each in found.hops)]


def lines(names: list[str], found: Plan) -> Iterator[str]:
    for start, hop in zip(names, found.hops, strict=False):
        yield printable(f"{hop.verdict}: {start} to {hop.host}")
        yield from (f"  {printable(str(each))}" for each in hop.findings)
    for trap in found.traps:
        yield printable(f"after a restart at {trap.at}, {trap.judgement.verdict}: to {trap.judgement.host}")
        yield from (f"  {printable(str(each))}" for each in trap.judgement.findings)
    if found.traps:
        yield "`vbuskit gate baseline` has the masks under which a restart closes nothing"
    for route in found.routes:
        yield printable(told(route))
    for start, end in found.stuck:
        yield printable(f"no way from {start} to {end} over these hosts")


def told(route: Route) -> str:
    drop = f"mask {', '.join(route.dropped)} at {route.via}, have the guest re-open its devices"
    move = "" if route.via == route.start else f"move to {route.via}, "
    return f"{route.verdict} from {route.start} to {route.end}: {move}{drop}, then move to {route.end}"


def whole(found: Plan) -> dict[str, Any]:
    return {
        "hops": [as_json(each) for each in found.hops],
        "traps": [{"at": each.at, **as_json(each.judgement)} for each in found.traps],
        "routes": [asdict(each) for each in found.routes],
        "stuck": [list(each) for each in found.stuck],
    }
