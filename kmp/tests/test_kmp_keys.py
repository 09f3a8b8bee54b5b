# SPDX-License-Identifier: MIT
"""The signing key: made once, kept private, and every way in which a user's own key can be wrong."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.secret import PASSPHRASE
from vbuskit.kmp.keyring import Choice, chosen_key, state_certificate, state_key
from vbuskit.kmp.keys import MODULE_SIGNING, Key, store

PlacesIn = Callable[[Path], Places]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def private_pem(key: Key, words: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(words) if words else serialization.NoEncryption()
    return key.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def choice(private: Path, certificate: Path) -> Choice:
    return Choice(key=str(private), certificate=certificate)


@pytest.fixture
def pair(key: Key, tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_bytes(private_pem(key))
    (tmp_path / "c").write_bytes(key.certificate_pem)
    return tmp_path / "k", tmp_path / "c"


def test_the_key_is_made_once_and_only_its_owner_reads_it(places_in: PlacesIn, tmp_path: Path) -> None:
    places = places_in(tmp_path)
    first = state_key(places)
    assert state_key(places).certificate == first.certificate == state_certificate(places)
    assert mode(tmp_path / "state/keys") == 0o700
    assert [mode(path) for path in sorted((tmp_path / "state/keys").iterdir())] == [0o600, 0o600]


def test_who_makes_the_key_second_takes_the_first_ones(
    places_in: PlacesIn, key: Key, other_key: Key, tmp_path: Path
) -> None:
    store(key, tmp_path / "state/keys")
    store(other_key, tmp_path / "state/keys")
    assert state_key(places_in(tmp_path)).certificate == key.certificate
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["keys"]


def test_a_state_folder_that_cannot_be_written_is_named(places_in: PlacesIn, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(Blocked, match="state: cannot be made"):
        state_key(places_in(tmp_path))


def test_the_certificate_is_one_for_signing_modules_and_nothing_more(key: Key) -> None:
    extensions = key.certificate.extensions
    assert MODULE_SIGNING in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_openssl_agrees_about_the_certificate(pair: tuple[Path, Path]) -> None:
    text = Runner()(["openssl", "x509", "-noout", "-text", "-in", pair[1]])
    assert "Code Signing, 1.3.6.1.4.1.2312.16.1.2" in text
    assert "CA:FALSE" in text


def test_nothing_is_trusted_before_there_is_a_key(places_in: PlacesIn, tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="no key yet"):
        state_certificate(places_in(tmp_path))
    assert not (tmp_path / "state").exists()


def test_a_users_own_pair_is_taken_and_makes_no_other(
    places_in: PlacesIn, pair: tuple[Path, Path], key: Key, tmp_path: Path
) -> None:
    assert chosen_key(places_in(tmp_path), choice(*pair)).certificate == key.certificate
    assert not (tmp_path / "state").exists()


def test_half_a_pair_is_no_pair(places_in: PlacesIn, pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are of a key"):
        chosen_key(places_in(tmp_path), Choice(certificate=pair[1]))


def test_a_certificate_of_another_key_is_refused(
    places_in: PlacesIn, pair: tuple[Path, Path], other_key: Key, tmp_path: Path
) -> None:
    pair[1].write_bytes(other_key.certificate_pem)
    with pytest.raises(Refused, match="not the one of this key"):
        chosen_key(places_in(tmp_path), choice(*pair))


def test_a_missing_key_is_named(places_in: PlacesIn, pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(Blocked, match=r"absent: cannot be read: No such file"):
        chosen_key(places_in(tmp_path), choice(tmp_path / "absent", pair[1]))


def test_a_passphrase_is_asked_for_checked_and_used(
    places_in: PlacesIn, pair: tuple[Path, Path], key: Key, tmp_path: Path
) -> None:
    pair[0].write_bytes(private_pem(key, b"right"))
    with pytest.raises(Refused) as unset:
        chosen_key(places_in(tmp_path), choice(*pair))
    assert unset.value.hint == f"give --passphrase-file FILE, or set {PASSPHRASE}"
    with pytest.raises(Refused, match="wrong pass phrase"):
        chosen_key(places_in(tmp_path), replace(choice(*pair), variable=b"wrong"))
    right = replace(choice(*pair), variable=b"right")
    assert chosen_key(places_in(tmp_path), right).certificate == key.certificate


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused(
    places_in: PlacesIn, pair: tuple[Path, Path], tmp_path: Path, content: bytes
) -> None:
    pair[0].write_bytes(content)
    with pytest.raises(Refused, match="no PEM private key"):
        chosen_key(places_in(tmp_path), choice(*pair))


def test_a_key_that_is_not_rsa_is_refused(
    places_in: PlacesIn, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    pair[0].write_bytes(
        curve.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(Refused, match="no RSA key"):
        chosen_key(places_in(tmp_path), choice(*pair))


def test_what_is_no_certificate_is_refused(
    places_in: PlacesIn, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    pair[1].write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(Refused, match=r"X\.509"):
        chosen_key(places_in(tmp_path), choice(*pair))


def test_the_private_key_is_never_printed(key: Key) -> None:
    assert "private" not in repr(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_get_at_is_refused(
    places_in: PlacesIn, pair: tuple[Path, Path], tmp_path: Path, mode: int
) -> None:
    pair[0].chmod(mode)
    with pytest.raises(Refused, match=f"k: mode {mode:04o} lets others") as said:
        chosen_key(places_in(tmp_path), choice(*pair))
    assert said.value.hint and said.value.hint.startswith("chmod go= ")


@pytest.mark.parametrize("path", ["keys", "keys/module.key"])
def test_a_state_directory_that_others_get_at_is_refused(
    places_in: PlacesIn, tmp_path: Path, path: str
) -> None:
    places = places_in(tmp_path)
    state_key(places)
    (tmp_path / "state" / path).chmod(0o750)
    with pytest.raises(Refused, match=f"state/{path}: mode 0750"):
        state_key(places)


@pytest.mark.parametrize(
    ("days", "words"), [((-9, -1), "expired on"), ((1, 9), "is not valid before")], ids=["late", "early"]
)
def test_a_key_whose_certificate_is_out_of_its_dates_signs_nothing(
    places_in: PlacesIn, certified: Callable[..., Key], tmp_path: Path, days: tuple[int, int], words: str
) -> None:
    store(certified(days=days), tmp_path / "state/keys")
    with pytest.raises(Refused, match=words):
        chosen_key(places_in(tmp_path))
