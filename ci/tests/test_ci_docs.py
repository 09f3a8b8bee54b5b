# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

from vbuskit.base.places import ROOT
from vbuskit.ci.cli import COMMANDS


def blocks(markdown: str) -> list[str]:
    """Lines of fenced and of indented blocks: what a reader copies into a shell."""
    lines, fenced = [], False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith(("    ", "\t")):
            lines.append(line)
    return lines


def commands(markdown: str) -> list[str]:
    return [name for line in blocks(markdown) for name in re.findall(r"\./vbuskit +([a-z][\w-]*)", line)]


def test_blocks_are_found_however_they_are_written() -> None:
    indented = "    ./vbuskit one  # ./vbuskit two"
    fenced = "```sh\nsudo ./vbuskit three --x\n```"
    text = f"./vbuskit no\n\n{indented}\n{fenced}\n./vbuskit no"
    assert commands(text) == ["one", "two", "three"]


def test_every_command_in_the_readme_exists() -> None:
    named = commands((ROOT / "README.md").read_text())
    assert "test" in named
    assert [name for name in named if name not in COMMANDS] == []
