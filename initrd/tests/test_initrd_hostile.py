# SPDX-License-Identifier: MIT
"""Images that are made to cost: time, memory, or an answer that the kernel would not give."""

from __future__ import annotations

import gzip
import lzma
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lz4.block
import pytest

from vbuskit.base import unpack
from vbuskit.base.errors import Refused
from vbuskit.ci.commands.initrd import signed_by
from vbuskit.initrd import image as images
from vbuskit.initrd import inspect, kmod, sample
from vbuskit.initrd.check import check
from vbuskit.initrd.image import Image, read_image

FOLDER = f"usr/lib/modules/{sample.RELEASE}"
TREE = sample.tree(sample.files())


@contextmanager
def bounded(seconds: float, mebibytes: int) -> Iterator[None]:
    """A machine under load gets several times of what it needs."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
        assert time.process_time() - start < seconds
    finally:
        tracemalloc.stop()


def read(folder: Path, raw: bytes) -> Image:
    (folder / "image").write_bytes(raw)
    return read_image(folder / "image")


def added(files: dict[str, bytes | str]) -> bytes:
    return sample.tree({**sample.files(), **files})


def test_members_without_number_are_refused(tmp_path: Path) -> None:
    with bounded(20, 60), pytest.raises(Refused, match="more than 1000 archives"):
        read(tmp_path, TREE + gzip.compress(bytes(1)) * 100_000)


def test_a_sparse_image_is_read_no_further_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vbuskit.initrd.archive.UNPACKED", 64 << 20)
    with (tmp_path / "image").open("wb") as file:
        file.write(TREE)
        file.truncate(1 << 40)
    with bounded(20, 30), pytest.raises(Refused, match="more than 64 MiB"):
        read_image(tmp_path / "image")


def test_the_limit_is_that_of_all_archives_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vbuskit.initrd.archive.UNPACKED", 8 << 20)
    piece = sample.padded(gzip.compress(sample.archive([sample.entry("a", bytes(3 << 20))])))
    read(tmp_path, piece * 2)
    with pytest.raises(Refused, match="more than 8 MiB"):
        read(tmp_path, piece * 3)


def test_padding_between_entries_costs_no_more_than_its_bytes() -> None:
    stream = unpack.Stream(iter([(bytes(4) + b"0701") * (1 << 20)]))
    with bounded(5, 60):
        for _ in range(10_000):
            assert stream.skip_nuls() and stream.take(4) == b"0701"


def test_blocks_of_lz4_that_hold_nothing_are_not_the_end_and_not_without_number(tmp_path: Path) -> None:
    """The kernel goes on behind them: an image would be one thing to it and another one to us."""
    magic, block = struct.pack("<I", unpack.LZ4_MAGIC), lz4.block.compress(TREE, store_size=False)
    nothing = struct.pack("<I", 1) + b"\0"
    packed = magic + nothing + struct.pack("<I", len(block)) + block
    assert check(read(tmp_path, packed))[0].holds
    for endless in (nothing, magic):
        with bounded(20, 60), pytest.raises(Refused, match="more than 10000 blocks"):
            read(tmp_path, magic + endless * 1_000_000)


def test_paths_of_many_files_are_not_made_at_once(tmp_path: Path) -> None:
    deep = f"{FOLDER}/{'d' * 200}"
    for _ in range(15):
        deep += f"/{'d' * 200}"
    names = sample.archive(sample.entry(f"L/{n}") for n in range(50_000))
    image = read(tmp_path, added({f"{deep}/x": b"", "L": f"/{deep}"}) + names)
    with bounded(30, 30):
        assert sum(1 for _ in image.files(sample.RELEASE)) > 50_000


def test_kernels_without_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="image: has modules of more than 16 kernels"):
        read(tmp_path, added({f"usr/lib/modules/{n}": sample.RELEASE for n in range(16)}))


def test_one_large_module_under_many_names_is_unpacked_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LOOKED_AT", 16 << 20)
    packed = lzma.compress(sample.modules()["vbus"] + bytes(4 << 20), check=lzma.CHECK_CRC32)
    names = [sample.entry(f"{FOLDER}/{n}", mode=sample.FOLDER) for n in range(100)]
    links = [
        sample.entry(f"{FOLDER}/{n}/vbus.ko.xz", packed * (not n), inode=1, links=2) for n in range(100)
    ]
    image = read(tmp_path, TREE + sample.archive([*names, *links]))
    said = list(inspect.lines(image, signed_by))
    assert sum("more modules of our names than" in line for line in said) > 90


def test_settings_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"image: conf/modules: has more than 8 MiB, and is no module"):
        read(tmp_path, added({"conf/modules": bytes((8 << 20) + 1)}))
    monkeypatch.setattr(images, "TEXT", 1 << 20)
    lists = [
        sample.entry(f"etc/modprobe.d/{n}.conf", b"#\n" * (1 << 15) * (not n), inode=1, links=2)
        for n in range(99)
    ]
    image = read(tmp_path, added({"etc/modprobe.d/x": b""}) + sample.archive(lists))
    wrong = next(finding.text for finding in check(image) if not finding.holds)
    assert wrong == "vbus: has more settings than vbuskit reads"


def test_a_line_of_a_list_that_is_nothing_but_odd_white_space_says_nothing(tmp_path: Path) -> None:
    odd = b"\x1c\n\xc2\x85\n\xe2\x80\xa8\nvblk\n"
    image = read(tmp_path, added({"conf/modules": odd, "etc/modprobe.d/a.conf": b"\x1c\nblacklist\x1c\n"}))
    assert image.listed() == {"vblk": "/conf/modules"} and image.forbidden() == {}


def test_aliases_that_take_long_to_compare_are_refused_or_passed_over() -> None:
    with bounded(20, 60), pytest.raises(Refused, match="more than 2000 aliases"):
        list(kmod.fitting(((f"*{n}*", "x") for n in range(100_000)), "vbus:vblk"))
    with bounded(5, 60):
        many = [("*" * 100_000, "x"), ("pci:" + "[ab]" * 100_000, "x"), ("vbus:v*k", "vblk")]
        assert list(kmod.fitting(iter(many), "vbus:vblk")) == ["vblk"]


def test_values_of_an_index_that_lie_over_each_other_are_refused() -> None:
    """256 nodes, each of which would read all that follows it."""
    children = struct.pack(">BB256I", 0, 255, *(kmod.VALUES | (1100 + 6 * n) for n in range(256)))
    head = struct.pack(">III", kmod.INDEX_MAGIC, 2 << 16, kmod.CHILDREN | 12)
    raw = (head + children).ljust(1100, b"\0") + struct.pack(">IBB", 15_000, 65, 0) * 20_000
    with bounded(20, 60), pytest.raises(Refused, match="no tree"):
        sum(1 for _ in kmod.index(raw))


def test_modinfo_without_end_is_refused() -> None:
    with bounded(5, 60), pytest.raises(Refused, match=r"more than 1 MiB of \.modinfo"):
        kmod.modinfo(sample.module(name="x" * (2 << 20)))


def test_what_follows_a_compressed_module_is_refused() -> None:
    packed = lzma.compress(sample.modules()["vbus"], check=lzma.CHECK_CRC32)
    assert kmod.unpacked_module("vbus.ko.xz", packed) == sample.modules()["vbus"]
    with pytest.raises(Refused, match="8 bytes after what is compressed"):
        kmod.unpacked_module("vbus.ko.xz", packed + bytes(8))
