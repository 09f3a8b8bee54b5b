# SPDX-License-Identifier: MIT
"""docs/defects.md: each of the original's 44 defects once, and every test that it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

PAGE = ROOT / "docs" / "defects.md"
SCENARIOS = ROOT / "compat_tests" / "vbuskit" / "compat" / "scenarios"
DEFECTS = 44
NAMED = re.compile(r"`([\w/]+\.(?:c|py))`((?: test_\w+,?)+)")


def rows(page: str) -> Iterator[list[str]]:
    """The cells of each line that begins with a number."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[0].isdecimal():
            yield cells


def numbers(page: str) -> list[int]:
    return [int(cells[0]) for cells in rows(page)]


def named(text: str) -> list[tuple[str, str]]:
    """(file below drivers/, function) for each test that is named."""
    return [(file, name) for file, names in NAMED.findall(text) for name in re.findall(r"\w+", names)]


def cells(text: str) -> list[str]:
    """Cells of a run that are named: "cells `kill`, `disk`"."""
    found = re.search(r"\bcells ((?:`\w+`(?:, )?)+)", text)
    return re.findall(r"\w+", found[1]) if found else []


def has(file: Path, name: str) -> bool:
    """The function is defined there, and is run: in C the table of tests says so."""
    text = file.read_text() if file.is_file() else ""
    wanted = [f"static bool {name}(void)\n", f"TEST({name})"] if file.suffix == ".c" else [f"\ndef {name}("]
    return all(word in text for word in wanted)


def missing(page: str) -> list[str]:
    gone = [f"{file}: {name}" for file, name in named(page) if not has(ROOT / "drivers" / file, name)]
    scenarios = "".join(file.read_text() for file in SCENARIOS.glob("*.py"))
    tried = [name for row in rows(page) for name in cells(row[3])]
    return gone + [f"cell {name}" for name in tried if f'    name = "{name}"\n' not in scenarios]


def unproven(page: str) -> list[int]:
    """Numbers of those that apply to a side and name no test of it, or do not and name one."""
    wrong = []
    for number, _, here, tests in rows(page):
        host = re.match(r"host\b", here) is not None
        guest = re.search(r"\bguest\b(?!: issue)", here) is not None
        known = host or guest or re.match(r"no: |guest: issue", here)
        if host != bool(named(tests)) or guest != bool(cells(tests)) or not known:
            wrong.append(int(number))
    return wrong


def test_every_defect_is_there_once_and_in_order() -> None:
    assert numbers(PAGE.read_text()) == list(range(1, DEFECTS + 1))


def test_every_test_that_is_named_is_there_and_is_run() -> None:
    page = PAGE.read_text()
    assert missing(page) == []
    # No name was written in a way that is not looked up.
    assert len(named(page)) == len(re.findall(r"\btest_\w+(?!\w|\.)", page)) > DEFECTS


def test_what_applies_to_a_side_has_a_test_of_it_and_nothing_else_has() -> None:
    assert unproven(PAGE.read_text()) == []


def test_a_test_that_was_renamed_is_noticed() -> None:
    page = PAGE.read_text().replace("test_a_call_before_any_negotiate_is_stale", "test_renamed")
    assert missing(page) == ["host/tests/test_defects.c: test_renamed"]
    assert missing("`host/tests/test_gone.c` test_x") == ["host/tests/test_gone.c: test_x"]
    assert missing("| 1 | x | guest | cells `boot`, `gone` |") == ["cell gone"]


def test_a_defect_without_a_test_is_noticed() -> None:
    page = PAGE.read_text()
    assert unproven(re.sub(r"^(\| 8 \|.*\|) `.*$", r"\1 |", page, flags=re.MULTILINE)) == [8]
    assert unproven(re.sub(r"(\| 35 \|.*\|) cells .*$", r"\1 |", page, flags=re.MULTILINE)) == [35]
    assert numbers(re.sub(r"^\| 8 \|.*\n", "", page, flags=re.MULTILINE)) != numbers(page)


def compiled_for_32_bits(more: str, folder: Path) -> bool:
    source = folder / "headers.c"
    source.write_text(f'#include "vblk_abi.h"\n#include "venet_abi.h"\n{more}\n')
    include = f"-I{ROOT / 'drivers' / 'include'}"
    flags = ["-m32", "-ffreestanding", "-std=gnu11", "-fsyntax-only"]
    return Runner().attempt(["gcc", *flags, include, source]).code == 0


def test_the_headers_say_the_same_in_32_bits(tmp_path: Path) -> None:
    # Their own assertions are compiled; a structure like the original's is shorter there.
    assert compiled_for_32_bits('_Static_assert(sizeof(void *) == 4, "");', tmp_path)
    original = "struct desc { uint64_t cookie; uint64_t ptr; uint64_t len; uint32_t sown; };"
    assert not compiled_for_32_bits(f'{original} _Static_assert(sizeof(struct desc) == 32, "");', tmp_path)
