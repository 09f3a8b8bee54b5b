# SPDX-License-Identifier: MIT
"""Packages of strangers: what dpkg or rpm would install is what was judged, and judging is bounded."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import struct
import tarfile
import time
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.run import Runner
from vbuskit.ci.verify import verify
from vbuskit.kmp.compressed import FORMS
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.keys import Key
from vbuskit.kmp.rpmfile import MAGIC, cpio_members, read_rpm
from vbuskit.kmp.signing import sign_module

ELF = b"\x7fELF" + bytes(2000)
CONTROL = b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for info, content in members:
            info.size = info.size or len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def named(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info, content


def member(name: str, content: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)


def deb(*data: bytes) -> bytes:
    parts = [member("data.tar.xz", lzma.compress(each, check=lzma.CHECK_CRC32)) for each in data]
    control = member("control.tar.xz", lzma.compress(tar(named("./control", CONTROL))))
    return b"!<arch>\n" + member("debian-binary", b"2.0\n") + control + b"".join(parts)


def module(content: bytes) -> bytes:
    return tar(named("./lib/modules/6/vbus.ko", content))


def test_of_two_contents_of_a_package_dpkg_installs_the_first_so_both_are_refused(
    key: Key, tmp_path: Path
) -> None:
    (tmp_path / "x.deb").write_bytes(deb(module(b"evil"), module(sign_module(ELF, key))))
    Runner()(["dpkg-deb", "-x", tmp_path / "x.deb", tmp_path / "root"])
    assert (tmp_path / "root/lib/modules/6/vbus.ko").read_bytes() == b"evil"
    with pytest.raises(Refused, match="no Debian package of the form"):
        verify(tmp_path / "x.deb", key.certificate)


def test_a_plain_tar_is_read_as_tarfile_reads_it() -> None:
    members = [named("./lib", kind=tarfile.DIRTYPE), named("./lib/a.ko", b"a" * 700), named("./e", b"")]
    assert read_deb(deb(tar(*members))).files == {"lib/a.ko": b"a" * 700, "e": b""}


def pax() -> bytes:
    info, content = named("./lib/modules/6/evil.ko", b"evil")
    info.pax_headers = {"path": "./harmless"}
    return tar((info, content), form=tarfile.PAX_FORMAT)


def changed(raw: bytes, at: int, new: bytes) -> bytes:
    """With another field in its first header, whose sum is right."""
    head = bytearray(raw[:512])
    head[at : at + len(new)] = new
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + raw[512:]


LONG = tar(named("./" + "n" * 200, b"x"))
BACKWARDS = b"\xff" * 11 + b"\0"  # a size below zero: CVE-2025-8194


@pytest.mark.parametrize(
    "data",
    [
        pax(),
        tar(named("./lib/../lib/a.ko")),
        tar(named("./lib//a.ko")),
        tar(named("./lib/./a.ko")),
        tar(named("./a"), named("a")),
        tar(named("./a", kind=tarfile.SYMTYPE)),
        tar(named("./a", kind=tarfile.LNKTYPE)),
        tar(named("./a", kind=tarfile.GNUTYPE_SPARSE)),
        changed(module(b"x"), 124, BACKWARDS),
        changed(module(b"x"), 124, b"77777777777\0"),
        changed(module(b"x"), 0, b"./evil.ko\0x"),
        changed(module(b"x"), 156, tarfile.DIRTYPE),
        changed(module(b"x"), 257, b"ustar\x0000"),
        module(b"x")[:-9000] + b"x" * 9000,
        module(b"x")[:700],
        LONG[:1024] * 5000 + LONG,
        b"",
    ],
    ids=range(17),
)
def test_what_could_be_taken_for_two_things_is_no_tar_of_ours(data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(Refused, match="Debian package"):
        read_deb(deb(data))
    assert time.process_time() - start < 10


@pytest.mark.parametrize("kind", FORMS)
def test_a_bomb_in_a_package_is_one_line(kind: str, key: Key, tmp_path: Path) -> None:
    bomb = FORMS[kind].pack(bytes((64 << 20) + 1))
    (tmp_path / "x.deb").write_bytes(deb(tar(named(f"./vbus.ko.{kind}", bomb))))
    with pytest.raises(Refused, match=r"vbus\.ko\..*: unpacks to more than 64 MiB"):
        verify(tmp_path / "x.deb", key.certificate)
    with pytest.raises(Refused, match="compressed part unpacks to more than 64 MiB"):
        read_deb(deb(bytes((64 << 20) + 1)))


def entry(name: bytes, mode: int, content: bytes) -> bytes:
    fields = (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    head += bytes(-len(head) % 4)
    return head + content + bytes(-len(content) % 4)


def header(*entries: tuple[int, bytes]) -> bytes:
    """Of an RPM: strings under their tags."""
    values = b"".join(value + b"\0" for _, value in entries)
    index, at = b"", 0
    for tag, value in entries:
        index += struct.pack(">IIII", tag, 6, at, 1)
        at += len(value) + 1
    return MAGIC + bytes(4) + struct.pack(">II", len(entries), len(values)) + index + values


def rpm(*members: bytes, more: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    payload = lzma.compress(b"".join(members) + entry(b"TRAILER!!!", 0, b""))
    digest = hashlib.sha256(payload).hexdigest().encode()
    tags = header((1124, b"cpio"), (1125, b"xz"), (5092, digest), *more)
    first = header((273, hashlib.sha256(tags).hexdigest().encode()))
    return b"\xed\xab\xee\xdb\x03".ljust(96, b"\0") + first + bytes(-len(first) % 8) + tags + payload


REGULAR, FOLDER = 0o100644, 0o040755


def test_an_rpm_is_read() -> None:
    assert read_rpm(rpm(entry(b"./lib", FOLDER, b""), entry(b"./lib/a.ko", REGULAR, b"x"))).files == {
        "lib/a.ko": b"x"
    }


def test_a_name_ends_where_rpm_ends_it() -> None:
    """It was a file `vbus.ko\\0txt` to us, no module, and the unsigned module vbus.ko to rpm."""
    assert list(read_rpm(rpm(entry(b"./vbus.ko\0txt", REGULAR, b"evil"))).modules()) == ["vbus.ko"]


@pytest.mark.parametrize(
    "package",
    [
        rpm(entry(b"./vbus.ko", FOLDER, b"evil")),  # rpm goes by the modes of its header
        rpm(entry(b"./lib//vbus.ko", REGULAR, b"")),
        rpm(entry(b"TRAILER!!!", 0, b""), entry(b"./vbus.ko", REGULAR, b"evil")),
        rpm(more=((5092, b"0" * 64),)),
        rpm(entry(b"./a", REGULAR, b"").replace(b"070701", b"070702")),
    ],
    ids=["folder", "slashes", "trailer", "twice", "crc"],
)
def test_what_rpm_could_take_for_something_else_is_refused(package: bytes) -> None:
    with pytest.raises(Refused, match="RPM package"):
        read_rpm(package)


def test_a_header_of_many_strings_costs_no_more_than_its_bytes() -> None:
    tags = struct.pack(">IIII", 999, 6, 0, 1) * 20_000
    raw = MAGIC + bytes(4) + struct.pack(">II", 20_000, 4 << 20) + tags + b"x" * (4 << 20)
    start = time.process_time()
    with pytest.raises(Refused):
        read_rpm(b"\xed\xab\xee\xdb\x03".ljust(96, b"\0") + raw)
    assert time.process_time() - start < 5


def test_what_is_no_file_or_far_too_large_is_not_read(key: Key, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.deb")
    (tmp_path / "x.ko").symlink_to("/dev/zero")
    for name in ("x.deb", "x.ko"):
        with pytest.raises(UsageError, match="no regular file"):
            verify(tmp_path / name, key.certificate)
    for suffix in ("deb", "rpm", "ko", "iso"):
        with (tmp_path / f"large.{suffix}").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(Refused, match="MiB, so it is"):
            verify(tmp_path / f"large.{suffix}", key.certificate)


def test_the_readers_of_real_packages_see_no_odd_thing(packages: dict[str, Artifact]) -> None:
    assert all(read_rpm(package.path.read_bytes()).files for package in packages.values())
    assert list(cpio_members(entry(b"TRAILER!!!", 0, b""))) == []
