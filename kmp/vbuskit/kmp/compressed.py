# SPDX-License-Identifier: MIT
"""Compressed kernel modules, as the kernel's own decompressor reads them: gzip, xz and zstd.

The signature lies inside: kernel and kmod unpack first and look for it then.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from dataclasses import dataclass

from vbuskit.base import unpack

MOST = 64 << 20  # bytes of an unpacked module; the largest of Debian's has 20 MiB with debug information
# The kernel's xz has no CRC64, and a dictionary of the size that scripts/Makefile.modinst asks for.
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to compress; `pack` gives equal bytes for equal bytes."""

    magic: bytes
    pack: Callable[[bytes], bytes]
    unpack: unpack.Method


def pack_gz(raw: bytes) -> bytes:
    return gzip.compress(raw, mtime=0)


def pack_xz(raw: bytes) -> bytes:
    return lzma.compress(raw, check=lzma.CHECK_CRC32, filters=XZ)


def pack_zst(raw: bytes) -> bytes:
    import zstandard  # only who compresses so needs it

    return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(raw)


FORMS = {
    "gz": Form(b"\x1f\x8b", pack_gz, unpack.gzip),
    "xz": Form(b"\xfd7zXZ\0", pack_xz, unpack.xz),
    "zst": Form(b"\x28\xb5\x2f\xfd", pack_zst, unpack.zstd),
}


# What may follow the name of a module in a package; a file of another name is no module to modprobe either.
MODULES = (".ko", *(f".ko.{name}" for name in FORMS))


def form_of(content: bytes) -> str | None:
    """`gz`, `xz`, `zst`, or None for what is not compressed, or in a way that is not known here."""
    return next((name for name, form in FORMS.items() if content.startswith(form.magic)), None)


def unpacked(content: bytes) -> bytes:
    """Refused for a cut, for anything behind the end, and for more than a module may have."""
    name = form_of(content)
    return unpack.whole(FORMS[name].unpack, content, MOST) if name else content
