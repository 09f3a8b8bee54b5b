# SPDX-License-Identifier: MIT
"""`vbuskit gate explain RULE`: what a rule means, why it is so, what to do."""

from __future__ import annotations

import argparse

from vbuskit.base.errors import Exit, UsageError
from vbuskit.migration.explanations import EXPLANATIONS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", nargs="?", metavar="RULE", help="as a finding names it; all of them without")


def main(options: argparse.Namespace) -> Exit:
    if options.rule is None:
        for rule, found in EXPLANATIONS.items():
            print(f"{rule:16} {' or '.join(found.verdicts):9} {found.says}")
    elif options.rule in EXPLANATIONS:
        print(text(options.rule))
    else:
        raise UsageError(
            f"explain: no rule {options.rule!r}", hint="`vbuskit gate explain` lists all of them"
        )
    return Exit.OK


def text(rule: str) -> str:
    found = EXPLANATIONS[rule]
    return "\n".join(
        (
            f"{rule}: {found.says} ({' or '.join(found.verdicts)})",
            f"why: {found.why} ({found.source})",
            f"do: {found.act}",
        )
    )
