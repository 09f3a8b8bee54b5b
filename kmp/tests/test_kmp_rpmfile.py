# SPDX-License-Identifier: MIT
"""The reader of RPM packages sees what cpio sees, and takes nothing that vbuskit does not make."""

from __future__ import annotations

import lzma
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused
from vbuskit.base.run import Runner
from vbuskit.kmp.rpmfile import cpio_members, read_rpm

ODD = """\
Name: odd
Version: 1
Release: 1
Summary: odd
License: MIT
BuildArch: noarch
%description
Odd.
%install
mkdir -p %{buildroot}/lib/modules
ln -s /etc/passwd %{buildroot}/lib/modules/vbus.ko
%files
/lib/modules/vbus.ko
"""


def odd(folder: Path, payload: str) -> bytes:
    (folder / "odd.spec").write_text(ODD)
    words = ["--define", f"_topdir {folder}", "--define", f"_binary_payload {payload}"]
    Runner()(["rpmbuild", "-bb", *words, folder / "odd.spec"])
    return next(folder.glob("RPMS/noarch/*.rpm")).read_bytes()


def test_our_reader_sees_the_files_that_cpio_sees(packages: dict[str, Artifact], tmp_path: Path) -> None:
    for name, package in packages.items():
        into = tmp_path / name
        into.mkdir()
        Runner()(["sh", "-c", 'rpm2cpio "$1" | cpio -idm --quiet', "sh", package.path], cwd=into)
        theirs = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
        assert theirs
        assert read_rpm(package.path.read_bytes()).files == theirs


def test_a_link_in_place_of_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"a member that vbuskit never makes: 'lib/modules/vbus\.ko'"):
        read_rpm(odd(tmp_path, "w6.xzdio"))


def test_a_payload_that_is_not_in_xz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="its payload is no cpio in xz"):
        read_rpm(odd(tmp_path, "w9.gzdio"))


def test_a_package_that_is_cut_off_anywhere_is_refused(kmp: Path) -> None:
    raw = kmp.read_bytes()
    for end in range(0, len(raw), 97):
        with pytest.raises(Refused):
            read_rpm(raw[:end])


def test_another_payload_behind_the_same_header_is_refused(kmp: Path) -> None:
    raw = kmp.read_bytes()
    at = raw.rindex(b"\xfd7zXZ\0")
    other = lzma.compress(lzma.decompress(raw[at:]).replace(b"vermagic=", b"vermagik="))
    with pytest.raises(Refused, match="its payload has another digest"):
        read_rpm(raw[:at] + other)


def test_another_header_behind_the_same_digest_is_refused(kmp: Path) -> None:
    raw = kmp.read_bytes()
    with pytest.raises(Refused, match="its header has another digest"):
        read_rpm(raw.replace(b"KMP_NEEDS_MKINITRD=1", b"KMP_NEEDS_MKINITRD=0", 1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_package_is_refused_or_holds_the_same_files(kmp: Path, data: st.DataObject) -> None:
    raw = bytearray(kmp.read_bytes())
    good = read_rpm(bytes(raw)).files
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    with suppress(Refused):
        assert read_rpm(bytes(raw)).files == good


@given(st.binary(max_size=400))
def test_no_payload_makes_the_reader_do_more_than_refuse(raw: bytes) -> None:
    for start in (b"", b"070701" + b"0" * 104):
        with pytest.raises(Refused):
            list(cpio_members(start + raw))
