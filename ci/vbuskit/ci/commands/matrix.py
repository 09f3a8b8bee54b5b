# SPDX-License-Identifier: MIT
"""`vbuskit matrix`: the scenarios of a profile on every guest, each with drivers for its own kernel."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.ci.matrix import expected_in, lacking, played
from vbuskit.ci.road import DEFECTS
from vbuskit.compat.guests import GuestKind, choose_guests, images_of
from vbuskit.compat.lease import hosts_checked
from vbuskit.compat.plantable import table
from vbuskit.compat.plugin import AXES, auto_workers, axes_of, planned_for, shard
from vbuskit.compat.scenario import Scenario, choose
from vbuskit.drivers.kernel import UNSEEN

BUILDS = 512  # MiB that a guest's packages, QEMU and vbusd take beside its own memory

# What is tried on each guest; whatever these need comes with them. None: all there is, but soaks.
PROFILES: dict[str, Sequence[str] | None] = {
    "smoke": ("transfer", "kill", "hotadd"),
    "kernels": None,
    "soak": ("fio",),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "verb", choices=("list", "plan", "run"), help="what there is, what would be tried and why, or try it"
    )
    parser.add_argument("--profile", choices=[*PROFILES], default="smoke", help="which scenarios")
    parser.add_argument("--guest", metavar="NAME", nargs="+", help="these guests; all without")
    parser.add_argument("--image", action="append", metavar="NAME=PATH", help="the disk of a Windows guest")
    parser.add_argument("--only", metavar="SCENARIO", nargs="+", help="these instead of the profile's")
    for axis, what in AXES.items():
        parser.add_argument(f"--{axis}", metavar="VALUE", nargs="+", help=what)
    parser.add_argument(
        "--golden",
        metavar="RELEASE=FOLDER",
        action="append",
        help="what a release has shipped, instead of making it from its tag",
    )
    parser.add_argument("--shard", type=shard, metavar="I/N", help="the I-th of N parts")
    parser.add_argument("--pairwise", action="store_true", help="each pair of values of axes at least once")
    parser.add_argument(
        "--retries", type=count, default=0, metavar="N", help="of cells that the machine spoilt"
    )
    parser.add_argument("--hosts", metavar="URI", nargs="+", help="a pool of them, such as qemu+ssh://...")
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="guests at a time; what fits here without"
    )
    parser.add_argument(
        "--defect",
        choices=(*DEFECTS, *UNSEEN),
        default="none",
        help="plant a defect: the run must turn red",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    hosts_checked(options.hosts or ())
    names = options.only or PROFILES[options.profile]
    chosen = choose(names, long=True)
    images = images_of(options.image)
    kinds = fitting(choose_guests(places.tree, options.guest, images), chosen, names)
    if options.verb == "list":
        return listed(kinds, chosen)
    axes = axes_of(options)
    points = len(axes.drivers) * len(axes.host) * len(axes.machine)
    workers = workers_for(kinds, options.workers, points)
    if options.hosts:
        workers = min(options.workers or len(options.hosts), len(options.hosts), len(kinds) * points)
    if options.verb == "plan":
        planned = planned_for(
            places.tree,
            guests=options.guest,
            scenarios=names,
            long=True,
            shard=options.shard,
            pairwise=options.pairwise,
            axes=axes,
            unavailable=lacking(places, options),
            expected=expected_in(places),
            images=images,
            far=bool(options.hosts),
        )
        sys.stdout.write(table(planned, workers))
        return Exit.OK
    words = [f"--guest={kind.name}" for kind in kinds] + [f"--scenario={name}" for name in names or ()]
    words += [] if names else ["--long"]
    for name in (*AXES, "golden", "image"):
        words += [f"--{name}={each}" for each in getattr(options, name) or ()]
    words += [f"--shard={options.shard[0]}/{options.shard[1]}"] if options.shard else []
    words += ["--pairwise"] if options.pairwise else []
    words += [f"--retries={options.retries}", *(f"--hosts={uri}" for uri in options.hosts or ())]
    return played(places, words, workers=workers, defect=options.defect)


def count(text: str) -> int:
    """For argparse."""
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def positive(text: str) -> int:
    """For argparse."""
    if not count(text):
        raise ValueError(text)
    return int(text)


def workers_for(kinds: Sequence[GuestKind], asked: int | None, points: int = 1) -> int:
    """How many guests are tried at a time: what was asked for, or what this machine carries.

    points: combinations of the other axes, at each of which every guest is tried
    """
    if asked:
        return min(asked, len(kinds) * points)
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    each = (max(kind.memory for kind in kinds) + BUILDS) << 20
    groups = [f"{kind.name} {point}" for kind in kinds for point in range(points)]
    return auto_workers(groups, os.cpu_count() or 1, pages * size, each)


def fitting(
    kinds: Sequence[GuestKind], chosen: Sequence[type[Scenario]], names: Sequence[str] | None
) -> list[GuestKind]:
    """The guests that something which was asked for is for. Raises UsageError when there is none."""
    families = {name for kind in chosen if not names or kind.name in names for name in kind.families}
    found = [kind for kind in kinds if kind.family in families]
    if not found:
        raise UsageError(
            f"{', '.join(kind.name for kind in kinds)}: no guest that these scenarios are for",
            hint=f"they are for guests whose family is {' or '.join(sorted(families))}",
        )
    return found


def listed(kinds: Sequence[GuestKind], chosen: Sequence[type[Scenario]]) -> Exit:
    for kind in kinds:
        what = kind.linux.name if kind.linux else kind.system
        print(f"{kind.name:20} {what:28} {kind.family:4} {kind.level:12}  {kind.excluded}".rstrip())
    for family in dict.fromkeys(kind.family for kind in kinds):
        own = ", ".join(scenario.name for scenario in chosen if family in scenario.families)
        print(f"each guest of {family} packages with: {own}")
    print(f"of these boot a guest: {', '.join(scenario.name for scenario in chosen if scenario.cold)}")
    return Exit.OK
