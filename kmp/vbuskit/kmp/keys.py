# SPDX-License-Identifier: MIT
"""A module-signing key and its certificate: how one is made, kept, read, and when it may be used."""

from __future__ import annotations

import datetime
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.inputs import bounded
from vbuskit.base.places import make

# "Module signing only": shim's MokManager and the kernel's certs/x509.genkey know it by this number.
MODULE_SIGNING = ObjectIdentifier("1.3.6.1.4.1.2312.16.1.2")
BITS = 2048  # what shim accepts in every release
MOST_BITS = 4096  # what the kernel takes
COMMON_NAME = "vbuskit module signing key"
LARGEST = 1 << 20  # bytes of a file with keys, certificates or secrets
UNREADABLE = (ValueError, x509.InvalidVersion, UnsupportedAlgorithm)


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
            descriptor = os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # nobody can make it again
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
            return readable(x509.load_pem_x509_certificate(raw))
        return readable(x509.load_der_x509_certificate(raw))
    except UNREADABLE as error:
        raise Refused("is no X.509 certificate, neither PEM nor DER") from error


def readable(certificate: x509.Certificate) -> x509.Certificate:
    """One of UNREADABLE where a field is no field: the library looks when it is asked, which is too late."""
    fields = ("subject", "issuer", "not_valid_before_utc", "not_valid_after_utc", "signature_hash_algorithm")
    for name in fields:
        getattr(certificate, name)
    return certificate


def public_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    """Refused where it is not RSA, of another size than is taken, or of a kind nobody here has heard of."""
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused(f"the certificate of {subject(certificate)} has a key of unknown kind") from error
    if not isinstance(public, rsa.RSAPublicKey):
        raise Refused(
            f"the certificate of {subject(certificate)} has no RSA key",
            hint="kernels before 5.13 check nothing else: make an RSA key",
        )
    if not BITS <= public.key_size <= MOST_BITS:
        bits = f"has {public.key_size} bits, and {BITS} to {MOST_BITS} are taken"
        raise Refused(
            f"the key of {subject(certificate)} {bits}",
            hint="a shorter one is no protection, a longer one is read by no kernel: make another key",
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
    with opened(path) as file:
        check_private(path, os.fstat(file.fileno()))  # of what is read, whatever the path is by now
        return bounded(file, path, LARGEST)


def check_private(path: Path, status: os.stat_result, others: int = 0o077) -> None:
    """Refused where others than the owner may do with it what the bits `others` say."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & others:
        raise Refused(
            f"{path}: mode {mode:04o} lets others than its owner at a secret",
            hint=f"chmod go= {path}; if others could log in meanwhile, take it for lost",
        )


def check_folder(folder: Path, others: int) -> None:
    """A folder of secrets is the user's own, and none where `others` could exchange the key."""
    try:
        status = folder.stat()
    except OSError as error:
        raise Blocked(f"{folder}: cannot be looked at: {error.strerror}") from error
    check_private(folder, status, others)
    if os.geteuid() not in (0, status.st_uid):
        raise Refused(
            f"{folder}: belongs to somebody else, who could exchange the key in it",
            hint="VBUSKIT_STATE=FOLDER says where your own is",
        )


def read(path: Path) -> bytes:
    with opened(path) as file:
        return bounded(file, path, LARGEST)


@contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """For reading; a pipe is as good as a file, as in `--trust <(cat A B)`."""
    try:
        file = FileIO(path)
    except OSError as error:
        raise Blocked(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield file
