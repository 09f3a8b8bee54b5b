# SPDX-License-Identifier: MIT
"""Keys in files: PKCS#12, a PEM file with both halves, and pass phrases, which nobody ever reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from vbuskit.base.errors import Refused
from vbuskit.base.run import Runner
from vbuskit.base.secret import PASSPHRASE
from vbuskit.kmp.keyfiles import load_key, passphrase
from vbuskit.kmp.keyring import Choice
from vbuskit.kmp.keys import Key, store

WORDS = b"correct horse"


def private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def bundle(key: Key, words: bytes | None = WORDS, *, whole: bool = True) -> bytes:
    """PKCS#12 with the key; with its certificate when `whole`."""
    how = serialization.BestAvailableEncryption(words) if words else serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(
        b"vbuskit", key.private, key.certificate if whole else None, None, how
    )


def test_pkcs12_holds_both_halves(key: Key, tmp_path: Path) -> None:
    loaded = load_key(private(tmp_path / "k.p12", bundle(key)), None, WORDS)
    assert loaded.certificate == key.certificate
    assert loaded.private.private_numbers() == key.private.private_numbers()


def test_pkcs12_without_a_pass_phrase_is_taken(key: Key, tmp_path: Path) -> None:
    assert load_key(private(tmp_path / "k", bundle(key, None)), None, None).certificate == key.certificate


def test_what_openssl_packs_is_taken(key: Key, tmp_path: Path) -> None:
    store(key, tmp_path / "keys")
    words = private(tmp_path / "words", WORDS + b"\n")
    made = private(tmp_path / "k.p12", b"")
    pair: list[str | Path] = ["-inkey", tmp_path / "keys/module.key", "-in", tmp_path / "keys/module.pem"]
    Runner()(["openssl", "pkcs12", "-export", *pair, "-passout", f"file:{words}", "-out", made])
    assert load_key(made, None, passphrase(words)).certificate == key.certificate


@pytest.mark.parametrize("words", [None, b"wrong", b""])
def test_pkcs12_with_another_pass_phrase_is_refused(key: Key, tmp_path: Path, words: bytes | None) -> None:
    with pytest.raises(Refused, match=r"pass phrase.*no PKCS#12") as said:
        load_key(private(tmp_path / "k.p12", bundle(key)), None, words)
    assert said.value.hint and PASSPHRASE in said.value.hint


def test_pkcs12_without_a_certificate_asks_for_it(key: Key, tmp_path: Path) -> None:
    file = private(tmp_path / "k.p12", bundle(key, whole=False))
    with pytest.raises(Refused, match="has no certificate of its key"):
        load_key(file, None, WORDS)
    (tmp_path / "c.der").write_bytes(key.certificate_der)
    assert load_key(file, tmp_path / "c.der", WORDS).certificate == key.certificate


def test_pkcs12_without_a_key_is_refused(key: Key, tmp_path: Path) -> None:
    how = serialization.NoEncryption()
    empty = pkcs12.serialize_key_and_certificates(b"x", None, key.certificate, None, how)
    with pytest.raises(Refused, match="has no private key"):
        load_key(private(tmp_path / "k.p12", empty), None, None)


def test_a_cut_pkcs12_is_refused(key: Key, tmp_path: Path) -> None:
    whole = bundle(key)
    for size in range(1, len(whole), 97):
        with pytest.raises(Refused):
            load_key(private(tmp_path / "k.p12", whole[:size]), None, WORDS)


def test_one_pem_file_may_hold_both_halves(key: Key, tmp_path: Path) -> None:
    store(key, tmp_path / "keys")
    both = (tmp_path / "keys/module.key").read_bytes() + key.certificate_pem
    assert load_key(private(tmp_path / "k.pem", both), None, None).certificate == key.certificate


def test_a_pem_key_alone_asks_for_its_certificate(key: Key, tmp_path: Path) -> None:
    store(key, tmp_path / "keys")
    with pytest.raises(Refused, match="has no certificate of its key"):
        load_key(tmp_path / "keys/module.key", None, None)


def test_a_pass_phrase_is_the_first_line_of_its_file_or_the_variable(tmp_path: Path) -> None:
    assert passphrase(None) is None
    assert passphrase(None, b"of the variable") == b"of the variable"
    file = private(tmp_path / "w", b"of the file \r\nmore\n")
    assert passphrase(file, b"of the variable") == b"of the file "
    assert "variable" not in repr(Choice(variable=b"of the variable")).replace("variable=", "")


def test_a_pass_phrase_file_that_is_empty_or_open_to_others_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "w", b"\nsecond line\n")
    with pytest.raises(Refused, match="first line is empty"):
        passphrase(file)
    file.chmod(0o644)
    with pytest.raises(Refused, match="mode 0644 lets others"):
        passphrase(file)
