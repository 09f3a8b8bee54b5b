# SPDX-License-Identifier: MIT
"""`vbuskit verify`: is this ISO, package or module what a trusted key signed."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from vbuskit.base.errors import Exit, printable
from vbuskit.base.places import Places
from vbuskit.ci.verify import verify
from vbuskit.kmp.keyring import state_certificate
from vbuskit.kmp.trust import Trust, load_trust


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help=".iso, .deb, .rpm, .ko, .ko.xz or .ko.zst"
    )
    trust_argument(parser, "default: that of the state directory's key")


def trust_argument(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "--trust", type=Path, metavar="CERTIFICATES", help=f"one in DER, or any number in PEM; {otherwise}"
    )


def main(options: argparse.Namespace) -> Exit:
    trust = (
        load_trust(options.trust)
        if options.trust
        else Trust((state_certificate(Places.from_environment()),))
    )
    for file in options.files:
        for line in trust.judged(partial(verify, file)):
            print(printable(line))
    return Exit.OK
