# SPDX-License-Identifier: MIT
"""cpio archives, newc and crc, entry by entry: what is in an initrd, and in an RPM.

An entry: magic, 13 numbers of 8 hexadecimal digits, name and its NUL, content; each padded to 4 bytes.
Documentation/driver-api/early-userspace/buffer-format.rst of the Linux sources says the rest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vbuskit.base.errors import Refused
from vbuskit.base.unpack import Stream

HEADER = 110
FIELDS = struct.Struct(">13I")
NEWC, CRC = b"070701", b"070702"
TRAILER = "TRAILER!!!"
PATH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header that anybody looks at, and where it is; `checksum` is None for newc."""

    at: int
    inode: tuple[int, int, int]
    mode: int
    links: int
    size: int
    name_size: int
    checksum: int | None


def parse(stream: Stream) -> Header:
    """The header that begins here."""
    at = stream.at
    raw = stream.take(HEADER)
    if raw[:6] not in (NEWC, CRC):
        if (NEWC.startswith(raw) or CRC.startswith(raw)) and len(raw) < 6:
            raise Refused(f"byte {at}: is cut off")
        raise Refused(
            f"byte {at}: is no cpio header, neither newc nor crc", hint="build it with cpio -H newc"
        )
    if len(raw) < HEADER:
        raise Refused(f"byte {at}: is cut off")
    if at % 4:
        raise Refused(f"byte {at}: a cpio header where no kernel looks for one, not at a multiple of 4")
    if not raw[6:].isalnum():  # fromhex would skip white space
        raise Refused(f"byte {at}: a cpio header whose numbers are none")
    try:
        fields = FIELDS.unpack(bytes.fromhex(raw[6:].decode("ascii")))
    except ValueError:
        raise Refused(f"byte {at}: a cpio header whose numbers are none") from None
    inode, mode, _, _, links, _, size, major, minor, _, _, name_size, checksum = fields
    if not 0 < name_size <= PATH_MAX:
        raise Refused(f"byte {at}: a cpio entry whose name has {name_size} bytes")
    crc = checksum if raw[:6] == CRC else None
    return Header(at, (inode, major, minor), mode, links, size, name_size, crc)


def name_of(stream: Stream, header: Header) -> str:
    """Up to the first NUL, as whoever unpacks it in C reads it."""
    raw = stream.take(header.name_size)
    if len(raw) < header.name_size:
        raise cut_off(header)
    if raw[-1]:
        raise Refused(f"byte {header.at}: the name of a cpio entry has no end")
    finish(stream, header)
    return raw.split(b"\0", 1)[0].decode(errors="backslashreplace")


def finish(stream: Stream, header: Header) -> None:
    """To the next multiple of four, where the next header may be."""
    left = -stream.at % 4
    if stream.skip(left) < left:
        raise cut_off(header)


def cut_off(header: Header) -> Refused:
    return Refused(f"byte {header.at}: is cut off within this entry")
