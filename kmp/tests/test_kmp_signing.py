# SPDX-License-Identifier: MIT
"""Signatures of modules and manifests; second opinions: openssl, modinfo and the kernel's sign-file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused
from vbuskit.base.run import Runner
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import (
    MARKER,
    sign_detached,
    sign_module,
    signed_artifact,
    split_signature,
    verify_detached,
    verify_module,
)

MODULE = b"\x7fELF" + bytes(range(256)) * 8


def test_a_signed_module_is_the_module_and_one_signature(key: Key) -> None:
    signed = sign_module(MODULE, key)
    assert split_signature(signed)[0] == MODULE
    verify_module(signed, key.certificate)


def test_signing_twice_with_one_key_gives_the_same_bytes(key: Key) -> None:
    assert sign_module(MODULE, key) == sign_module(MODULE, key)


def test_modinfo_reads_the_signature(dummies: dict[str, Artifact], key: Key, tmp_path: Path) -> None:
    run = Runner()
    signed = signed_artifact(run, dummies["vbus"], key, tmp_path)
    assert run(["modinfo", "-F", "sig_id", signed.path]).strip() == "PKCS#7"
    assert run(["modinfo", "-F", "signer", signed.path]).strip() == "vbuskit module signing key"
    assert run(["modinfo", "-F", "sig_hashalgo", signed.path]).strip() == "sha256"
    serial = run(["modinfo", "-F", "sig_key", signed.path]).strip().replace(":", "")
    assert int(serial, 16) == key.certificate.serial_number


def test_what_the_kernels_sign_file_signs_is_accepted(
    kernel: str, dummies: dict[str, Artifact], key: Key, tmp_path: Path
) -> None:
    tool = next(
        Path("/usr/lib").glob(f"linux-kbuild-{'.'.join(kernel.split('.')[:2])}*/scripts/sign-file"), None
    )
    if tool is None:
        pytest.skip("this kernel's headers come without scripts/sign-file")
    store(key, tmp_path / "keys")
    theirs = tmp_path / "theirs.ko"
    pair = [tmp_path / "keys/module.key", tmp_path / "keys/module.pem"]
    Runner()([tool, "sha256", *pair, dummies["vbus"].path, theirs])
    verify_module(theirs.read_bytes(), key.certificate)


def test_a_signature_by_another_key_is_refused(key: Key, other_key: Key) -> None:
    with pytest.raises(Refused, match="another key"):
        verify_module(sign_module(MODULE, other_key), key.certificate)


def test_a_module_without_a_signature_is_refused(key: Key) -> None:
    with pytest.raises(Refused, match="not signed"):
        verify_module(MODULE, key.certificate)


def test_a_signed_module_is_not_signed_again(key: Key) -> None:
    with pytest.raises(Refused, match="already signed"):
        sign_module(sign_module(MODULE, key), key)


def test_every_flipped_byte_of_a_signed_module_is_refused(key: Key) -> None:
    signed = sign_module(MODULE, key)
    accepted = []
    for at in range(len(signed)):
        try:
            verify_module(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :], key.certificate)
            accepted.append(at)
        except Refused:
            pass
    assert accepted == []


@given(st.data())
def test_nothing_that_looks_like_a_signature_is_more_than_refused(key: Key, data: st.DataObject) -> None:
    signed = bytearray(sign_module(MODULE, key))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(len(MODULE), len(signed) - 1))
        cut = data.draw(st.integers(0, 8))
        signed[start : start + cut] = data.draw(st.binary(max_size=8))
    if bytes(signed) != sign_module(MODULE, key):
        with pytest.raises(Refused):
            verify_module(bytes(signed), key.certificate)


@given(st.binary(max_size=400))
def test_any_bytes_before_the_marker_are_refused(key: Key, junk: bytes) -> None:
    with pytest.raises(Refused):
        verify_module(junk + MARKER, key.certificate)


def test_a_length_with_a_leading_zero_is_not_der(key: Key) -> None:
    signature = sign_detached(MODULE, key)
    assert signature[:2] == b"\x30\x82"
    with pytest.raises(Refused, match="not in DER"):
        verify_detached(MODULE, b"\x30\x83\0" + signature[2:], key.certificate)


def test_bytes_after_the_signature_are_refused(key: Key) -> None:
    with pytest.raises(Refused, match="more than one signature needs"):
        verify_detached(MODULE, sign_detached(MODULE, key) + b"\0", key.certificate)


def test_openssl_accepts_a_detached_signature_and_nothing_else(key: Key, tmp_path: Path) -> None:
    content, signature, certificate = (tmp_path / name for name in ("m", "m.p7s", "c.pem"))
    content.write_bytes(b"what was signed\n")
    signature.write_bytes(sign_detached(b"what was signed\n", key))
    certificate.write_bytes(key.certificate_pem)
    words: list[str | Path] = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signature]
    words += ["-content", content, "-certfile", certificate, "-CAfile", certificate, "-purpose", "any"]
    assert Runner()(words) == "what was signed\n"
    content.write_bytes(b"what was sealed\n")
    assert Runner().attempt(words).code != 0
    with pytest.raises(Refused):
        verify_detached(b"what was sealed\n", signature.read_bytes(), key.certificate)


def test_modules_of_two_build_folders_are_the_same_bytes_once_signed(
    dummies: dict[str, Artifact], dummies_elsewhere: dict[str, Artifact], key: Key, tmp_path: Path
) -> None:
    run = Runner()
    assert dummies["vbus"].sha256 != dummies_elsewhere["vbus"].sha256
    one = signed_artifact(run, dummies["vbus"], key, tmp_path / "one")
    two = signed_artifact(run, dummies_elsewhere["vbus"], key, tmp_path / "two")
    assert one.sha256 == two.sha256
