# SPDX-License-Identifier: MIT
"""`vbuskit sign`: the modules of one kernel release, built, stripped and signed; or other modules."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.ci.commands import factory
from vbuskit.kmp.compressed import FORMS
from vbuskit.kmp.keyring import chosen_key
from vbuskit.kmp.signing import packed_artifact, signed_files


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "modules", type=Path, nargs="*", metavar="FILE.ko", help="sign these as they are; none: build ours"
    )
    parser.add_argument(
        "--compress", choices=[*FORMS], help="compress what was signed: out/signed/NAME.ko.xz"
    )
    factory.arguments(parser)


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    for module in packed(signed(options, places), options.compress, places.out / "signed"):
        print(module.path)
    return Exit.OK


def signed(options: argparse.Namespace, places: Places) -> Iterable[Artifact]:
    if not options.modules:
        return factory.chosen_factory(options).signed().values()
    if options.kernel or options.kernel_devel:
        raise UsageError("--kernel: these modules are built already", hint="leave out what names a kernel")
    return signed_files(options.modules, chosen_key(places, factory.choice(options)), places.out / "signed")


def packed(modules: Iterable[Artifact], form: str | None, into: Path) -> Iterable[Artifact]:
    return (packed_artifact(module, form, into) for module in modules) if form else modules
