# SPDX-License-Identifier: MIT
"""A saved guest gets another name, in libvirt's format; and what a migration asks of libvirt."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.errors import Refused
from vbuskit.base.virt import Domain, renamed

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


# ---- A domain that is made up ----


class Raw:
    """What libvirt-python's virDomain says; `asked` is what it was asked."""

    def __init__(self, *, state: tuple[int, int] = (1, 0), persistent: bool = False) -> None:
        self._state, self._persistent = state, persistent
        self.asked: list[tuple[Any, ...]] = []

    def name(self) -> str:
        return "vm1"

    def state(self, flags: int) -> tuple[int, int]:
        return self._state

    def isPersistent(self) -> bool:
        return self._persistent

    def migrateSetMaxDowntime(self, milliseconds: int, flags: int) -> None:
        self.asked.append(("downtime", milliseconds))

    def migrateToURI3(self, uri: str, limits: dict[str, int], flags: int) -> None:
        self.asked.append((uri, limits, flags))


@pytest.mark.parametrize("persistent", [False, True])
def test_a_guest_is_moved_live_left_paused_and_never_by_postcopy(persistent: bool) -> None:
    raw = Raw(persistent=persistent)
    Domain(raw).migrate("there", bandwidth=7, downtime=30)
    live, p2p, persist, undefine, paused = 1, 2, 8, 16, 32  # virDomainMigrateFlags
    flags = live | p2p | paused | (persist | undefine if persistent else 0)
    assert raw.asked == [("downtime", 30), ("there", {"bandwidth": 7}, flags)]


@pytest.mark.parametrize(
    ("state", "where"),
    [((1, 6), "running"), ((3, 1), "paused"), ((3, 2), "moving"), ((3, 11), "moving"), ((5, 3), "gone")],
)
def test_a_guest_that_a_migration_has_stopped_is_told_from_one_that_somebody_has_paused(
    state: tuple[int, int], where: str
) -> None:
    assert Domain(Raw(state=state)).whereabouts() == where
