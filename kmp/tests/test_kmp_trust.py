# SPDX-License-Identifier: MIT
"""Trust files: who is in them is believed, within dates; every other case has words of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from vbuskit.base.errors import Blocked, Refused
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import sign_module, verify_module
from vbuskit.kmp.trust import Trust, load_trust

ELF = b"\x7fELF" + bytes(300)


def judge(module: bytes, *keys: Key) -> None:
    Trust(tuple(key.certificate for key in keys)).judged(partial(verify_module, module))


def test_each_of_several_keys_is_trusted(key: Key, other_key: Key, tmp_path: Path) -> None:
    file = tmp_path / "trust.pem"
    file.write_bytes(b"# ours\n" + key.certificate_pem + b"# theirs\n" + other_key.certificate_pem)
    trust = load_trust(file)
    assert trust.certificates == (key.certificate, other_key.certificate)
    for each in (key, other_key):
        trust.judged(partial(verify_module, sign_module(ELF, each)))


def test_der_is_one_certificate(key: Key, tmp_path: Path) -> None:
    (tmp_path / "c.der").write_bytes(key.certificate_der)
    assert load_trust(tmp_path / "c.der") == Trust((key.certificate,))


def test_an_unknown_signer_is_refused_among_several(
    key: Key, other_key: Key, certified: Callable[..., Key]
) -> None:
    stranger = certified()
    with pytest.raises(Refused, match=f"serial {stranger.certificate.serial_number:x}") as said:
        judge(sign_module(ELF, stranger), key, other_key)
    assert said.value.hint and "2 keys are trusted" in said.value.hint


@pytest.mark.parametrize(
    ("days", "words"),
    [((-9, -1), "expired on 20"), ((1, 9), "is not valid before 20")],
    ids=["late", "early"],
)
def test_a_signer_out_of_its_dates_is_refused(
    key: Key, certified: Callable[..., Key], days: tuple[int, int], words: str
) -> None:
    signer = certified(days=days)
    module = sign_module(ELF, signer)
    for trusted in ((signer,), (key, signer), (signer, key)):
        with pytest.raises(Refused, match=words):
            judge(module, *trusted)


def test_an_expired_certificate_that_did_not_sign_does_no_harm(
    key: Key, certified: Callable[..., Key]
) -> None:
    judge(sign_module(ELF, key), certified(days=(-9, -1)), key)


def test_altered_content_and_a_borrowed_name_have_words_of_their_own(
    key: Key, other_key: Key, certified: Callable[..., Key]
) -> None:
    module = bytearray(sign_module(ELF, key))
    module[100] ^= 1
    with pytest.raises(Refused, match="the content was changed after it was signed"):
        judge(bytes(module), key)
    by_other = other_key.private.sign(ELF, padding.PKCS1v15(), hashes.SHA256())
    honest = sign_module(ELF, key)
    value = key.private.sign(ELF, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(Refused, match="not by the key whose name it carries"):
        judge(honest.replace(value, by_other), key)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is no X\.509 certificate"),
        (b"junk", r"is no X\.509 certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cannot be read, so none is trusted",
        ),
        (b"-----BEGIN X-----\nAAAA\n-----END X-----\n", "cannot be read"),
    ],
)
def test_what_is_no_trust_file_is_refused_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(Refused, match=f"t: .*{words}"):
        load_trust(tmp_path / "t")


def test_one_bad_certificate_spoils_the_file(key: Key, tmp_path: Path) -> None:
    bad = key.certificate_pem.replace(b"A", b"B", 40)
    (tmp_path / "t").write_bytes(key.certificate_pem + bad)
    with pytest.raises(Refused, match="cannot be read, so none is trusted"):
        load_trust(tmp_path / "t")


def test_a_private_key_in_a_trust_file_is_refused(key: Key, tmp_path: Path) -> None:
    store(key, tmp_path / "keys")
    both = key.certificate_pem + (tmp_path / "keys/module.key").read_bytes()
    (tmp_path / "t").write_bytes(both)
    with pytest.raises(Refused, match="has a private key in it"):
        load_trust(tmp_path / "t")


def test_a_missing_trust_file_is_blocked(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="t: cannot be read"):
        load_trust(tmp_path / "t")
