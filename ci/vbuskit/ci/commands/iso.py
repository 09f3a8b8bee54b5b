# SPDX-License-Identifier: MIT
"""`vbuskit iso`: the driver ISO, and everything that comes before it."""

from __future__ import annotations

import argparse

from vbuskit.base.errors import Exit
from vbuskit.ci.commands.factory import arguments, chosen_factory

__all__ = ["arguments", "main"]


def main(options: argparse.Namespace) -> Exit:
    print(chosen_factory(options).iso().path)
    return Exit.OK
