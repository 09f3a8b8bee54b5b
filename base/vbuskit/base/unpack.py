# SPDX-License-Identifier: MIT
"""Streams of bytes, out of a file or of any compression that kernels read; bounded in memory and time."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from vbuskit.base.errors import Blocked, Refused

CHUNK = 1 << 20  # bytes read, and bytes unpacked, at a time
# zstd unpacks all blocks that it is given, 128 KiB each, and each may be packed into 4 bytes.
ZSTD_PIECE = 1 << 10
# Bytes of a dictionary or window: the kernel takes zstd's up to this, and xz -9 needs half.
MEMORY = 128 << 20
LZ4_BLOCK = 8 << 20  # unpacked; lz4 -l has no other size
LZ4_PACKED = LZ4_BLOCK + LZ4_BLOCK // 255 + 16  # what a block that cannot be packed becomes
LZ4_MAGIC = 0x184C2102
LZ4_BLOCKS = 10_000  # of one stream, magic numbers included: 2 GiB need 256
NULS = re.compile(rb"\0*")


class Budget:
    """What may be spent on one file in all, however its parts share it out."""

    def __init__(self, most: int, otherwise: str) -> None:
        self._left, self._otherwise = most, otherwise

    def spend(self, amount: int) -> None:
        """Refused, as `otherwise` says, where that is more than what is left."""
        self._left -= amount
        if self._left < 0:
            raise Refused(self._otherwise)


class Stream:
    """Chunks of bytes as one row: exact reads, skips, and bytes given back."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._chunk, self._next, self._before = chunks, b"", 0, 0

    @property
    def at(self) -> int:
        """Bytes taken so far."""
        return self._before + self._next

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end; they stay."""
        while len(self._chunk) - self._next < size:
            more = next(self._chunks, b"")
            if not more:
                break
            self._before += self._next
            self._chunk, self._next = self._chunk[self._next :] + more, 0
        return self._chunk[self._next : self._next + size]

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        taken = self._chunk[self._next : self._next + size]
        self._next += len(taken)
        if len(taken) == size:
            return taken
        parts, left = [taken], size - len(taken)
        while left and self._fill():
            parts.append(self._chunk[:left])
            self._next = len(parts[-1])
            left -= self._next
        return b"".join(parts)

    def some(self, size: int) -> bytes:
        """Up to `size` bytes, whatever is at hand; none at the end."""
        if self._next == len(self._chunk):
            self._fill()
        return self.take(min(size, len(self._chunk) - self._next))

    def skip(self, size: int) -> int:
        """Bytes skipped: `size`, fewer only at the end."""
        left = size
        while left:
            step = min(left, len(self._chunk) - self._next)
            self._next += step
            left -= step
            if left and not self._fill():
                break
        return size - left

    def skip_nuls(self) -> bool:
        """Whether anything follows the NUL bytes that are next."""
        while True:
            found = NULS.match(self._chunk, self._next)
            self._next = found.end() if found else self._next
            if self._next < len(self._chunk):
                return True
            if not self._fill():
                return False

    def give_back(self, unused: bytes) -> None:
        """Bytes that were taken last, so that they are taken next."""
        if unused:
            self._before = self.at - len(unused)
            self._chunk, self._next = unused + self._chunk[self._next :], 0

    def _fill(self) -> bool:
        """The next chunk in place of this one, all of which was taken."""
        self._before += len(self._chunk)
        self._chunk, self._next = next(self._chunks, b""), 0
        return bool(self._chunk)


Method = Callable[[Stream], Iterator[bytes]]


class Decompressor(Protocol):
    """What `bz2` and `lzma` have."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Gzip:
    """One gzip member, as `Decompressor`."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def streamed(decompressor: Decompressor, packed: Stream) -> Iterator[bytes]:
    """One compressed stream; what comes after it stays in `packed`."""
    while not decompressor.eof:
        data = packed.some(CHUNK) if decompressor.needs_input else b""
        if decompressor.needs_input and not data:
            raise EOFError
        out = decompressor.decompress(data, CHUNK)
        if out:
            yield out
    packed.give_back(decompressor.unused_data)


def gzip(packed: Stream) -> Iterator[bytes]:
    return streamed(Gzip(), packed)


def bzip2(packed: Stream) -> Iterator[bytes]:
    return streamed(bz2.BZ2Decompressor(), packed)


def lzma_alone(packed: Stream) -> Iterator[bytes]:
    return streamed(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY), packed)


def xz(packed: Stream) -> Iterator[bytes]:
    return streamed(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY), packed)


def xz_of_kernels(packed: Stream) -> Iterator[bytes]:
    head = packed.peek(8)
    if len(head) == 8 and head[7] > 1:
        raise Refused(
            "has a check that the kernel does not know; it knows crc32",
            hint="compress with xz --check=crc32",
        )
    return xz(packed)


def zstd(packed: Stream) -> Iterator[bytes]:
    """One frame."""
    try:
        import zstandard
    except ImportError:
        raise Blocked("Python has no zstandard", hint="apt install python3-zstandard") from None
    frame = zstandard.ZstdDecompressor(max_window_size=MEMORY).decompressobj()
    try:
        while not frame.eof:
            data = packed.some(ZSTD_PIECE)
            if not data:
                raise EOFError
            out = frame.decompress(data)
            if out:
                yield out
    except zstandard.ZstdError as error:
        raise ValueError(str(error).removeprefix("zstd decompressor error: ")) from error
    packed.give_back(frame.unused_data)


def lz4(packed: Stream) -> Iterator[bytes]:
    """The legacy format (lz4 -l): a magic number, then sizes and blocks; nothing marks the end."""
    try:
        import lz4.block
    except ImportError:
        raise Blocked("Python has no lz4", hint="apt install python3-lz4") from None
    blocks = Budget(LZ4_BLOCKS, f"has more than {LZ4_BLOCKS} blocks")
    while head := packed.take(4):
        blocks.spend(1)
        size = int.from_bytes(head, "little")
        if size == LZ4_MAGIC and len(head) == 4:
            continue
        if size == 0:  # padding
            return
        if len(head) < 4:
            raise EOFError
        if size > LZ4_PACKED:
            raise ValueError(f"a block of {size} bytes")
        block = packed.take(size)
        if len(block) < size:
            raise EOFError
        try:
            out = lz4.block.decompress(block, uncompressed_size=LZ4_BLOCK)
        except lz4.block.LZ4BlockError as error:
            raise ValueError(str(error).lower()) from error
        if out:  # nothing would be the end
            yield out


def lzo(packed: Stream) -> Iterator[bytes]:
    raise Refused("lzo is not read by vbuskit", hint="build the image with zstd, xz, gzip or lz4")


# The first two bytes -> its name and its reader; what lib/decompress.c of the Linux sources goes by.
METHODS: dict[bytes, tuple[str, Method]] = {
    b"\x1f\x8b": ("gzip", gzip),
    b"\x1f\x9e": ("gzip", gzip),
    b"BZ": ("bzip2", bzip2),
    b"\x5d\x00": ("lzma", lzma_alone),
    b"\xfd\x37": ("xz", xz_of_kernels),
    b"\x89\x4c": ("lzo", lzo),
    b"\x02\x21": ("lz4", lz4),
    b"\x28\xb5": ("zstd", zstd),
}


def unpacked(magic: bytes, packed: Stream) -> Iterator[bytes]:
    """What the method of `magic` makes of `packed`; Refused where the data are damaged or end too early."""
    return checked(METHODS[magic][1](packed))


def checked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except EOFError:
        raise Refused("is cut off") from None
    except (ValueError, OSError, zlib.error, lzma.LZMAError) as error:
        raise Refused(f"is damaged: {error}") from error


def whole(method: Method, raw: bytes, most: int) -> bytes:
    """What `raw` unpacks to; Refused for more than `most` bytes, and where anything follows."""
    packed, parts = Stream(iter([raw])), []
    budget = Budget(most, f"unpacks to more than {most >> 20} MiB")
    for part in checked(method(packed)):
        budget.spend(len(part))
        parts.append(part)
    if packed.at < len(raw):
        raise Refused(f"has {len(raw) - packed.at} bytes after what is compressed")
    return b"".join(parts)
