# SPDX-License-Identifier: MIT
"""`vbuskit gate check GUEST HOST`: may it move there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from vbuskit.base.errors import Exit, printable
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Judgement, Verdict
from vbuskit.migration.reading import guest_profile, host_profile

EXITS = {Verdict.YES: Exit.OK, Verdict.IF: Exit.FAILED, Verdict.NO: Exit.REFUSED}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", type=Path, metavar="GUEST", help="its profile")
    parser.add_argument("host", type=Path, metavar="HOST", help="the destination's profile")
    parser.add_argument("--json", action="store_true", help="the verdict and its findings as one object")


def main(options: argparse.Namespace) -> Exit:
    judgement = judge(guest_profile(options.guest), host_profile(options.host))
    print(json.dumps(as_json(judgement), indent=1) if options.json else "\n".join(lines(judgement)))
    return EXITS[judgement.verdict]


def lines(judgement: Judgement) -> Iterator[str]:
    yield printable(f"{judgement.verdict}: {judgement.guest} to {judgement.host}")
    for finding in judgement.findings:
        yield f"  {printable(str(finding))}"


def as_json(judgement: Judgement) -> dict[str, object]:
    findings = [{**asdict(each), "device": each.device and str(each.device)} for each in judgement.findings]
    return {
        "guest": judgement.guest,
        "host": judgement.host,
        "verdict": judgement.verdict,
        "findings": findings,
    }
