# SPDX-License-Identifier: MIT
"""`vbuskit gate release OLD NEW`: would a guest of one release be stranded on another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from vbuskit.base.errors import Exit, UsageError, printable
from vbuskit.migration.release import Loss, Release, losses, masks
from vbuskit.migration.releases import NEXT, named, released


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "releases", nargs="*", metavar="RELEASE", help="two: 0.1, next (this tree), or files"
    )
    parser.add_argument("--all", action="store_true", help="from every release to this tree")
    parser.add_argument("--json", action="store_true", help="a list with an object for each pair")
    parser.add_argument("--write", action="store_true", help="build this tree, and write what it offers")
    parser.add_argument("--tree", type=Path, metavar="DIR", help="with --write: of another checkout")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"with --write: else {NEXT.name}")
    parser.add_argument("--defect", default="none", help="with --write: of programs with a planted defect")


def main(options: argparse.Namespace) -> Exit:
    chosen = options.write, options.all, len(options.releases)
    if chosen == (True, False, 0):
        return write(options)
    if chosen == (False, True, 0):
        pairs = [(old, named(NEXT.stem)) for old in released()]
    elif chosen == (False, False, 2):
        pairs = [(named(options.releases[0]), named(options.releases[1]))]
    else:
        raise UsageError("release: takes two releases, or --all, or --write")
    if options.json:
        print(json.dumps([as_json(*pair) for pair in pairs], indent=1))
    else:
        print("\n".join(line for pair in pairs for line in lines(*pair)))
    return Exit.REFUSED if any(True for pair in pairs for _ in losses(*pair)) else Exit.OK


def write(options: argparse.Namespace) -> Exit:
    from vbuskit.base.places import ROOT
    from vbuskit.base.run import Runner
    from vbuskit.ci.gates import output
    from vbuskit.migration import offer

    path = options.output or NEXT
    found = offer.offer(Runner(), (options.tree or ROOT).resolve(), defect=options.defect)
    output.write(path, offer.text(found), "--output")
    print(f"{path}: {found.release}, {len(found.classes)} classes")
    return Exit.OK


def lines(old: Release, new: Release) -> Iterator[str]:
    """What is lost on the way there is the verdict; the way back is told, since a mask can make it safe."""
    there, back = list(losses(old, new)), list(losses(new, old))
    verdict = "strands guests" if there else "strands no guest"
    yield printable(f"{old.release} to {new.release}: {verdict}")
    yield from (printable(f"  stranded: {each}") for each in there)
    yield from (printable(f"  on the way back: {each}") for each in back)
    for (klass, group), bits in masks(back).items():
        command = f"./vbuskit host mask BUS {group} {bits:#x} --device UUID"
        yield printable(f"  for a pool of both, on {new.release} for each {klass}: {command}")


def as_json(old: Release, new: Release) -> dict[str, object]:
    def told(found: Iterator[Loss]) -> list[dict[str, object]]:
        return [asdict(each) for each in found]

    pool = [
        {"class": klass, "group": group, "bits": bits}
        for (klass, group), bits in masks(losses(new, old)).items()
    ]
    return {
        "old": old.release,
        "new": new.release,
        "stranded": told(losses(old, new)),
        "back": told(losses(new, old)),
        "mask": pool,
    }
