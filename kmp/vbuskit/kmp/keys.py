# SPDX-License-Identifier: MIT
"""A module-signing key and its certificate: how one is made, kept, read, and when it may be used."""

from __future__ import annotations

import datetime
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.places import make

# "Module signing only": shim's MokManager and the kernel's certs/x509.genkey know it by this number.
MODULE_SIGNING = ObjectIdentifier("1.3.6.1.4.1.2312.16.1.2")
BITS = 2048  # what shim accepts in every release
MOST_BITS = 4096  # what the kernel takes
COMMON_NAME = "vbuskit module signing key"


@dataclass(frozen=True, slots=True)
class Key:
    """An RSA private key, in this process or outside (outside.py), and the certificate that names it."""

    private: rsa.RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate

    def __post_init__(self) -> None:
        if self.private.public_key() != public_key(self.certificate):
            raise Refused(
                "the certificate is not the one of this key", hint="give --key and --certificate of one pair"
            )

    @property
    def certificate_der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def new_key(common_name: str = COMMON_NAME) -> Key:
    """A self-signed certificate as the kernel's certs/default_x509.genkey describes it, plus both EKUs.

    Valid from yesterday (guests with a slow clock) for 36500 days: what the kernel's certs/Makefile uses,
    because a driver must load as long as the disk it serves exists.
    """
    private = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, MODULE_SIGNING]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    return Key(private, certificate)


def store(key: Key, folder: Path) -> None:
    """Write both files or none: they are made beside `folder` and renamed; who comes second yields."""
    make(folder.parent, mode=0o700)
    draft = None
    try:
        draft = Path(tempfile.mkdtemp(prefix=".keys.", dir=folder.parent))  # mode 0700
        private = key.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for name, content in (("module.key", private), ("module.pem", key.certificate_pem)):
            (draft / name).touch(mode=0o600)
            (draft / name).write_bytes(content)
        draft.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise Blocked(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def load_certificate(path: Path) -> x509.Certificate:
    """One X.509 certificate, PEM or DER."""
    try:
        return parse_certificate(read(path))
    except Refused as error:
        raise Refused(f"{path}: {error}") from error


def parse_certificate(raw: bytes) -> x509.Certificate:
    try:
        if raw.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(raw)
        return x509.load_der_x509_certificate(raw)
    except ValueError as error:
        raise Refused("is no X.509 certificate, neither PEM nor DER") from error


def public_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    """Refused where it is not RSA, or of a kind that nobody here has heard of."""
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused(f"the certificate of {subject(certificate)} has a key of unknown kind") from error
    if not isinstance(public, rsa.RSAPublicKey):
        raise Refused(
            f"the certificate of {subject(certificate)} has no RSA key",
            hint="kernels before 5.13 check nothing else: make an RSA key",
        )
    return public


def check_dates(certificate: x509.Certificate, now: datetime.datetime | None = None) -> None:
    """Refused before the first and after the last second of a certificate; `now` is for tests."""
    now = now or datetime.datetime.now(datetime.UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        raise Refused(
            f"the certificate of {subject(certificate)} is not valid before {first:%Y-%m-%d %H:%M} UTC",
            hint="look at this machine's clock",
        )
    if now > last:
        raise Refused(
            f"the certificate of {subject(certificate)} expired on {last:%Y-%m-%d %H:%M} UTC",
            hint="what it signed has to be signed anew, by a key that is in use",
        )


def subject(certificate: x509.Certificate) -> str:
    """The subject and the end of the serial number, so that two keys of one name are told apart."""
    return f"{certificate.subject.rfc4514_string()} ({certificate.serial_number & 0xFFFFFFFF:08x})"


def read_secret(path: Path) -> bytes:
    """A file that nobody but its owner may read or write; a link is followed, its target counts."""
    raw = read(path)
    check_private(path)
    return raw


def check_private(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise Blocked(f"{path}: cannot be looked at: {error.strerror}") from error
    if mode & 0o077:
        raise Refused(
            f"{path}: mode {mode:04o} lets others than its owner at a secret",
            hint=f"chmod go= {path}; if others could log in meanwhile, take it for lost",
        )


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Blocked(f"{path}: cannot be read: {error.strerror}") from error
