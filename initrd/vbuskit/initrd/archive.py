# SPDX-License-Identifier: MIT
"""Read what the kernel unpacks into its first root file system; never onto a disk, never all at once.

Documentation/driver-api/early-userspace/buffer-format.rst of the Linux sources: any number of cpio archives,
newc or crc, each as it is or compressed, with NUL bytes between them. Where that text is silent the kernel's
own reader (init/initramfs.c) decides: it wants every header at a multiple of four, of the image or of what
was unpacked, and it takes several archives within one compression.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from vbuskit.base.cpio import PATH_MAX, TRAILER, Header, cut_off, finish, name_of, parse
from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.unpack import CHUNK, METHODS, Budget, Stream, unpacked

UNPACKED = 2 << 30  # bytes of an image, and of all that is in it: several times what the largest ones have
SEGMENTS = 1_000
ENTRIES = 200_000
NAMES = 32 << 20  # bytes of all names
BODY = 64 << 20  # bytes of one file that is kept


@dataclass(slots=True)
class Segment:
    """One run of archives: where it begins, what it is packed with, and what was found in it."""

    offset: int
    compression: str  # "none" or a name of unpack.METHODS
    size: int = 0  # bytes in the image
    unpacked: int = 0
    entries: int = 0
    has_trailer: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `body` is what a symbolic link says, or a wanted file's content, and None for all else."""

    name: str
    mode: int
    size: int
    body: bytes | None
    link: tuple[int, ...] | None  # equal in all names of one file; the content may come with any of them


class Archive:
    """The entries of one image, in order; `segments` grows as they are read."""

    def __init__(self, file: BinaryIO, wanted: Callable[[str], bool]) -> None:
        self.segments: list[Segment] = []
        self._wanted, self._archives = wanted, 0
        self._bytes = Budget(UNPACKED, f"unpacks to more than {UNPACKED >> 20} MiB")
        self._segments = Budget(SEGMENTS, f"has more than {SEGMENTS} archives")
        self._entries = Budget(ENTRIES, f"has more than {ENTRIES} entries")
        self._names = Budget(NAMES, f"has entries with more than {NAMES >> 20} MiB of names")
        self._image = Stream(self._counted(iter(lambda: read(file), b"")))

    def entries(self) -> Iterator[Entry]:
        """Refused, with the offset, where the kernel would stop or a limit is reached."""
        while self._image.skip_nuls():
            offset, magic = self._image.at, self._image.peek(2)
            if magic[:1] == b"0":
                yield from self._plain(offset)
            elif magic in METHODS:
                yield from self._compressed(offset, magic)
            else:
                raise Refused(self._unknown(offset))
        if not self.segments:
            raise Refused("is empty" if not self._image.at else "has nothing but padding")

    def _plain(self, offset: int) -> Iterator[Entry]:
        segment = self._begin(offset, "none")
        while self._image.peek(1) == b"0":
            entry = self._entry(self._image, segment)
            segment.size = segment.unpacked = self._image.at - offset
            if entry is None:
                return
            yield entry
            self._image.skip_nuls()

    def _compressed(self, offset: int, magic: bytes) -> Iterator[Entry]:
        segment = self._begin(offset, METHODS[magic][0])
        stream = Stream(self._counted(unpacked(magic, self._image), segment))
        try:
            while stream.skip_nuls():
                if stream.peek(1) != b"0":
                    raise Refused(f"byte {stream.at}: no cpio archive")
                entry = self._entry(stream, segment)
                if entry is not None:
                    yield entry
            if not segment.unpacked:
                raise Refused("is cut off: nothing is in it")
        except (Refused, Blocked) as error:
            raise type(error)(f"{segment.compression} at byte {offset}: {error}", hint=error.hint) from error
        segment.size = self._image.at - offset

    def _begin(self, offset: int, compression: str) -> Segment:
        self._segments.spend(1)
        self.segments.append(Segment(offset, compression))
        self._archives += 1
        return self.segments[-1]

    def _counted(self, chunks: Iterator[bytes], segment: Segment | None = None) -> Iterator[bytes]:
        for chunk in chunks:
            self._bytes.spend(len(chunk))
            if segment:
                segment.unpacked += len(chunk)
            yield chunk

    def _entry(self, stream: Stream, segment: Segment) -> Entry | None:
        """The next entry; None for a trailer."""
        header = parse(stream)
        self._entries.spend(1)
        self._names.spend(header.name_size)
        name = name_of(stream, header)
        if name == TRAILER:
            finish(stream, header)
            segment.has_trailer = True
            self._archives += 1
            return None
        segment.entries += 1
        segment.has_trailer = False
        is_file = stat.S_ISREG(header.mode)
        kept = stat.S_ISLNK(header.mode) or (is_file and self._wanted(name))
        body = self._body(stream, header, kept)
        finish(stream, header)
        link = (self._archives, *header.inode) if is_file and header.links > 1 else None
        return Entry(name, header.mode, header.size, body, link)

    def _body(self, stream: Stream, header: Header, kept: bool) -> bytes | None:
        """The content where it is kept; in any case the stream is behind it, and its checksum is right."""
        limit = PATH_MAX if stat.S_ISLNK(header.mode) else BODY
        if kept and header.size > limit:
            raise Refused(f"byte {header.at}: an entry of {header.size} bytes, more than {limit}")
        has_sum = header.checksum is not None and stat.S_ISREG(header.mode)
        if not kept and not has_sum:
            if stream.skip(header.size) < header.size:
                raise cut_off(header)
            return None
        parts = [b"".join(pieces(stream, header))] if kept else pieces(stream, header)
        if has_sum and sum(sum(part) for part in parts) & 0xFFFFFFFF != header.checksum:
            raise Refused(f"byte {header.at}: the content of a cpio entry does not have its checksum")
        return parts[0] if isinstance(parts, list) else None

    def _unknown(self, offset: int) -> str:
        magic = self._image.peek(4)
        if magic == b"\x04\x22\x4d\x18":
            return f"byte {offset}: lz4 in a format that no kernel reads; compress with lz4 -l"
        if len(magic) < 4:
            return f"byte {offset}: is cut off"
        return f"byte {offset}: is neither cpio nor a compression that kernels read ({magic.hex(' ')})"


def pieces(stream: Stream, header: Header) -> Iterator[bytes]:
    """The content, a chunk at a time."""
    left = header.size
    while left:
        piece = stream.some(min(left, CHUNK))
        if not piece:
            raise cut_off(header)
        left -= len(piece)
        yield piece


def read(file: BinaryIO) -> bytes:
    try:
        return file.read(CHUNK) or b""  # None: a file that would have to be waited for
    except OSError as error:
        raise Blocked(f"cannot be read: {error.strerror}") from error
