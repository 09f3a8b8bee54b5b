# SPDX-License-Identifier: MIT
"""`vbuskit package`: the signed modules as Debian packages, or as a kernel module package (RPM).

`vbuskit package --format dkms`: their sources, for dkms to build, in both formats.
`vbuskit package host`: the host's programs in either format.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci import hostpackage
from vbuskit.ci.commands import factory
from vbuskit.ci.pipeline import Factory, dkms_packages

FORMATS: dict[str, Callable[[Factory], Iterable[Artifact]]] = {
    "deb": lambda factory: factory.packages().values(),
    "rpm": lambda factory: factory.rpms().values(),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        choices=["modules", "host"],
        default="modules",
        help="the guest's modules (default), or the host's programs: no kernel and no key then",
    )
    parser.add_argument(
        "--format",
        choices=[*FORMATS, "dkms"],
        default="deb",
        help="default: deb; dkms: the modules' sources, as .deb and as RPM: no kernel and no key then",
    )
    factory.arguments(parser)


def main(options: argparse.Namespace) -> Exit:
    for package in made(options):
        print(package.path)
    return Exit.OK


def made(options: argparse.Namespace) -> Iterable[Artifact]:
    if options.what == "modules" and options.format in FORMATS:
        return FORMATS[options.format](factory.chosen_factory(options))
    places = Places.from_environment(options.out)
    run = Runner(places.work() / "factory.log")
    if options.what == "modules":
        return dkms_packages(run, places).values()
    if options.format not in hostpackage.FORMATS:
        known = " or ".join(hostpackage.FORMATS)
        raise UsageError(f"package host: there is no {options.format} of programs", hint=f"--format {known}")
    return [hostpackage.packed(run, places, options.format)]
