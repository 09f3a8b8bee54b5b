# SPDX-License-Identifier: MIT
"""How many lines of code the host's programs are."""

from __future__ import annotations

import re
from pathlib import Path

# What is no code, and literals, in which a comment does not begin.
PLANTED = re.compile(r"^#ifdef VBUS_DEFECT_(?:(?!^#(?:if|el|endif)).)*^#endif$", re.DOTALL | re.MULTILINE)
NO_CODE = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|//[^\n]*|/\*.*?\*/", re.DOTALL)


def lines_of_code(text: str) -> int:
    """Lines of C that are neither blank nor comment alone, nor a planted defect, which no program ships."""

    def bare(match: re.Match[str]) -> str:
        return match[0] if match[0][0] in "\"'" else " " + "\n" * match[0].count("\n")

    return sum(bool(line.strip()) for line in NO_CODE.sub(bare, PLANTED.sub("", text)).splitlines())


def lines_by_program(tree: Path) -> dict[str, int]:
    """Of drivers/host without tests and example; `shared` is linked to more than one program."""
    host, counts = (
        tree / "drivers/host",
        dict.fromkeys(("vbusd", "worker", "classes", "control", "shared"), 0),
    )
    for folder in (host, host / "classes", host / "control"):
        for path in folder.glob("*.[ch]"):
            word = re.split(r"[_.]", path.name)[0] if folder == host else folder.name
            counts[word if word in counts else "shared"] += lines_of_code(path.read_text())
    return counts
