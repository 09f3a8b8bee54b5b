# SPDX-License-Identifier: MIT
"""`vbuskit matrix`: the scenarios of a profile on every guest, each with drivers for its own kernel."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit, UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.facts import Guest
from vbuskit.ci.pipeline import Factory, dkms_packages
from vbuskit.ci.report import write_report
from vbuskit.ci.road import Diary, Road, alone, fresh_folders, programs_of, say, told
from vbuskit.ci.verdict import judge
from vbuskit.compat.bench import Delivery
from vbuskit.compat.cells import Cell, Outcome
from vbuskit.compat.guests import GuestKind, choose_guests, images_of
from vbuskit.compat.host import Host, PrivateHost
from vbuskit.compat.scenario import Scenario, choose
from vbuskit.drivers.kernel import DEFECTS, UNSEEN
from vbuskit.drivers.kerneldebs import header_debs, kernel_debs
from vbuskit.drivers.kernels import Kernel
from vbuskit.drivers.matrix import image_for, modules_for, site_for
from vbuskit.kmp import dkms
from vbuskit.kmp.deb import COMMON
from vbuskit.kmp.keyring import chosen_key

# What is tried on each guest; whatever these need comes with them. None: all there is, but soaks.
PROFILES: dict[str, Sequence[str] | None] = {
    "smoke": ("transfer", "kill"),
    "kernels": None,
    "soak": ("fio",),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=("list", "run"), help="what there is, or try it")
    parser.add_argument("--profile", choices=[*PROFILES], default="smoke", help="which scenarios")
    parser.add_argument("--guest", metavar="NAME", nargs="+", help="these guests; all without")
    parser.add_argument("--image", action="append", metavar="NAME=PATH", help="the disk of a Windows guest")
    parser.add_argument("--only", metavar="SCENARIO", nargs="+", help="these instead of the profile's")
    parser.add_argument(
        "--defect",
        choices=(*DEFECTS, *UNSEEN),
        default="none",
        help="plant a defect in the modules: the run must turn red",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    names = options.only or PROFILES[options.profile]
    chosen = choose(names, long=True)
    kinds = fitting(choose_guests(places.tree, options.guest, images_of(options.image)), chosen, names)
    if options.verb == "list":
        return listed(kinds, chosen)
    sandbox.enter()
    with alone(places), fresh_folders(places, keep=False):
        run = Runner(log=places.out / "logs" / "commands.log")
        diary = Diary(places)
        programs = programs_of(run, places, diary, "none")
        with PrivateHost(run, "host", places.out / "logs" / "host") as host:
            cells = [
                cell
                for kind in kinds
                for cell in tried(run, places, kind, diary, host, programs, chosen, options.defect)
            ]
        write_report(places, diary.facts(run), cells)
    verdict = judge(cells, diary.informing)
    say(f"{verdict.line} The report is {places.out / 'report.html'}")
    return verdict.exit_code


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


def tried(
    run: Runner,
    places: Places,
    kind: GuestKind,
    diary: Diary,
    host: Host,
    programs: dict[str, Artifact],
    chosen: Sequence[type[Scenario]],
    defect: str,
) -> Iterator[Cell]:
    """A guest that cannot be prepared has one red cell that says why, and the next one is tried."""
    title = "drivers for its kernel, packages, an image and a bus"
    if kind.excluded:
        diary.guests.append(Guest(name=kind.name, informing=kind.informing))
        yield told(Cell("prepare", title, kind.name, reason=kind.excluded))
        return
    own = replace(places, out=places.work("guests", kind.name))
    try:
        with diary.step(f"{kind.name}: build root"):
            release = site_for(run, places, kind.kernel).release
        road = Road(
            run=run,
            places=own,
            kind=kind,
            release=release,
            build=lambda run, places, release: modules_for(run, places, kind.kernel, defect=defect),
            diary=diary,
            kernel=image_for(run, places, kind.kernel),
            first=partial(delivery, run, own, kind.family, kind.kernel, defect),
            update=partial(delivery, run, own, kind.family, kind.update, defect) if kind.update else None,
        )
        with fresh_folders(own, keep=False):
            yield from road.travel(host, programs, chosen)
    except UsageError:
        raise
    except VbuskitError as error:
        if kind.name not in {guest.name for guest in diary.guests}:
            diary.guests.append(Guest(name=kind.name, informing=kind.informing))
        reason = f"{error} ({error.hint})" if error.hint else str(error)
        yield told(Cell("prepare", title, kind.name, Outcome.RED, reason=reason))


def delivery(run: Runner, places: Places, family: str, kernel: Kernel, defect: str) -> Delivery:
    """The kernel from Debian, and our packages for it as a user gets them."""
    site = site_for(run, places, kernel)
    factory = Factory(
        run=run,
        places=places,
        key=chosen_key(places),
        kernel=site.release,
        build=lambda run, places, release: modules_for(run, places, kernel, defect=defect),
    )
    return Delivery(
        release=site.release,
        kernel=kernel_debs(run, places, kernel, site.release),
        headers=header_debs(run, places, kernel, site.release) if family == "dkms" else {},
        symbols=Artifact.of(site.symbols),
        packages=PACKAGES[family](factory),
    )


def sources(factory: Factory) -> dict[str, Artifact]:
    """The sources, for all kernels; vbus-common is made beside the modules of this one."""
    made = dkms_packages(factory.run, factory.places)
    return {COMMON: factory.packages()[COMMON], dkms.NAME: made["deb"]}


# What a user of a family gets.
PACKAGES: dict[str, Callable[[Factory], dict[str, Artifact]]] = {
    "deb": Factory.packages,
    "rpm": Factory.rpms,
    "dkms": sources,
}
