# SPDX-License-Identifier: MIT
"""The reader of images: every form that kernels read, and every way to be broken."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from vbuskit.base import unpack
from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.base.run import Runner
from vbuskit.initrd import archive, sample
from vbuskit.initrd.archive import Archive, Entry, Segment
from vbuskit.initrd.image import read_image
from vbuskit.initrd.rootfs import Rootfs


def lz4_legacy(raw: bytes) -> bytes:
    blocks = [
        lz4.block.compress(raw[at : at + unpack.LZ4_BLOCK], store_size=False)
        for at in range(0, len(raw), unpack.LZ4_BLOCK)
    ]
    return struct.pack("<I", unpack.LZ4_MAGIC) + b"".join(struct.pack("<I", len(b)) + b for b in blocks)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda raw: raw,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda raw: lzma.compress(raw, check=lzma.CHECK_CRC32),
    "lzma": lambda raw: lzma.compress(raw, format=lzma.FORMAT_ALONE),
    "zstd": lambda raw: zstandard.ZstdCompressor().compress(raw),
    "lz4": lz4_legacy,
}
# What compresses a file of that name in place, as its Debian package is called.
PROGRAMS = {
    "gzip": ["gzip", "-n"],
    "bzip2": ["bzip2"],
    "xz": ["xz", "--check=crc32"],
    "lzma": ["xz", "--format=lzma"],
    "zstd": ["zstd", "-q", "-19", "--rm"],
    "lz4": ["lz4", "-q", "-l", "-m", "--rm"],
}
EARLY = sample.tree({"kernel/x86/microcode/GenuineIntel.bin": b"\xff" * 5000, "early_cpio": b"1"})
MAIN = sample.tree({"lib": "usr/lib", "usr/lib/modules/6/a.ko": b"A" * 70, "init": b"#!/bin/sh\n"})


def read(raw: bytes, wanted: Callable[[str], bool] = lambda name: True) -> tuple[list[Entry], list[Segment]]:
    whole = Archive(io.BytesIO(raw), wanted)
    return list(whole.entries()), whole.segments


def refused(raw: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(raw)
    return str(caught.value)


@pytest.mark.parametrize("compression", PACKERS)
def test_each_compression_is_read_behind_an_early_archive_and_padding(compression: str) -> None:
    raw = EARLY + bytes(512) + PACKERS[compression](MAIN)
    entries, segments = read(raw)
    assert [(each.compression, each.entries) for each in segments] == [("none", 5), (compression, 7)]
    assert segments[1].offset == len(EARLY) + 512
    assert segments[1].unpacked == len(MAIN) and segments[1].size == len(raw) - segments[1].offset
    assert {each.name: each.body for each in entries}["usr/lib/modules/6/a.ko"] == b"A" * 70


@pytest.mark.parametrize("first", [name for name in PACKERS if name != "lz4"])
@pytest.mark.parametrize("second", PACKERS)
def test_segments_come_in_any_order(first: str, second: str) -> None:
    packed = sample.padded(PACKERS[first](MAIN))
    _, segments = read(packed + sample.padded(PACKERS[second](EARLY)) + bytes(8) + EARLY)
    seen = [(each.compression, each.entries) for each in segments]
    assert seen == [(first, 7), (second, 5), ("none", 5)]


def test_several_archives_lie_in_one_compression() -> None:
    entries, segments = read(gzip.compress(EARLY + bytes(100) + MAIN))
    assert [(each.compression, each.entries, each.has_trailer) for each in segments] == [("gzip", 12, True)]
    assert [each.name for each in entries][-1] == "init"


def test_an_archive_without_a_trailer_is_read_and_said_to_have_none() -> None:
    _, segments = read(sample.archive([sample.entry("a", b"x")], trailer=False))
    assert [each.has_trailer for each in segments] == [False]


def test_a_checksum_is_compared() -> None:
    raw = sample.tree({"a/b": bytes(range(256)) * 9}, crc=True)
    assert len(read(raw)[0]) == 2
    broken = raw.replace(bytes(range(256)), bytes(255) + b"\1", 1)
    for wanted in (frozenset({"a/b"}), frozenset[str]()):
        with pytest.raises(Refused, match="checksum"):
            read(broken, wanted.__contains__)


def test_names_of_one_file_share_its_content_whichever_entry_brings_it() -> None:
    tree = Rootfs()
    bodies = [sample.entry("a", inode=7, links=2), sample.entry("b", b"content", inode=7, links=2)]
    other = [sample.entry("c", b"another archive", inode=7, links=2)]
    for entry in read(gzip.compress(sample.archive(bodies) + sample.archive(other)))[0]:
        tree.add(entry)
    assert [tree.content(name) for name in "abc"] == [b"content", b"content", b"another archive"]


def test_only_wanted_files_are_kept() -> None:
    entries, _ = read(MAIN, lambda name: name == "init")
    assert {each.name for each in entries if each.body is not None} == {"init", "lib"}


@pytest.mark.parametrize("compression", PROGRAMS)
def test_what_cpio_and_the_compressors_write_is_read(compression: str, tmp_path: Path) -> None:
    program = PROGRAMS[compression]
    missing = [name for name in ("cpio", program[0]) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed")
    (tmp_path / "tree/usr/bin").mkdir(parents=True)
    (tmp_path / "tree/usr/bin/tool").write_bytes(os.urandom(300_000))
    (tmp_path / "tree/bin").symlink_to("usr/bin")
    run = Runner()
    names = "bin\nusr\nusr/bin\nusr/bin/tool\n"
    for form in ("newc", "crc"):
        image = tmp_path / form
        run(["cpio", "-o", "-H", form, "--quiet", "-F", image], cwd=tmp_path / "tree", stdin=names)
        run([*program, image])
        made = next(path for path in tmp_path.glob(f"{form}*"))
        entries, segments = read(made.read_bytes())
        assert [each.compression for each in segments] == [compression]
        bodies = {each.name: each.body for each in entries}
        assert bodies["usr/bin/tool"] == (tmp_path / "tree/usr/bin/tool").read_bytes()
        assert bodies["bin"] == b"usr/bin"


@pytest.mark.parametrize("compression", PACKERS)
def test_an_image_cut_off_anywhere_but_between_entries_is_refused(compression: str) -> None:
    """The kernel asks for no trailer, so nobody sees that entries are missing which are not compressed."""
    plain = [sample.entry("a", b"12345"), sample.entry("b"), sample.entry("TRAILER!!!")]
    ends = [sum(map(len, plain[:count])) for count in range(1, 4)]
    raw = b"".join(plain) + PACKERS[compression](MAIN)
    assert len(read(raw)[0]) == 9
    for size in range(1, len(raw)):
        if size in ends or (compression == "none" and between_entries(size - ends[-1])):
            read(raw[:size])
            continue
        for wanted in (frozenset[str](), frozenset({"a", "init", "usr/lib/modules/6/a.ko"})):
            with pytest.raises(Refused, match="is cut off"):
                read(raw[:size], wanted.__contains__)


def between_entries(at: int) -> bool:
    return at > 0 and MAIN[at:].startswith(b"070701")


@given(
    at=st.integers(0, len(MAIN) - 1), value=st.integers(0, 255), compression=st.sampled_from(list(PACKERS))
)
def test_a_changed_byte_is_read_or_refused(at: int, value: int, compression: str) -> None:
    raw = bytearray(PACKERS[compression](MAIN))
    raw[at % len(raw)] = value
    try:
        read(bytes(raw))
    except Refused as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=300), st.sampled_from([b"", b"070701", b"\0", *unpack.METHODS]))
def test_foreign_bytes_are_refused(raw: bytes, start: bytes) -> None:
    try:
        assert read(start + raw)[0] == []
    except Refused as error:
        assert str(error)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (bytes(8), "nothing but padding"),
        (b"\x7fELF", "neither cpio nor a compression"),
        (b"\x04\x22\x4d\x18more", "lz4 in a format that no kernel reads"),
        (b"070707" + MAIN[6:], "no cpio header"),
        (bytes(2) + MAIN, "not at a multiple of 4"),
        (MAIN[:6] + b"0000 _+x" + MAIN[14:], "numbers are none"),
        (MAIN[:94] + b"00000000" + MAIN[102:], "name has 0 bytes"),
        (MAIN[:94] + b"ffffffff" + MAIN[102:], "name has 4294967295 bytes"),
        (sample.entry("init")[:54] + b"ffffffff" + sample.entry("init")[62:], "more than 67108864"),
        (sample.entry("link", b"x" * 4097, sample.LINK), "more than 4096"),
        (sample.entry("init").replace(b"init\0", b"inits"), "name of a cpio entry has no end"),
        (gzip.compress(b"no cpio"), "gzip at byte 0: byte 0: no cpio archive"),
        (gzip.compress(MAIN)[:-9], "gzip at byte 0: is cut off"),
        (gzip.compress(MAIN[:-100]), "gzip at byte 0: byte 952: is cut off"),
        (lzma.compress(MAIN), "the kernel does not know"),
        (b"\x89LZO", "lzo is not read"),
        (struct.pack("<II", unpack.LZ4_MAGIC, 1 << 30), "a block of 1073741824 bytes"),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, words: str) -> None:
    assert words in refused(raw)


@pytest.mark.parametrize(("compression", "library"), [("zstd", "zstandard"), ("lz4", "lz4.block")])
def test_a_library_that_is_not_installed_is_named(
    compression: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = PACKERS[compression](MAIN)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(Blocked, match=f"^{compression} at byte 0: Python has no") as caught:
        read(packed)
    assert caught.value.hint == f"apt install python3-{library.partition('.')[0]}"


def zstd_bomb(size: int) -> bytes:
    """One frame of blocks of 128 KiB that are four bytes each (RFC 8878, 3.1.1: RLE blocks)."""
    blocks = size >> 17
    head = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x38"  # no checksum, no size; a window of 128 KiB
    rle = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return head + rle * blocks


def gzip_bomb(size: int) -> bytes:
    return gzip.compress(bytes(size), 1)


@pytest.mark.parametrize("bomb", [zstd_bomb, gzip_bomb])
def test_a_bomb_is_refused_at_the_limit_in_little_memory(
    bomb: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "UNPACKED", 128 << 20)
    raw = bomb(129 << 20)
    tracemalloc.start()
    try:
        assert "unpacks to more than 128 MiB" in refused(raw)
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", ["ENTRIES", "NAMES"])
def test_entries_without_number_are_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, limit, 100)
    assert "entries" in refused(sample.archive(sample.entry(f"file{n}") for n in range(101)))


def test_a_folder_a_fifo_and_a_missing_file_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(UsageError, match="no regular file"):
            read_image(path)
    with pytest.raises(Blocked, match="No such file"):
        read_image(tmp_path / "nothing")


def test_errors_name_the_image(tmp_path: Path) -> None:
    (tmp_path / "initrd.img").write_bytes(MAIN[:100])
    with pytest.raises(Refused, match=r"initrd\.img: byte 0: is cut off"):
        read_image(tmp_path / "initrd.img")


def test_nothing_is_written_while_an_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads out of the image leads nowhere."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    image = tmp_path / "image"
    image.write_bytes(
        sample.archive([sample.entry("../../escaped", b"x"), sample.entry("/etc", mode=sample.FOLDER)])
    )
    tree = read_image(image).tree
    assert isinstance(tree.find("escaped"), object) and tree.names("/") == ["escaped", "etc"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["image"]
