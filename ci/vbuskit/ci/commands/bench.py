# SPDX-License-Identifier: MIT
"""`vbuskit bench`: how fast are the host's programs, packaging, the bus beside virtio; what is too slow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.packagebench import COUNT, bench_packages
from vbuskit.ci.road import Diary, Road, alone, fresh_folders, programs_of
from vbuskit.compat import guestbench
from vbuskit.compat.bench import Bench
from vbuskit.compat.guestbench_disk import bench_disk, filled
from vbuskit.compat.guestbench_net import bench_net
from vbuskit.compat.guests import DEFAULT, guest_kinds
from vbuskit.compat.host import PrivateHost
from vbuskit.compat.recipe import MEASURING
from vbuskit.compat.strategy import Strategy
from vbuskit.drivers.bench import NAMES, QUICK, WHOLE, bench
from vbuskit.drivers.figures import Bar, Figure, Result
from vbuskit.drivers.kernel import modules, newest_release

IN_GUEST: dict[str, Callable[[Bench, guestbench.Amount], Result]] = {"net": bench_net, "disk": bench_disk}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=["host", "packages", *IN_GUEST],
        help="vbusd and its workers, with the client library; packages for several kernels; "
        "or the bus against virtio, in a guest",
    )
    parser.add_argument("--only", choices=NAMES, help="one section of `host`; all without")
    parser.add_argument(
        "--pairs",
        type=int,
        metavar="N",
        help=f"in a guest: how often each has its turn; {guestbench.WHOLE.pairs} without",
    )
    parser.add_argument("--quick", action="store_true", help="seconds, and figures that say little")
    parser.add_argument("--json", action="store_true", help="every value, for programs")
    parser.add_argument("--out", type=Path, help="where builds and images go; out/ without")


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(out=options.out)
    if options.only and options.what != "host":
        raise UsageError(f"bench {options.what}: has no sections", hint="leave out --only")
    if options.what in IN_GUEST:
        result = in_guest(places, options)
    elif options.what == "packages":
        sandbox.enter()  # chroots are mounted into
        result = bench_packages(Runner(), places, 1 if options.quick else COUNT)
    else:
        result = bench(Runner(), places, QUICK if options.quick else WHOLE, options.only)
    print(as_json(result) if options.json else "\n".join(table(result)))
    broken = [bar for bar in result.bars if not bar.holds]
    for bar in broken:
        print(f"vbuskit: {breach(bar)}", file=sys.stderr)
    return Exit.FAILED if broken else Exit.OK


def in_guest(places: Places, options: argparse.Namespace) -> Result:
    """One boot of the usual guest, which has what is compared with beside its bus."""
    amount = guestbench.QUICK if options.quick else guestbench.WHOLE
    if options.pairs is not None:
        amount = replace(amount, pairs=options.pairs)
    kind = guest_kinds(places.tree)[DEFAULT]
    release = newest_release(kind.kernel.flavour)
    sandbox.enter()
    with alone(places), fresh_folders(places, keep=False):
        run = Runner(log=places.out / "logs" / "commands.log")
        diary = Diary(places)
        image = filled(places.work("work", "disks") / "virtio.img")
        road = Road(
            run=run,
            places=places,
            kind=kind,
            release=release,
            build=modules,
            diary=diary,
            more=MEASURING,
            raw=(image,),
        )
        programs = programs_of(run, places, diary, "none")
        with (
            PrivateHost(run, "host", places.out / "logs" / "host") as host,
            Strategy(road.stand(lambda: host, programs)) as strategy,
        ):
            # The guest runs, with drivers as a user installs them, and both sides agree.
            there = strategy.transition(["negotiate"])
            with diary.step(f"{kind.name}: bench {options.what}"):
                return IN_GUEST[options.what](there, amount)


def as_json(result: Result) -> str:
    """Figures with all values; bars with `holds`; what was skipped."""
    bars = [asdict(bar) | {"holds": bar.holds} for bar in result.bars]
    figures = [asdict(figure) | {"median": figure.median} for figure in result.figures]
    return json.dumps({"figures": figures, "bars": bars, "skipped": dict(result.skipped)}, indent=2)


def table(result: Result) -> Iterator[str]:
    """A line a figure, a bar, and what was skipped."""
    yield f"{'':58} {'median':>12} {'lowest':>12} {'highest':>12}"
    for figure in result.figures:
        yield line(figure)
    for bar in result.bars:
        yield f"{'holds' if bar.holds else 'BROKEN':8} {judged(bar)}"
    for name, why in result.skipped.items():
        yield f"skipped  {name}: {why}"


def line(figure: Figure) -> str:
    name = f"{figure.section:8} {figure.name}"
    spread = "".join(f" {number(value):>12}" for value in (figure.median, figure.low, figure.high))
    p99 = f"  p99 {number(figure.p99)}" if len(figure.values) >= 50 else ""
    return f"{name:58}{spread} {figure.unit}{p99}".rstrip()


def judged(bar: Bar) -> str:
    bound = f"at {'least' if bar.at_least else 'most'} {number(bar.bound)}"
    return f"{bar.section}: {bar.name}: {number(bar.seen)}, {bound} {bar.unit}".rstrip()


def breach(bar: Bar) -> str:
    return f"bench: {judged(bar)}: does not hold"


def number(value: float) -> str:
    """Three digits of a small one; a large one whole."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
