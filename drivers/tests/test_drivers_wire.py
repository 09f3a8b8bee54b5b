# SPDX-License-Identifier: MIT
"""The wire is what drivers/include/wire.txt has of v0.1, and more only where that harms nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vbuskit.base.errors import Refused, VbuskitError
from vbuskit.base.run import Runner
from vbuskit.drivers.wire import COMMAND, INCLUDE, TABLE, objections, record


@pytest.fixture
def include(tmp_path: Path) -> Path:
    return Path(shutil.copytree(INCLUDE, tmp_path / "include"))


def change(header: Path, before: str, after: str) -> None:
    text = header.read_text()
    assert text.count(before) == 1
    header.write_text(text.replace(before, after))


def test_the_wire_is_what_the_table_has() -> None:
    assert objections(Runner()) == []


@pytest.mark.parametrize(
    ("header", "before", "after", "had"),
    [
        (
            "vbus",
            "vbus_le64 addr;\n\tvbus_le32 len;\n\tvbus_le32 id;",
            "vbus_le64 addr;\n\tvbus_le32 id;\n\tvbus_le32 len;",
            "struct ioq_desc.len: vbus_le32 at 8, 4 bytes",
        ),
        ("vbus", "le32 budget;", "le32 budget;\n\tvbus_le64 more;", "struct vbus_devopen_reply: 8 bytes"),
        ("vbus", "VBUS_STATUS_IO = 8", "VBUS_STATUS_IO = 9", "VBUS_STATUS_IO = 8"),
        ("vbus", "(128u + 16u * (count))", "(128u + 32u * (count))", "IOQ_PART_SIZE(7) = 240"),
        ("venet", "VENET_SG_USO\t\t(1u << 6)", "VENET_SG_USO\t\t(1u << 4)", "VENET_SG_USO = 64"),
        ("venet", '"venet"', '"vnet"', 'VENET_TYPE = "venet"'),
        ("vblk", "VBLK_OP_DISCARD = 3", "VBLK_OP_ERASE = 3", "VBLK_OP_DISCARD = 3"),
        (
            "vblk",
            "vbus_le16 queues;",
            "uint16_t queues;",
            "struct vblk_query_reply.queues: vbus_le16 at 40, 2 bytes",
        ),
    ],
)
def test_each_change_of_the_wire_is_told_in_one_line_with_what_to_do(
    header: str, before: str, after: str, had: str, include: Path
) -> None:
    change(include / f"{header}_abi.h", before, after)
    said = objections(Runner(), include)
    advice = "take the change back, or put it under a feature bit (docs/protocol.md, Versions)"
    assert f"the wire had `{had}`: {advice}" in said


def test_a_changed_wire_is_never_recorded(include: Path) -> None:
    before = (include / TABLE).read_text()
    change(include / "vbus_abi.h", "VBUS_STATUS_IO = 8", "VBUS_STATUS_IO = 9")
    with pytest.raises(Refused, match="VBUS_STATUS_IO = 8"):
        record(Runner(), include)
    assert (include / TABLE).read_text() == before


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ("VBUS_STATUS_IO = 8,", "VBUS_STATUS_IO = 8,\n\tVBUS_STATUS_ASLEEP = 9,", "VBUS_STATUS_ASLEEP = 9"),
        (
            "vbus_le32 signal;\t\t/* for both directions; never VBUS_SIGNAL_BUS */\n\tvbus_le32 reserved;",
            "vbus_le32 signal;\n\tvbus_le32 hint;",
            "struct vbus_devshm_reply.hint: vbus_le32 at 4, 4 bytes",
        ),
        ("#define VBUS_MAGIC", "#define VBUS_NEW(n)\t(3u * (n))\n#define VBUS_MAGIC", "VBUS_NEW(7) = 21"),
        (
            "struct vbus_devshm_reply {",
            "struct vbus_new {\n\tvbus_le16 a[3];\n};\nstruct vbus_devshm_reply {",
            "struct vbus_new.a: vbus_le16 at 0, 6 bytes",
        ),
    ],
)
def test_what_is_new_is_asked_for_and_recorded(before: str, after: str, new: str, include: Path) -> None:
    change(include / "vbus_abi.h", before, after)
    assert f"`{new}` is new: run {COMMAND}" in objections(Runner(), include)
    record(Runner(), include)
    assert objections(Runner(), include) == []
    assert new in (include / TABLE).read_text().splitlines()


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("struct vbus_new {\n\tvbus_le16 a;\n\tvbus_le32 b;\n};", "padding struct"),
        ("struct vbus_new {\n\tvbus_le64 a;\n\tvbus_le32 b;\n};", "padding struct"),
        ("struct vbus_new {\n\tvbus_le32 a : 3;\n};", "one plain field at a time"),
        ("union vbus_new {\n\tvbus_le32 a;\n};", "nothing that the table of the wire can hold"),
    ],
)
def test_what_the_table_cannot_hold_is_refused(after: str, why: str, include: Path) -> None:
    change(include / "vbus_abi.h", "struct vbus_devshm_reply {", f"{after}\nstruct vbus_devshm_reply {{")
    with pytest.raises(VbuskitError, match=why):
        objections(Runner(), include)
