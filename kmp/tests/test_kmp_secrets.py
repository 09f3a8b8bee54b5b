# SPDX-License-Identifier: MIT
"""Keys, certificates and pass phrases that somebody else had a hand in."""

from __future__ import annotations

import base64
import datetime
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.places import Places
from vbuskit.kmp import pkcs7, token
from vbuskit.kmp.detached import detached_key
from vbuskit.kmp.keyfiles import load_key
from vbuskit.kmp.keyring import Choice, chosen_key, state_key
from vbuskit.kmp.keys import Key, parse_certificate, read_secret, store
from vbuskit.kmp.signing import sign_module, verify_module
from vbuskit.kmp.trust import Trust, load_trust

ELF = b"\x7fELF" + bytes(300)
PlacesIn = Callable[[Path], Places]


def private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def test_the_file_that_is_read_is_the_one_that_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and reading, somebody puts a file with another mode under the same name."""
    secret = private(tmp_path / "secret", b"of everybody")
    secret.chmod(0o666)
    ours = private(tmp_path / "ours", b"ours")
    exchanges = iter([lambda: ours.replace(secret)])

    def late(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def looked(*words: object, **more: object) -> os.stat_result:
            next(exchanges, lambda: ours)()
            return look(*words, **more)

        return looked

    for name in ("stat", "fstat"):
        monkeypatch.setattr(os, name, late(getattr(os, name)))
    with pytest.raises(Refused, match="mode 0666 lets others"):
        read_secret(secret)
    assert next(exchanges, None) is None


def test_a_secret_comes_through_a_pipe_and_never_without_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"words")
    os.close(writing)
    assert read_secret(Path(f"/dev/fd/{reading}")) == b"words"
    os.close(reading)
    private(tmp_path / "large", bytes((1 << 20) + 1))
    with pytest.raises(Refused, match="more than 1 MiB"):
        read_secret(tmp_path / "large")
    with pytest.raises(Refused, match="more than 1 MiB"):
        load_trust(Path("/dev/zero"))
    with pytest.raises(Blocked, match="Is a directory"):
        read_secret(tmp_path)


def test_a_state_directory_in_which_others_write_is_refused(
    places_in: PlacesIn, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(key, tmp_path / "state/keys")
    (tmp_path / "state").chmod(0o1777)
    with pytest.raises(Refused, match="state: mode 1777 lets others"):
        state_key(places_in(tmp_path))
    (tmp_path / "state").chmod(0o755)
    assert state_key(places_in(tmp_path)).certificate == key.certificate
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Refused, match="state: belongs to somebody else"):
        state_key(places_in(tmp_path))


def test_a_new_key_is_on_the_disk_before_it_has_its_name(
    key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "state/keys").exists()
        synced.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", fsync)
    old = os.umask(0)
    try:
        store(key, tmp_path / "state/keys")
    finally:
        os.umask(old)
    assert synced == [0o600, 0o600]


def weak(bits: int, serial: int = 1) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    secret = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = x509.CertificateBuilder(
        name, name, secret.public_key(), serial, today - datetime.timedelta(1), today.replace(year=2090)
    ).sign(secret, hashes.SHA256())
    return secret, certificate


def test_a_key_that_is_too_short_neither_signs_nor_is_trusted(
    places_in: PlacesIn, key: Key, tmp_path: Path
) -> None:
    secret, certificate = weak(1024)
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = private(tmp_path / "k", pem + certificate.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(Refused, match="has 1024 bits, and 2048 to 4096 are taken"):
        chosen_key(places_in(tmp_path), Choice(key=str(file)))
    named = x509.CertificateBuilder(
        key.certificate.issuer,
        key.certificate.issuer,
        secret.public_key(),
        key.certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    ).sign(secret, hashes.SHA256())
    with pytest.raises(Refused, match="has 1024 bits"):
        verify_module(sign_module(ELF, key), named)


def test_two_certificates_of_one_name_and_number_are_not_trusted_and_one_twice_is_one(
    key: Key, tmp_path: Path
) -> None:
    """The signature of the second was refused as a forgery of the first."""
    (tmp_path / "twice").write_bytes(key.certificate_pem * 2)
    assert load_trust(tmp_path / "twice") == Trust((key.certificate,))
    pems = [weak(2048, 7)[1].public_bytes(serialization.Encoding.PEM) for _ in range(2)]
    (tmp_path / "both").write_bytes(b"".join(pems))
    with pytest.raises(Refused, match="both: two of its certificates have one issuer and one serial"):
        load_trust(tmp_path / "both")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x49"),  # a version that nobody knows
        (bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d01017f")),  # signed in which way?
        (b"\x31", b"\x32"),  # a name that is none
    ],
)
def test_a_certificate_with_a_field_that_is_none_is_one_line(
    old: bytes, new: bytes, key: Key, tmp_path: Path
) -> None:
    raw = key.certificate_der.replace(old, new)
    assert raw != key.certificate_der
    with pytest.raises(Refused, match=r"is no X\.509 certificate"):
        parse_certificate(raw)
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(raw) + b"-----END CERTIFICATE-----\n"
    (tmp_path / "t").write_bytes(key.certificate_pem + pem)
    with pytest.raises(Refused, match="one of its certificates cannot be read"):
        load_trust(tmp_path / "t")


def test_a_private_key_of_an_unknown_kind_is_one_line(key: Key, tmp_path: Path) -> None:
    how = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    der = key.private.private_bytes(serialization.Encoding.DER, *how)
    der = der.replace(bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d01017f"))
    pem = b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(der) + b"-----END PRIVATE KEY-----\n"
    with pytest.raises(Refused, match="no PEM private key"):
        load_key(private(tmp_path / "k", pem), None, None)


def test_a_pin_that_is_no_text_is_in_no_exception() -> None:
    with pytest.raises(Refused, match="not UTF-8") as said:
        token.text_of(b"2718\xff")
    assert said.value.__cause__ is None and said.value.__context__ is None


def test_a_number_that_is_longer_than_it_needs_to_be_is_refused(key: Key) -> None:
    """The kernel compares its bytes and finds no key."""
    for raw, value in ((b"\x01", 1), (b"\x00\x80", 128), (b"\x80", -128), (b"\0", 0), (b"\xff\x7f", -129)):
        assert pkcs7.Der(raw).integer() == value
    for raw in (b"", b"\0\x01", b"\xff\x80", b"\0\0"):
        with pytest.raises(Refused, match="not in DER"):
            pkcs7.Der(raw).integer()


def test_a_service_may_have_a_key_whose_bits_fill_no_byte(tmp_path: Path) -> None:
    secret, certificate = weak(2050)
    asking = detached_key(tmp_path, certificate)
    with pytest.raises(Blocked):
        sign_module(ELF, asking)
    (request,) = tmp_path.glob("*.sha256")
    request.with_suffix(".sig").write_bytes(secret.sign(ELF, padding.PKCS1v15(), hashes.SHA256()))
    verify_module(sign_module(ELF, asking), certificate)
