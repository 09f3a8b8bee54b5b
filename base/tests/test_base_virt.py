# SPDX-License-Identifier: MIT
"""A saved guest gets another name, in the format that libvirt saves it in."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from vbuskit.base.errors import Refused
from vbuskit.base.virt import renamed

XML = b"<domain><name>a</name><uuid>06140b5f-0887-471f-bb77-fb1bfe15948e</uuid><memory>1</memory></domain>"
COOKIE = b"<qemusave><cpu/></qemusave>"
MEMORY = b"QEVM" + bytes(range(256)) * 9000


def saved(file: Path, room: int, magic: bytes = b"LibvirtQemudSave", version: int = 2) -> Path:
    """As libvirt 9.0 writes it: a header, text and cookie with room to grow, QEMU's stream."""
    text = XML + b"\0" + COOKIE + b"\0"
    header = struct.pack("=16s5I56x", magic, version, len(text) + room, 1, 0, len(XML) + 1)
    file.write_bytes(header + text + bytes(room) + MEMORY)
    return file


@pytest.mark.parametrize("room", [0, 4096])
def test_a_renamed_guest_differs_in_name_and_uuid_only(tmp_path: Path, room: int) -> None:
    copy = renamed(saved(tmp_path / "saved", room), "another-name", tmp_path / "copy").read_bytes()
    magic, version, size, running, compressed, cookie = struct.unpack("=16s5I56x", copy[:92])
    assert (magic, version, running, compressed) == (b"LibvirtQemudSave", 2, 1, 0)
    text, memory = copy[92 : 92 + size], copy[92 + size :]
    assert memory == MEMORY
    assert text[cookie:].split(b"\0")[0] == COOKIE
    root, before = ET.fromstring(text[: cookie - 1]), ET.fromstring(XML)
    assert root.findtext("name") == "another-name"
    assert root.findtext("uuid") != before.findtext("uuid")
    assert root.findtext("memory") == "1"


@pytest.mark.parametrize(("magic", "version"), [(b"LibvirtQemudPart", 2), (b"LibvirtQemudSave", 3)])
def test_what_is_no_saved_guest_or_one_of_another_format_is_refused(
    tmp_path: Path, magic: bytes, version: int
) -> None:
    with pytest.raises(Refused, match="no guest that libvirt has saved"):
        renamed(saved(tmp_path / "saved", 0, magic, version), "b", tmp_path / "copy")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved").touch()
    with pytest.raises(Refused):
        renamed(tmp_path / "saved", "b", tmp_path / "copy")
