# SPDX-License-Identifier: MIT
"""Keys on a PKCS#11 token, here SoftHSM's: they sign like a file's, and never leave it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pkcs11
import pytest
from cryptography.hazmat.primitives import serialization

from vbuskit.base.errors import Blocked, Refused, UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.kmp.keyring import Choice, chosen_key
from vbuskit.kmp.keys import Key
from vbuskit.kmp.signing import sign_module

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
ELF = b"\x7fELF" + bytes(range(256)) * 300
PIN, TOKEN = "271828", "vbuskit tests"
GOOD = "token=vbuskit%20tests;object=good"


@dataclass(frozen=True)
class Rig:
    """A token with two keys, and what a user says to name the first."""

    folder: Path
    pin: Path

    def uri(self, path: str = GOOD) -> str:
        return f"pkcs11:{path}?module-path={MODULE}&pin-source=file:{self.pin}"

    def key(
        self, path: str = GOOD, *, certificate: Path | None = None, passphrase: Path | None = None
    ) -> Key:
        places = Places(tree=self.folder, out=self.folder, cache=self.folder, state=self.folder)
        choice = Choice(key=self.uri(path), certificate=certificate, passphrase=passphrase)
        return chosen_key(places, choice)


@pytest.fixture(scope="module")
def rig(key: Key, other_key: Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """`good` with its certificate, `bare` without one, `mixed` with that of another key."""
    if not MODULE.is_file():
        pytest.skip("softhsm2 is not installed")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    (folder / "pin").touch(mode=0o600)
    (folder / "pin").write_text(f"{PIN}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        softhsm("--init-token", "--free", "--label", TOKEN, "--so-pin", "314159")
        for number, (name, each) in enumerate((("good", key), ("bare", other_key), ("mixed", other_key)), 1):
            (folder / name).write_bytes(pkcs8(each))
            softhsm("--import", folder / name, "--token", TOKEN, "--label", name, "--id", f"{number:02x}")
        library = pkcs11.lib(str(MODULE))
        with library.get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
            for number in (1, 3):
                session.create_object(certificate(key, bytes([number])))
        yield Rig(folder, folder / "pin")
        pkcs11.unload(str(MODULE))


def softhsm(*words: str | Path) -> None:
    Runner()(["softhsm2-util", "--module", MODULE, *words, "--pin", PIN])


def pkcs8(key: Key) -> bytes:
    return key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(key: Key, number: bytes) -> dict[pkcs11.Attribute, object]:
    return {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE,
        pkcs11.Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
        pkcs11.Attribute.TOKEN: True,
        pkcs11.Attribute.ID: number,
        pkcs11.Attribute.SUBJECT: key.certificate.subject.public_bytes(),
        pkcs11.Attribute.VALUE: key.certificate_der,
    }


@pytest.mark.parametrize(
    "path",
    [
        GOOD,
        "object=good",
        "id=%01",
        "token=vbuskit%20tests;id=%01;type=private",
        "model=SoftHSM%20v2;id=%01",
    ],
)
def test_a_token_signs_with_the_bytes_that_a_file_would(rig: Rig, key: Key, path: str) -> None:
    assert sign_module(ELF, rig.key(path)) == sign_module(ELF, key)


def test_the_certificate_may_come_from_a_file(rig: Rig, other_key: Key, tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_bytes(other_key.certificate_pem)
    token = rig.key("object=bare", certificate=tmp_path / "c.pem")
    assert sign_module(ELF, token) == sign_module(ELF, other_key)


def test_the_private_key_does_not_leave_the_token(rig: Rig) -> None:
    private = rig.key().private
    none = serialization.NoEncryption()
    with pytest.raises(TypeError):
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    with pytest.raises(TypeError):
        private.private_numbers()
    with pytest.raises(pkcs11.AttributeSensitive):
        private._private[pkcs11.Attribute.PRIVATE_EXPONENT]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("token=other", Blocked, "there is no such token"),
        ("token=vbuskit%20tests;object=no", Blocked, "there is no such RSA key"),
        ("token=vbuskit%20tests", UsageError, "3 of kind RSA key fit"),
        ("object=bare", Refused, "no certificate with the key's id"),
    ],
)
def test_a_uri_names_one_key_or_says_what_is_missing(
    rig: Rig, path: str, kind: type[VbuskitError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        rig.key(path)


def test_a_wrong_pin_is_refused_and_shown_to_nobody(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "pin").touch(mode=0o600)
    (tmp_path / "pin").write_text("161803")
    with pytest.raises(Refused, match="wrong PIN") as said:
        rig.key(passphrase=tmp_path / "pin")
    assert "161803" not in f"{said.value} {said.value.hint} {said.value.__cause__!r}"


def test_no_pin_at_all_is_said(rig: Rig) -> None:
    places = Places(tree=rig.folder, out=rig.folder, cache=rig.folder, state=rig.folder)
    with pytest.raises(Refused, match="the token wants a PIN"):
        chosen_key(places, Choice(key=f"pkcs11:{GOOD}?module-path={MODULE}"))


def test_a_pin_file_that_others_read_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "pin").chmod(0o644)
    with pytest.raises(Refused, match="pin: mode 0644"):
        rig.key(passphrase=tmp_path / "pin")


def test_a_token_whose_certificate_is_of_another_key_signs_nothing(rig: Rig) -> None:
    with pytest.raises(Refused, match="pkcs11:object=mixed: is no signature of this content"):
        sign_module(ELF, rig.key("object=mixed"))


@pytest.mark.parametrize("path", ["/nowhere.so", __file__])
def test_what_is_no_pkcs11_module_is_named(rig: Rig, path: str) -> None:
    places = Places(tree=rig.folder, out=rig.folder, cache=rig.folder, state=rig.folder)
    with pytest.raises(Blocked, match="is no PKCS#11 module here"):
        chosen_key(places, Choice(key=f"pkcs11:?module-path={path}&pin-source={rig.pin}"))
