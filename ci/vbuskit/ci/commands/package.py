# SPDX-License-Identifier: MIT
"""`vbuskit package`: the signed modules as Debian packages, or as a kernel module package (RPM).

`vbuskit package host`: the host's programs in either format.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci import hostpackage
from vbuskit.ci.commands import factory
from vbuskit.ci.pipeline import Factory

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
    parser.add_argument("--format", choices=[*FORMATS], default="deb", help="default: deb")
    factory.arguments(parser)


def main(options: argparse.Namespace) -> Exit:
    if options.what == "host":
        places = Places.from_environment(options.out)
        print(hostpackage.packed(Runner(places.work() / "factory.log"), places, options.format).path)
        return Exit.OK
    for package in FORMATS[options.format](factory.chosen_factory(options)):
        print(package.path)
    return Exit.OK
