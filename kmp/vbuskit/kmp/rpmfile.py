# SPDX-License-Identifier: MIT
"""Read an RPM without rpm: what `verify` looks into may come from anybody.

Format: a lead of 96 bytes; a header with digests, padded to 8; a header with all that rpm knows of it; a
cpio archive (newc), here always in xz. A header is magic, 4 bytes, number of entries, size of their values;
an entry is tag, type, offset and count, all 32 bits, big-endian. At most 64 MiB unpacked.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vbuskit.base.errors import Refused
from vbuskit.kmp.compressed import MODULES
from vbuskit.kmp.debfile import unpacked

LEAD = b"\xed\xab\xee\xdb\x03"
MAGIC = b"\x8e\xad\xe8\x01"
# Tags of the first header and of the second one.
SHA256_OF_HEADER = 273
NAME, VERSION, RELEASE, ARCHITECTURE = 1000, 1001, 1002, 1022
PAYLOAD_FORMAT, PAYLOAD_COMPRESSOR, PAYLOAD_SHA256 = 1124, 1125, 5092
DIGESTS = frozenset({1035, PAYLOAD_SHA256, 5097})  # over a file, the payload, the payload before xz
STRINGS = (6, 8)  # types: one string, a list of strings
CPIO = re.compile(rb"070701[0-9a-fA-F]{104}")
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Rpm:
    """Installed files, by path without a leading `./`; texts of the header, the first of each list."""

    files: Mapping[str, bytes]
    tags: Mapping[int, str]

    def modules(self) -> dict[str, bytes]:
        return {path: raw for path, raw in self.files.items() if path.endswith(MODULES)}


def read_rpm(raw: bytes) -> Rpm:
    """Refused when it is no package as `rpm.build` makes them, or when its own digests do not hold."""
    if not raw.startswith(LEAD):
        raise Refused("is no RPM package")
    digests, end = header(raw, 96)
    start = (end + 7) & ~7
    tags, payload = header(raw, start)
    compare("header", raw[start:payload], digests.get(SHA256_OF_HEADER))
    compare("payload", raw[payload:], tags.get(PAYLOAD_SHA256))
    if (tags.get(PAYLOAD_FORMAT), tags.get(PAYLOAD_COMPRESSOR)) != ("cpio", "xz"):
        raise Refused("is no RPM package of the form that vbuskit builds: its payload is no cpio in xz")
    files: dict[str, bytes] = {}
    for name, mode, content in cpio_members(unpacked(raw[payload:], "RPM package")):
        path = name.removeprefix("./")
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode) or path in files or ".." in path.split("/"):
            raise Refused(f"is an RPM package with a member that vbuskit never makes: {path!r}")
        files[path] = content
    return Rpm(files, tags)


def header(raw: bytes, start: int) -> tuple[dict[int, str], int]:
    """(tag -> the first string, of those entries that are strings; the offset behind the header)."""
    if raw[start : start + 4] != MAGIC or len(raw) < start + 16:
        raise Refused("is a broken RPM package: a header is no header")
    count, size = struct.unpack_from(">II", raw, start + 8)
    values = start + 16 + 16 * count
    if values + size > len(raw):
        raise Refused("is a broken RPM package: cut off")
    found = {}
    for tag, kind, offset, _ in struct.iter_unpack(">IIII", raw[start + 16 : values]):
        if kind in STRINGS and offset < size:
            found[tag] = raw[values + offset : values + size].partition(b"\0")[0].decode(errors="replace")
    return found, values + size


def compare(what: str, content: bytes, digest: str | None) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise Refused(f"is a broken RPM package: its {what} has another digest", hint="get it once more")


def cpio_members(raw: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content. A member: magic, 13 numbers of 8 digits, name, content; padded to 4."""
    at = 0
    while True:
        if not CPIO.match(raw, at):
            raise Refused("is a broken RPM package: a member of its payload is no member")
        numbers = [int(raw[field : field + 8], 16) for field in range(at + 6, at + 110, 8)]
        mode, size, length = numbers[1], numbers[6], numbers[11]
        start = (at + 110 + length + 3) & ~3
        if start + size > len(raw):
            raise Refused("is a broken RPM package: its payload is cut off")
        name = raw[at + 110 : at + 110 + length].rstrip(b"\0").decode(errors="replace")
        if name == TRAILER:
            return
        yield name, mode, raw[start : start + size]
        at = (start + size + 3) & ~3
