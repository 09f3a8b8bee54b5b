# SPDX-License-Identifier: MIT
"""Read an RPM without rpm: what `verify` looks into may come from anybody.

Format: a lead of 96 bytes; a header with digests, padded to 8; a header with all that rpm knows of it; a
cpio archive (newc), here always in xz. A header is magic, 4 bytes, number of entries, size of their values;
an entry is tag, type, offset and count, all 32 bits, big-endian. Whatever rpm and this reader could take for
two different things is refused.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vbuskit.base import cpio
from vbuskit.base.errors import Refused
from vbuskit.base.unpack import Stream
from vbuskit.kmp.compressed import MODULES
from vbuskit.kmp.debfile import LIMIT, is_odd, unpacked

LEAD = b"\xed\xab\xee\xdb\x03"
MAGIC = b"\x8e\xad\xe8\x01"
# Tags of the first header and of the second one.
SHA256_OF_HEADER = 273
NAME, VERSION, RELEASE, ARCHITECTURE = 1000, 1001, 1002, 1022
PAYLOAD_FORMAT, PAYLOAD_COMPRESSOR, PAYLOAD_SHA256 = 1124, 1125, 5092
DIGESTS = frozenset({1035, PAYLOAD_SHA256, 5097})  # over a file, the payload, the payload before xz
STRINGS = (6, 8)  # types: one string, a list of strings
MOST_WORDS = 1 << 20  # bytes of text of one header


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
    for name, mode, content in cpio_members(unpacked(raw[payload:], LIMIT, "RPM package")):
        path = name.removeprefix("./")
        # rpm goes by the modes in its header: a folder here may be a file there.
        plain = stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not content)
        if not plain or path in files or is_odd(path):
            raise Refused(f"is an RPM package with a member that vbuskit never makes: {path!r}")
        if stat.S_ISREG(mode):
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
    found: dict[int, str] = {}
    words = 0
    for tag, kind, offset, _ in struct.iter_unpack(">IIII", raw[start + 16 : values]):
        if kind in STRINGS and offset < size:
            if tag in found:
                raise Refused("is a broken RPM package: a header says something twice")
            end = raw.find(b"\0", values + offset, values + size)
            words += end - values - offset
            if end < 0 or words > MOST_WORDS:
                raise Refused("is a broken RPM package: a text of a header has no end")
            found[tag] = raw[values + offset : end].decode(errors="replace")
    return found, values + size


def compare(what: str, content: bytes, digest: str | None) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise Refused(f"is a broken RPM package: its {what} has another digest", hint="get it once more")


def cpio_members(raw: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content."""
    stream = Stream(iter([raw]))
    try:
        while True:
            header = cpio.parse(stream)
            name = cpio.name_of(stream, header)
            content = stream.take(header.size)
            if len(content) < header.size or header.checksum is not None:
                raise cpio.cut_off(header)
            cpio.finish(stream, header)
            if name == cpio.TRAILER:
                break
            yield name, header.mode, content
        if stream.skip_nuls():
            raise Refused(f"byte {stream.at}: something follows the end")
    except Refused as error:
        raise Refused(f"is a broken RPM package: its payload, {error}") from error
