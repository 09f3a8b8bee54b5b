# SPDX-License-Identifier: MIT
"""Compressed modules: the signature is inside, or it is none; second opinions: xz, zstd and modinfo."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused
from vbuskit.base.run import Runner
from vbuskit.kmp import compressed
from vbuskit.kmp.compressed import FORMS, form_of, unpacked
from vbuskit.kmp.keys import Key
from vbuskit.kmp.signing import MARKER, packed_artifact, sign_module, signed_artifact, verify_module

ELF = b"\x7fELF" + bytes(range(256)) * 40
forms = pytest.mark.parametrize("form", FORMS)


@forms
def test_a_module_signed_before_it_was_compressed_is_accepted(form: str, key: Key) -> None:
    packed = FORMS[form].pack(sign_module(ELF, key))
    assert form_of(packed) == form
    assert packed == FORMS[form].pack(sign_module(ELF, key))
    verify_module(packed, key.certificate)


@forms
def test_a_module_signed_after_it_was_compressed_is_refused(form: str, key: Key) -> None:
    packed = FORMS[form].pack(ELF)
    tail = sign_module(ELF, key)[len(ELF) :]
    with pytest.raises(Refused, match="was signed after it was compressed"):
        verify_module(packed + tail, key.certificate)
    with pytest.raises(Refused, match="was signed after it was compressed"):
        verify_module(FORMS[form].pack(sign_module(ELF, key)) + tail, key.certificate)


@forms
def test_a_compressed_module_is_neither_signed_nor_unsigned_ones_compressed(
    form: str, key: Key, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="is compressed"):
        sign_module(FORMS[form].pack(ELF), key)
    (tmp_path / "x.ko").write_bytes(ELF)
    with pytest.raises(Refused, match="is not signed"):
        packed_artifact(Artifact.of(tmp_path / "x.ko"), form, tmp_path)
    with pytest.raises(Refused, match="is not signed"):
        verify_module(FORMS[form].pack(ELF), key.certificate)


@pytest.mark.parametrize("form", ["xz", "zst"])  # Debian's kmod has no zlib
def test_modinfo_reads_the_signature_inside(
    form: str, dummies: dict[str, Artifact], key: Key, tmp_path: Path
) -> None:
    signed = signed_artifact(Runner(), dummies["vbus"], key, tmp_path)
    packed = packed_artifact(signed, form, tmp_path)
    assert packed.path.name == f"vbus.ko.{form}"
    assert Runner()(["modinfo", "-F", "signer", packed.path]).strip() == "vbuskit module signing key"


def test_xz_is_made_as_the_kernel_reads_it(tmp_path: Path) -> None:
    (tmp_path / "x.xz").write_bytes(FORMS["xz"].pack(ELF))
    assert "CRC32" in Runner()(["xz", "--list", "--verbose", tmp_path / "x.xz"])
    assert "--lzma2=dict=1MiB" in Runner()(["xz", "--list", "-vv", tmp_path / "x.xz"])


@pytest.mark.parametrize(
    ("form", "words"),
    [("gz", ["gzip", "-k"]), ("xz", ["xz", "-k", "--check=crc32"]), ("zst", ["zstd", "-q"])],
)
def test_what_the_usual_programs_pack_is_read(form: str, words: list[str], key: Key, tmp_path: Path) -> None:
    (tmp_path / "x.ko").write_bytes(sign_module(ELF, key))
    Runner()([*words, tmp_path / "x.ko"])
    verify_module((tmp_path / f"x.ko.{form}").read_bytes(), key.certificate)


@forms
def test_every_cut_and_everything_added_is_refused(form: str, key: Key) -> None:
    packed = FORMS[form].pack(sign_module(ELF, key))
    for size in range(6, len(packed), 7):
        with pytest.raises(Refused):
            verify_module(packed[:size], key.certificate)
    for more in (b"\0", packed, b"x" * 5000):
        with pytest.raises(Refused, match="after what is compressed"):
            verify_module(packed + more, key.certificate)


@forms
def test_a_bomb_is_given_up(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "MOST", 2 << 20)
    assert len(unpacked(FORMS[form].pack(bytes(2 << 20)))) == 2 << 20
    with pytest.raises(Refused, match="more than 2 MiB"):
        unpacked(FORMS[form].pack(bytes((2 << 20) + 1)))


def test_a_module_with_the_marker_at_its_end_but_compressed_inside_is_no_module(key: Key) -> None:
    with pytest.raises(Refused):
        verify_module(lzma.compress(ELF + MARKER, check=lzma.CHECK_CRC32), key.certificate)
