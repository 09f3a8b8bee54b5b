# SPDX-License-Identifier: MIT
"""A key in a file: PEM or PKCS#12, and the pass phrase that opens it; none of both is ever printed."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from vbuskit.base.errors import Refused
from vbuskit.base.secret import PASSPHRASE
from vbuskit.kmp.keys import Key, load_certificate, parse_certificate, read_secret

BEGIN = b"-----BEGIN "


def passphrase(file: Path | None, variable: bytes | None = None) -> bytes | None:
    """The first line of `file`, else what VBUSKIT_KEY_PASSPHRASE said; None where there is neither."""
    if file is None:
        return variable or None
    line = read_secret(file).partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise Refused(f"{file}: its first line is empty, so there is no pass phrase in it")
    return line


def load_key(path: Path, certificate: Path | None, words: bytes | None) -> Key:
    """A key and its certificate: of the file `certificate`, or of the file of the key itself."""
    raw = read_secret(path)
    private, inside = from_pem(path, raw, words) if BEGIN in raw else from_pkcs12(path, raw, words)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise Refused(
            f"{path}: is no RSA key", hint="kernels before 5.13 check nothing else: make an RSA key"
        )
    named = load_certificate(certificate) if certificate else inside
    if named is None:
        raise Refused(f"{path}: has no certificate of its key", hint="give it: --certificate FILE")
    return Key(private, named)


def from_pem(path: Path, raw: bytes, words: bytes | None) -> tuple[object, x509.Certificate | None]:
    """As the kernel's certs/signing_key.pem: the certificate may stand in the same file."""
    try:
        private = load_pem_private_key(raw, words)
    except TypeError as error:  # encrypted without a pass phrase, or the other way round
        hint = f"leave out --passphrase-file, unset {PASSPHRASE}" if words else wanted(words)
        raise Refused(f"{path}: {str(error).rstrip('.').lower()}", hint=hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = "wrong pass phrase, or " if words else ""
        raise Refused(f"{path}: {wrong}no PEM private key", hint=wanted(words) if words else None) from error
    return private, parse_certificate(raw) if BEGIN + b"CERTIFICATE" in raw else None


def from_pkcs12(path: Path, raw: bytes, words: bytes | None) -> tuple[object, x509.Certificate | None]:
    """RFC 7292; other certificates in the file are not looked at."""
    try:
        private, certificate, _ = pkcs12.load_key_and_certificates(raw, words)
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = "wrong pass phrase, or" if words else "needs a pass phrase, or is"
        what = f"{wrong} no PKCS#12" if raw[:1] == b"\x30" else "is no PEM private key and no PKCS#12"
        raise Refused(f"{path}: {what}", hint=wanted(words)) from error
    if private is None:
        raise Refused(f"{path}: has no private key")
    return private, certificate


def wanted(words: bytes | None) -> str:
    if words:
        return f"see --passphrase-file, or {PASSPHRASE} in the environment"
    return f"give --passphrase-file FILE, or set {PASSPHRASE}"
