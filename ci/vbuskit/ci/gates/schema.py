# SPDX-License-Identifier: MIT
"""`vbuskit gate schema host|guest|release`: what a profile must be, for other programs."""

from __future__ import annotations

import argparse

from vbuskit.base.errors import Exit
from vbuskit.migration.schema import KINDS, text


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" or ".join(KINDS))


def main(options: argparse.Namespace) -> Exit:
    print(text(options.kind), end="")
    return Exit.OK
