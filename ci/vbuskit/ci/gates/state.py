# SPDX-License-Identifier: MIT
"""`vbuskit gate state OLD NEW`: does one release read what the other one left, both ways."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from vbuskit.base.errors import Exit, printable
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.releases import named
from vbuskit.migration.state import compare, verdict

EXITS = {Verdict.YES: Exit.OK, Verdict.IF: Exit.FAILED, Verdict.NO: Exit.REFUSED}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="a release (0.1), next for this tree, or a file")
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--json", action="store_true", help="the verdict and all changes as one object")


def main(options: argparse.Namespace) -> Exit:
    old, new = named(options.old), named(options.new)
    found = compare(old, new)
    if options.json:
        told = {"old": old.release, "new": new.release, "verdict": verdict(found)}
        print(json.dumps({**told, "changes": [asdict(each) for each in found]}, indent=1))
    else:
        what = f"{len(found)} changes" if found else "the same"
        print(printable(f"{verdict(found)}: {old.release} and {new.release}: {what}"))
        for change in found:
            print(printable(f"  {change}"))
    return EXITS[verdict(found)]
