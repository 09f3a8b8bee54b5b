# SPDX-License-Identifier: MIT
"""docs/protocol.md says the same as the headers: every offset, size and number in it is compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

PAGE = ROOT / "docs" / "protocol.md"
STRUCTS = {
    "NEGOTIATE": ("vbus_negotiate_request", "vbus_negotiate_reply"),
    "QREG": ("vbus_qreg_request", None),
    "ENUMERATE": ("vbus_enumerate_request", "vbus_enumerate_reply"),
    "DEVOPEN": ("vbus_devopen_request", "vbus_devopen_reply"),
    "DEVCLOSE": ("vbus_devclose_request", None),
    "DEVSHM": ("vbus_devshm_request", "vbus_devshm_reply"),
    "SIGROUTE": ("vbus_sigroute_request", "vbus_sigroute_reply"),
}


def claims(page: str) -> Iterator[str]:
    """Each claim of the page as a C expression that must be true."""
    struct = None
    for line in page.splitlines():
        words = [word.strip() for word in line.strip("|").split("|")] if line.startswith("|") else []
        if not words:
            struct = None
        elif head := re.fullmatch(r"`(struct \w+)`", words[0]):
            struct = head[1]
        elif struct and (field := re.fullmatch(r"`(\w+)`", words[0])):
            yield f"offsetof({struct}, {field[1]}) == {words[1]}"
        elif len(words) > 2 and (name := re.fullmatch(r"`(VBUS_\w+|VENET_\w+|VBLK_\w+)`", words[0])):
            yield f"{name[1]} == {words[1]}"
        elif len(words) > 1 and (name := re.fullmatch(r"`(VBUS_\w+|VBLK_\w+)`", words[1])):
            yield f"{name[1]} == {words[0]}"
            yield from sizes(name[1].removeprefix("VBUS_CALL_"), words[2:])


def sizes(call: str, bytes_of: list[str]) -> Iterator[str]:
    for struct, size in zip(STRUCTS.get(call, ()), bytes_of, strict=False):
        if struct is not None:
            yield f"sizeof(struct {struct}) == {size}"


def compiled(expressions: list[str], folder: Path) -> str:
    """What the compiler says of static assertions; empty when all hold."""
    source = folder / "claims.c"
    asserts = "\n".join(f'_Static_assert({text}, "{text}");' for text in expressions)
    source.write_text(f'#include "vblk_abi.h"\n#include "venet_abi.h"\n{asserts}\n')
    include = ROOT / "drivers" / "include"
    return Runner().attempt(["gcc", "-std=gnu11", "-fsyntax-only", f"-I{include}", source]).err


def test_every_offset_size_and_number_of_the_page_is_what_the_headers_say(tmp_path: Path) -> None:
    found = list(claims(PAGE.read_text()))
    assert len(found) >= 120
    assert compiled(found, tmp_path) == ""


def test_a_wrong_offset_on_the_page_is_noticed(tmp_path: Path) -> None:
    page = PAGE.read_text().replace("| `epoch` | 16 |", "| `epoch` | 24 |", 1)
    assert "offsetof(struct vbus_host_header, epoch) == 24" in compiled(list(claims(page)), tmp_path)


def test_a_wrong_size_of_a_call_is_noticed(tmp_path: Path) -> None:
    page = PAGE.read_text().replace("| `VBUS_CALL_QREG` | 40 |", "| `VBUS_CALL_QREG` | 48 |")
    assert "vbus_qreg_request) == 48" in compiled(list(claims(page)), tmp_path)
