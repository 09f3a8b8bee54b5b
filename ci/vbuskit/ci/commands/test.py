# SPDX-License-Identifier: MIT
"""`vbuskit test`: the project's own tests, in the environment that the shim made."""

from __future__ import annotations

import argparse
import os
import sys

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--guests", action="store_true", help="also the tests that boot guests (minutes, root)"
    )
    parser.add_argument("--full", action="store_true", help="also those that make new machines")
    parser.add_argument("pytest", nargs="*", help="more words for pytest, after --")


def main(options: argparse.Namespace) -> Exit:
    """Hand the process over to pytest, so that its closing line is the last line."""
    left_out = [] if options.full else ["full"] if options.guests else ["guest", "full"]
    selection = ["-m", " and ".join(f"not {mark}" for mark in left_out)] if left_out else []
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *selection, *options.pytest])
