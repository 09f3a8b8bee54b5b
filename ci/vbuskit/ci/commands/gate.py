# SPDX-License-Identifier: MIT
"""`vbuskit gate`: may a guest move to a host, and why not. Only files are read; nothing is moved."""

from __future__ import annotations

import argparse
import importlib

from vbuskit.base.errors import Exit

# Verb -> what `--help` says of it. Its module is vbuskit.ci.gates.<verb>, imported only when chosen;
# it has `arguments(parser)` and `main(options) -> Exit`.
VERBS: dict[str, str] = {
    "check": "yes, no or yes-if, with reasons and remedies",
    "capture": "the profile of this host, or of a guest that runs here",
    "explain": "what a rule means, why it is so, and what to do",
    "schema": "the JSON Schema of the profile of a host, a guest or a release",
    "diff": "what only one of two profiles has, and what differs, bits by name",
    "release": "would guests of one release be stranded on another: two of them, or all",
    "state": "does one release read what another one left, from their layouts",
    "baseline": "the largest common set of a pool, and what pins a guest to it",
    "plan": "a chain of moves: each hop, and what a restart on the way closes",
    "matrix": "a verdict for each guest, or each host, on each host of a fleet",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    listing = "\n".join(f"  {name:10} {text}" for name, text in VERBS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"verbs:\n{listing}\n\n`vbuskit gate VERB --help` says more."
    parser.add_argument("verb", choices=VERBS, metavar="VERB")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="what the verb takes")


def main(options: argparse.Namespace) -> Exit:
    module = importlib.import_module(f"vbuskit.ci.gates.{options.verb}")
    chosen = argparse.ArgumentParser(prog=f"vbuskit gate {options.verb}", description=VERBS[options.verb])
    module.arguments(chosen)
    return Exit(module.main(chosen.parse_args(options.words)))
