# SPDX-License-Identifier: MIT
"""A key on a PKCS#11 token: digests go in, signatures come out, the key stays where it is."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pkcs11
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, SignMixin, TokenFlag

from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.kmp.keys import Key, load_certificate, parse_certificate, public_key
from vbuskit.kmp.outside import OutsideKey
from vbuskit.kmp.tokenuri import TokenUri

# p11-kit's proxy: every module that this system is set up for.
PROXY = "libp11-kit.so.0"
# DigestInfo of SHA-256 without the digest (RFC 8017, 9.2): CKM_RSA_PKCS, which every token has, wants it.
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


Found = TypeVar("Found")


class TokenKey(OutsideKey):
    def __init__(self, private: SignMixin, public: rsa.RSAPublicKey, uri: str) -> None:
        super().__init__(public)
        self._private, self._uri = private, uri
        weakref.finalize(self, private.session.close)

    def value_of(self, content: bytes) -> bytes:
        with explained(self._uri):
            digest = DIGEST_INFO + hashlib.sha256(content).digest()
            return self._private.sign(digest, mechanism=Mechanism.RSA_PKCS)

    def source_of(self, content: bytes) -> str:
        return self._uri


def load_key(uri: TokenUri, certificate: Path | None, pin: bytes | None) -> Key:
    """The one key that `uri` names; its certificate comes from a file, or lies beside it on the token."""
    if pin is None:
        raise Refused(
            f"{uri.text}: the token wants a PIN",
            hint="pin-source=file:PATH in the URI, --passphrase-file PATH, or VBUSKIT_KEY_PASSPHRASE",
        )
    with explained(uri.text), ExitStack() as undo:
        session = the_token(uri).open(user_pin=text_of(pin))
        undo.callback(session.close)
        private = the_key(session, uri)
        named = load_certificate(certificate) if certificate else beside(session, private, uri)
        public = public_key(named)
        undo.pop_all()  # from here on the key closes the session
        return Key(TokenKey(private, public, uri.text), named)


def text_of(pin: bytes) -> str:
    text = pin.decode(errors="surrogateescape")  # what `decode` raises would hold the PIN
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Refused("the PIN is not UTF-8, so it is no PIN")
    return text


def the_token(uri: TokenUri) -> pkcs11.Token:
    module = uri.module or PROXY
    try:
        slots = pkcs11.lib(module).get_slots(token_present=True)
    except (RuntimeError, OSError) as error:
        raise Blocked(f"{module}: is no PKCS#11 module here: {error}", hint="module-path=FILE") from error
    found = [token for token in (slot.get_token() for slot in slots) if fits(token, uri)]
    return the_only(found, "token", uri)


def fits(token: pkcs11.Token, uri: TokenUri) -> bool:
    says = {
        "token": token.label,
        "serial": token.serial.decode(errors="replace"),
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "slot-id": str(token.slot.slot_id),
    }
    if TokenFlag.TOKEN_INITIALIZED not in token.flags:
        return False  # SoftHSM has an empty one more, for the next to be made
    return all(says[name].rstrip() == value for name, value in uri.token.items())


def the_key(session: pkcs11.Session, uri: TokenUri) -> SignMixin:
    wanted: dict[Attribute, object] = {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.KEY_TYPE: KeyType.RSA,
    }
    if uri.object is not None:
        wanted[Attribute.LABEL] = uri.object
    if uri.id is not None:
        wanted[Attribute.ID] = uri.id
    key = the_only(list(session.get_objects(wanted)), "RSA key", uri)
    if not isinstance(key, SignMixin):
        raise Refused(f"{uri.text}: this key may not sign", hint="its CKA_SIGN is false: make another one")
    return key


def beside(session: pkcs11.Session, private: SignMixin, uri: TokenUri) -> x509.Certificate:
    """Key and certificate of a pair have one CKA_ID."""
    wanted = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.ID: private[Attribute.ID]}
    found = [bytes(each[Attribute.VALUE]) for each in session.get_objects(wanted)]
    if not found:
        raise Refused(f"{uri.text}: no certificate with the key's id", hint="--certificate FILE")
    try:
        return parse_certificate(the_only(found, "certificate", uri))
    except Refused as error:
        raise Refused(f"{uri.text}: what lies beside the key {error}", hint="--certificate FILE") from error


def the_only(found: list[Found], what: str, uri: TokenUri) -> Found:
    if not found:
        raise Blocked(f"{uri.text}: there is no such {what}", hint="p11tool --list-all-privkeys lists them")
    if len(found) > 1:
        raise UsageError(
            f"{uri.text}: {len(found)} of kind {what} fit", hint="name one: token=, object=, id="
        )
    return found[0]


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """What a token says is a class without words; the PIN is in none of them."""
    try:
        yield
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
        raise Refused(f"{uri}: wrong PIN", hint="tokens lock themselves after a few of these") from error
    except pkcs11.PinLocked as error:
        raise Refused(f"{uri}: the PIN is locked", hint="its security officer unlocks it") from error
    except pkcs11.PKCS11Error as error:
        raise Blocked(f"{uri}: the token says {type(error).__name__}") from error
