# SPDX-License-Identifier: MIT
"""`vbuskit ci`: a pipeline for a CI that the user has, and what its jobs do besides the cells."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vbuskit.base import artifact
from vbuskit.base.artifact import digest_of
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.ci.collect import collected, untried, with_guests
from vbuskit.ci.commands.matrix import PROFILES
from vbuskit.ci.ownci import Pipeline
from vbuskit.ci.report import write_report
from vbuskit.ci.verdict import judge
from vbuskit.compat.cells import Cell
from vbuskit.compat.guests import guest_kinds
from vbuskit.compat.plan import Planned
from vbuskit.compat.plugin import planned_for

TEMPLATES = {"github": "github.yml.j2", "gitlab": "gitlab.yml.j2"}
MACHINES = {"github": ["ubuntu-latest"], "gitlab": []}  # GitLab's runners have no name in common
SHARDS = 4
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
# What the cache calls by a hash of all that it was made from: recipes, kernels, packages.
KEYED = ("images/*/image.json", "roots/*/*/sealed", "kernels/*/*", "kernel-debs/*/outputs.json")


def arguments(parser: argparse.ArgumentParser) -> None:
    verb = parser.add_subparsers(dest="verb", required=True, metavar="github|gitlab|collect|key")
    for name in TEMPLATES:
        made = verb.add_parser(name, help=f"write a pipeline for {name}, a job a shard")
        selection(made)
        made.add_argument("--shards", type=int, metavar="N", help=f"jobs; default {SHARDS}, or fewer guests")
        made.add_argument("--workers", type=int, metavar="N", help="guests at a time in each job")
        made.add_argument("--runs-on", nargs="+", metavar="LABEL", help="labels or tags of the machines")
        made.add_argument("--image", default="debian:12", help="of the container; default debian:12")
        made.add_argument("--no-image", action="store_true", help="the machines themselves are Debian 12")
        made.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    together = verb.add_parser("collect", help="put the results of all shards together")
    selection(together)
    together.add_argument("--out", type=Path, required=True, help="the folder with shard-1, shard-2, ...")
    verb.add_parser("key", help="a word that changes with what is in the cache")


def selection(parser: argparse.ArgumentParser) -> None:
    """Which cells, in the words of `vbuskit matrix`."""
    parser.add_argument("--profile", choices=[*PROFILES], default="smoke", help="which scenarios")
    parser.add_argument("--guest", metavar="NAME", nargs="+", help="these guests; all without")
    parser.add_argument("--only", metavar="SCENARIO", nargs="+", help="these instead of the profile's")
    parser.add_argument("--pairwise", action="store_true", help="each pair of values of axes at least once")


def main(options: argparse.Namespace) -> Exit:
    return {"collect": collect, "key": key}.get(options.verb, generate)(options)


def generate(options: argparse.Namespace) -> Exit:
    where = options.runs_on or MACHINES[options.verb]
    image = "" if options.no_image else options.image
    for word in (*where, *([image] if image else ())):
        if not LABEL.fullmatch(word):
            raise UsageError(f"{word}: is no label of a machine and no name of an image")
    if any(count is not None and count < 1 for count in (options.shards, options.workers)):
        raise UsageError("--shards and --workers are at least 1")
    if options.verb == "github" and not where:
        raise UsageError("--runs-on: GitHub needs a label")
    workers = [f"--workers={options.workers}"] if options.workers else []
    shards = loads(options)
    text = Pipeline(
        words=[*selected(options), *workers],
        chosen=selected(options),
        again=written(options, len(shards)),
        shards=shards,
        machine=where,
        image=image,
    ).render(TEMPLATES[options.verb])
    if options.output is None:
        sys.stdout.write(text)
    else:
        artifact.write(options.output, text)
    return Exit.OK


def selected(options: argparse.Namespace) -> list[str]:
    """The words that choose cells; lists come last, and a word with a dash ends them."""
    words = [] if options.only else [f"--profile={options.profile}"]
    words += ["--pairwise"] if options.pairwise else []
    for name in ("guest", "only"):
        if getattr(options, name):
            words += [f"--{name}", *getattr(options, name)]
    return words


def written(options: argparse.Namespace, shards: int) -> list[str]:
    """The words that make this file again."""
    words = [options.verb, f"--shards={shards}", *selected(options)]
    words += [f"--workers={options.workers}"] if options.workers else []
    words += ["--runs-on", *options.runs_on] if options.runs_on else []
    return [*words, "--no-image" if options.no_image else f"--image={options.image}"]


def planned(options: argparse.Namespace, shard: tuple[int, int] | None = None) -> list[Planned]:
    """As every job plans it: without a history, which each machine has another one of."""
    return planned_for(
        Places.from_environment().tree,
        guests=options.guest,
        scenarios=options.only or PROFILES[options.profile],
        long=True,
        shard=shard,
        pairwise=options.pairwise,
        expected={},
    )


def loads(options: argparse.Namespace) -> list[float]:
    """Expected seconds of each shard. Raises UsageError when some would have no cell."""
    whole = len({each.group for each in planned(options) if not each.excluded})
    count = options.shards or min(SHARDS, max(whole, 1))
    if count > whole:
        raise UsageError(
            f"--shards {count}: there are {whole} guests to try",
            hint="cells that share a guest stay together",
        )
    shards = [planned(options, (number, count)) for number in range(1, count + 1)]
    return [sum(each.seconds for each in shard if not each.excluded) for shard in shards]


def collect(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    facts, cells = collected(places.out)
    cells += untried(planned(options), cells)
    facts = with_guests(facts, informing(places, cells))
    write_report(places, facts, cells)
    verdict = judge(cells, facts.informing, facts.quarantine)
    print(f"{places.out / 'report.html'}: {verdict.outcome}: {verdict.line}")
    return verdict.exit_code


def informing(places: Places, cells: Sequence[Cell]) -> list[str]:
    kinds = guest_kinds(places.tree)
    names = dict.fromkeys(cell.guest for cell in cells)
    return [name for name in names if name in kinds and kinds[name].informing]


def key(options: argparse.Namespace) -> Exit:
    cache = Places.from_environment().cache
    found = (str(path.relative_to(cache)) for pattern in KEYED for path in cache.glob(pattern))
    print(digest_of(*sorted(found))[:32])
    return Exit.OK
