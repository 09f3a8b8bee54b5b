# SPDX-License-Identifier: MIT
"""Read what the kernel unpacks into its first root file system; never onto a disk, never all at once.

Documentation/driver-api/early-userspace/buffer-format.rst of the Linux sources: any number of cpio archives,
newc or crc, each as it is or compressed, with NUL bytes between them. Where that text is silent the kernel's
own reader (init/initramfs.c) decides: it wants every header at a multiple of four, of the image or of what
was unpacked, and it takes several archives within one compression.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.initrd.unpack import CHUNK, METHODS, Stream, unpacked

HEADER = 110
FIELDS = struct.Struct(">13I")
NEWC, CRC = b"070701", b"070702"
TRAILER = "TRAILER!!!"
PATH_MAX = 4096

UNPACKED = 2 << 30  # bytes of a whole image: several times what the largest ones have
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


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a cpio header that the kernel looks at, and where it is."""

    at: int
    inode: tuple[int, int, int]
    mode: int
    links: int
    size: int
    name_size: int
    checksum: int | None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """An image for reading; anything that is not a regular file is refused before it can block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Blocked(
            f"{path}: cannot be read: {error.strerror}", hint="give the path of an image"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path}: is no regular file", hint="give the image itself")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


class Archive:
    """The entries of one image, in order; `segments` grows as they are read."""

    def __init__(self, file: BinaryIO, wanted: Callable[[str], bool]) -> None:
        self.segments: list[Segment] = []
        self._image = Stream(iter(lambda: read(file), b""))
        self._wanted = wanted
        self._unpacked = self._entries = self._names = self._archives = 0

    def entries(self) -> Iterator[Entry]:
        """Refused, with the offset, where the kernel would stop or a limit is reached."""
        while padding(self._image):
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
            padding(self._image)

    def _compressed(self, offset: int, magic: bytes) -> Iterator[Entry]:
        segment = self._begin(offset, METHODS[magic][0])
        stream = Stream(self._counted(unpacked(magic, self._image), segment))
        try:
            while padding(stream):
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
        self.segments.append(Segment(offset, compression))
        self._archives += 1
        return self.segments[-1]

    def _counted(self, chunks: Iterator[bytes], segment: Segment) -> Iterator[bytes]:
        for chunk in chunks:
            segment.unpacked += len(chunk)
            self._unpacked += len(chunk)
            if self._unpacked > UNPACKED:
                raise Refused(f"unpacks to more than {UNPACKED >> 20} MiB, the limit of this reader")
            yield chunk

    def _entry(self, stream: Stream, segment: Segment) -> Entry | None:
        """The next entry; None for a trailer."""
        header = parse(stream)
        name = self._name(stream, header)
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

    def _name(self, stream: Stream, header: Header) -> str:
        self._entries += 1
        self._names += header.name_size
        if self._entries > ENTRIES or self._names > NAMES:
            raise Refused(f"has more than {ENTRIES} entries, or more than {NAMES >> 20} MiB of names")
        raw = stream.take(header.name_size)
        if len(raw) < header.name_size:
            raise cut_off(header)
        if raw[-1]:
            raise Refused(f"byte {header.at}: the name of a cpio entry has no end")
        finish(stream, header)
        return raw.split(b"\0", 1)[0].decode(errors="backslashreplace")

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


def parse(stream: Stream) -> Header:
    """The header that begins here; 13 numbers of 8 hexadecimal digits after the magic."""
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
    try:
        fields = FIELDS.unpack(bytes.fromhex(raw[6:].decode("ascii")))
    except (ValueError, struct.error):
        raise Refused(f"byte {at}: a cpio header whose numbers are none") from None
    inode, mode, _, _, links, _, size, major, minor, _, _, name_size, checksum = fields
    if not 0 < name_size <= PATH_MAX:
        raise Refused(f"byte {at}: a cpio entry whose name has {name_size} bytes")
    crc = checksum if raw[:6] == CRC else None
    return Header(at, (inode, major, minor), mode, links, size, name_size, crc)


def finish(stream: Stream, header: Header) -> None:
    """To the next multiple of four, where the next header may be."""
    left = -stream.at % 4
    if stream.skip(left) < left:
        raise cut_off(header)


def pieces(stream: Stream, header: Header) -> Iterator[bytes]:
    """The content, a chunk at a time."""
    left = header.size
    while left:
        piece = stream.some(min(left, CHUNK))
        if not piece:
            raise cut_off(header)
        left -= len(piece)
        yield piece


def padding(stream: Stream) -> bool:
    """Skip NUL bytes; whether anything is left."""
    while head := stream.peek(1):
        if head != b"\0":
            return True
        stream.give_back(stream.some(CHUNK).lstrip(b"\0"))
    return False


def cut_off(header: Header) -> Refused:
    return Refused(
        f"byte {header.at}: is cut off within this entry", hint="build the image again; is its disk full?"
    )


def read(file: BinaryIO) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise Blocked(f"cannot be read: {error.strerror}") from error
