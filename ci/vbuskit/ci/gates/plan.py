# SPDX-License-Identifier: MIT
"""`vbuskit gate plan GUEST A B C`: a guest on A that goes to B and on to C."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vbuskit.base.errors import Exit, UsageError, printable
from vbuskit.ci.gates.check import EXITS, as_json
from vbuskit.ci.gates.profiles import hosts_of
from vbuskit.migration.baseline import masks_group
from vbuskit.migration.judgement import worst
from vbuskit.migration.plan import Plan, Route, plan
from vbuskit.migration.profile import HostProfile
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
    chain = hosts_of(options.hosts)
    if len(chain) < 2:
        raise UsageError("plan: one host is no way", hint="name where the guest is, then where it goes")
    if guest.host not in (None, chain[0].identity):
        raise UsageError(
            printable(f"plan: {guest.name} does not run on {chain[0].name}"),
            hint="name first the host that it runs on; after a move capture the guest again",
        )
    there = {each.identity for each in chain}
    others = [each for each in hosts_of(options.through) if each.identity not in there]
    found = plan(guest, chain, others)
    if options.json:
        print(json.dumps(whole(found), indent=1))
    else:
        print(
            "\n".join([*lines([each.name for each in chain], found), *why_stuck(found, [*chain, *others])])
        )
    return EXITS[worst(each.verdict for each in found.hops)]


def lines(names: list[str], found: Plan) -> Iterator[str]:
    for start, hop in zip(names, found.hops, strict=False):
        yield printable(f"{hop.verdict}: {start} to {hop.host}")
        yield from (f"  {printable(str(each))}" for each in hop.findings)
    for trap in found.traps:
        yield printable(
            f"trap, {trap.judgement.verdict}: a restart of {trap.judgement.guest} on {trap.at}, or of a "
            f"driver in it, makes it need what {trap.judgement.host} does not offer"
        )
        yield from (f"  {printable(str(each))}" for each in trap.judgement.findings)
    rules = {each.rule for trap in found.traps for each in trap.judgement.findings}
    if any(each.startswith("feature-") for each in rules):
        yield "`vbuskit gate baseline` has masks under which a restart takes no bit that a host lacks"
    if "limit-low" in rules:
        yield "no mask of `vbuskit gate baseline` bounds rings: the remedies above do"
    for route in found.routes:
        yield printable(told(route))
        yield from (f"  on {printable(route.via)}: {printable(each)}" for each in route.commands)
    for start, end in found.stuck:
        yield printable(f"no way from {start} to {end} over these hosts")


def why_stuck(found: Plan, hosts: Sequence[HostProfile]) -> Iterator[str]:
    """The remedies of a hop speak of a mask at the source, which not every release heeds."""
    old = [each.name for each in hosts if not masks_group(each, 0)]
    if found.stuck and old:
        yield printable(
            f"no mask of group 0 is heeded on {', '.join(old)}: --through a later vbuskit, or update"
        )


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
