# SPDX-License-Identifier: MIT
"""Compressed kernel modules, as the kernel's own decompressor reads them: gzip, xz and zstd.

The signature lies inside: kernel and kmod unpack first and look for it then.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from vbuskit.base.errors import Refused

MOST = 64 << 20  # bytes of an unpacked module; the largest of Debian's has 20 MiB with debug information
MEMORY = 128 << 20  # bytes that unpacking may take beside the module itself
PIECE = 1 << 10  # of zstd at once: 32 MiB of zeros when unpacked, at most
# The kernel's xz has no CRC64, and a dictionary of the size that scripts/Makefile.modinst asks for.
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to compress; `pack` gives equal bytes for equal bytes."""

    magic: bytes
    pack: Callable[[bytes], bytes]
    unpack: Callable[[bytes], bytes]


def pack_gz(raw: bytes) -> bytes:
    return gzip.compress(raw, mtime=0)


def unpack_gz(packed: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        raw = stream.decompress(packed, MOST + 1)
    except zlib.error as error:
        raise Refused(f"is no whole gzip file: {error}") from error
    return whole(raw, ended=stream.eof, rest=stream.unused_data)


def pack_xz(raw: bytes) -> bytes:
    return lzma.compress(raw, check=lzma.CHECK_CRC32, filters=XZ)


def unpack_xz(packed: bytes) -> bytes:
    stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY)
    try:
        raw = stream.decompress(packed, max_length=MOST + 1)
    except lzma.LZMAError as error:
        raise Refused(f"is no whole xz file: {error}") from error
    return whole(raw, ended=stream.eof, rest=stream.unused_data)


def pack_zst(raw: bytes) -> bytes:
    import zstandard  # only who compresses so needs it

    return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(raw)


def unpack_zst(packed: bytes) -> bytes:
    import zstandard

    stream = zstandard.ZstdDecompressor(max_window_size=MEMORY).decompressobj()
    raw = bytearray()
    try:
        for start in range(0, len(packed), PIECE):
            raw += stream.decompress(packed[start : start + PIECE])
            if stream.eof or len(raw) > MOST:
                rest = stream.unused_data + packed[start + PIECE :]
                return whole(bytes(raw), ended=stream.eof, rest=rest)
    except zstandard.ZstdError as error:
        raise Refused(f"is no whole zstd file: {error}") from error
    return whole(bytes(raw), ended=False, rest=b"")


FORMS = {
    "gz": Form(b"\x1f\x8b", pack_gz, unpack_gz),
    "xz": Form(b"\xfd7zXZ\0", pack_xz, unpack_xz),
    "zst": Form(b"\x28\xb5\x2f\xfd", pack_zst, unpack_zst),
}


# What may follow the name of a module in a package; a file of another name is no module to modprobe either.
MODULES = (".ko", *(f".ko.{name}" for name in FORMS))


def form_of(content: bytes) -> str | None:
    """`gz`, `xz`, `zst`, or None for what is not compressed, or in a way that is not known here."""
    return next((name for name, form in FORMS.items() if content.startswith(form.magic)), None)


def unpacked(content: bytes) -> bytes:
    name = form_of(content)
    return FORMS[name].unpack(content) if name else content


def whole(raw: bytes, ended: bool, rest: bytes) -> bytes:
    if len(raw) > MOST:
        raise Refused(f"is more than {MOST >> 20} MiB when unpacked, so it is no kernel module")
    if not ended:
        raise Refused("is compressed and cut off")
    if rest:
        raise Refused(f"has {len(rest)} bytes after what is compressed")
    return raw
