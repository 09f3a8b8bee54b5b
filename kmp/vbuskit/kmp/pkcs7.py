# SPDX-License-Identifier: MIT
"""Detached PKCS#7 signatures as the kernel makes and reads them: one RSA signer, no attributes.

Structure: RFC 5652 section 5, narrowed to what scripts/sign-file writes (CMS_NOCERTS, CMS_DETACHED,
CMS_BINARY, CMS_NOATTR). The reader takes nothing else: every byte has one allowed meaning, so a byte that
was changed is refused even where no kernel would look at it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from vbuskit.base.errors import Refused
from vbuskit.kmp.keys import Key, check_dates, public_key

INTEGER, OCTETS, NULL, OID, SEQUENCE, SET, TAGGED = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31, 0xA0

DATA = bytes.fromhex("2a864886f70d010701")
SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
RSA = bytes.fromhex("2a864886f70d010101")
# Digest -> (the hash, "signed by RSA with this hash").
DIGESTS: dict[bytes, tuple[hashes.HashAlgorithm, bytes]] = {
    bytes.fromhex("608648016503040201"): (hashes.SHA256(), bytes.fromhex("2a864886f70d01010b")),
    bytes.fromhex("608648016503040202"): (hashes.SHA384(), bytes.fromhex("2a864886f70d01010c")),
    bytes.fromhex("608648016503040203"): (hashes.SHA512(), bytes.fromhex("2a864886f70d01010d")),
}


@dataclass(frozen=True, slots=True)
class Signer:
    """What one signature says: who (DER of the issuer's name, serial number), which hash, the RSA value."""

    issuer: bytes
    serial: int
    digest: hashes.HashAlgorithm
    value: bytes


def sign(content: bytes, key: Key) -> bytes:
    """The DER of a detached signature; RSA PKCS#1 v1.5 over SHA-256, so equal inputs give equal bytes."""
    options = (
        pkcs7.PKCS7Options.DetachedSignature,
        pkcs7.PKCS7Options.Binary,
        pkcs7.PKCS7Options.NoAttributes,
        pkcs7.PKCS7Options.NoCerts,
    )
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    builder = builder.add_signer(
        key.certificate, key.private, hashes.SHA256(), rsa_padding=padding.PKCS1v15()
    )
    return builder.sign(serialization.Encoding.DER, options)


class UnknownSigner(Refused):
    """Well formed, and by a key of which nothing is known."""


def verify(content: bytes, signature: bytes, certificate: x509.Certificate) -> None:
    """Refused unless `signature` was made over `content` by the key of `certificate`, which is valid now."""
    signer = read(signature)
    if (signer.issuer, signer.serial) != (certificate.issuer.public_bytes(), certificate.serial_number):
        raise UnknownSigner(
            f"signed by another key than a trusted one: serial {signer.serial:x}",
            hint="if you trust that key, give its certificate: --trust CERTIFICATES",
        )
    if signed_digest(public_key(certificate), signer) != digest_of(content, signer.digest):
        raise Refused("the content was changed after it was signed")
    check_dates(certificate)


def signed_digest(public: rsa.RSAPublicKey, signer: Signer) -> bytes:
    """What was signed; only the right key makes a digest out of the RSA value."""
    try:
        return public.recover_data_from_signature(signer.value, padding.PKCS1v15(), signer.digest)
    except InvalidSignature:
        raise Refused("the signature is not by the key whose name it carries") from None


def digest_of(content: bytes, kind: hashes.HashAlgorithm) -> bytes:
    digest = hashes.Hash(kind)
    digest.update(content)
    return digest.finalize()


def read(signature: bytes) -> Signer:
    """The strict reader; Refused when anything is missing, extra or not in DER."""
    outer = Der(signature).only(SEQUENCE)
    outer.expect(OID, SIGNED_DATA)
    signed = outer.take(TAGGED).only(SEQUENCE)
    outer.end()
    signed.expect(INTEGER, b"\x01")
    announced = signed.take(SET).only_algorithm()
    contents = signed.take(SEQUENCE)
    contents.expect(OID, DATA)
    contents.end()
    signer = signed.take(SET).only(SEQUENCE)
    signed.end()
    return read_signer(signer, announced)


def read_signer(signer: Der, announced: bytes) -> Signer:
    signer.expect(INTEGER, b"\x01")
    who = signer.take(SEQUENCE)
    issuer = who.whole(SEQUENCE)
    serial = who.take(INTEGER).integer()
    who.end()
    digest = signer.algorithm()
    if digest != announced or digest not in DIGESTS:
        raise Refused("the signature uses a hash that is not SHA-256, SHA-384 or SHA-512")
    algorithm, combined = DIGESTS[digest]
    if signer.algorithm() not in (RSA, combined):
        raise Refused("the signature is not an RSA signature")
    value = signer.take(OCTETS).rest()
    signer.end()
    return Signer(issuer, serial, algorithm, value)


class Der:
    """A cursor over DER elements (X.690 section 10); definite, shortest lengths only."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def whole(self, tag: int) -> bytes:
        """The next element, tag and length included."""
        start = self._at
        if self._raw[start : start + 1] != bytes([tag]):
            raise Refused(f"the signature is no PKCS#7 signature of a kernel module (byte {start})")
        head, size = start + 2, self._byte(start + 1)
        if size >= 0x80:
            count = size - 0x80
            size = int.from_bytes(self._raw[head : head + count], "big")
            shortest = (size.bit_length() + 7) // 8
            if count != shortest or size < 0x80:
                raise Refused(f"the signature is not in DER (byte {start + 1})")
            head += count
        self._at = head + size
        if self._at > len(self._raw):
            raise Refused("the signature is cut off")
        return self._raw[start : self._at]

    def take(self, tag: int) -> Der:
        """A cursor over the value of the next element."""
        whole = self.whole(tag)
        size = whole[1]
        return Der(whole[2 + (size - 0x80 if size >= 0x80 else 0) :])

    def only(self, tag: int) -> Der:
        inner = self.take(tag)
        self.end()
        return inner

    def expect(self, tag: int, value: bytes) -> None:
        if self.take(tag).rest() != value:
            raise Refused("the signature is no PKCS#7 signature of a kernel module")

    def algorithm(self) -> bytes:
        """An AlgorithmIdentifier whose parameters are absent or NULL (RFC 5754 section 2 allows both)."""
        inner = self.take(SEQUENCE)
        name = inner.take(OID).rest()
        if inner._at < len(inner._raw):
            inner.expect(NULL, b"")
        inner.end()
        return name

    def only_algorithm(self) -> bytes:
        name = self.algorithm()
        self.end()
        return name

    def integer(self) -> int:
        """All that is left, as few bytes as possible: the kernel compares these, not what they mean."""
        raw = self.rest()
        value = int.from_bytes(raw, "big", signed=True)
        if raw != value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True):
            raise Refused("the signature is not in DER: a number")
        return value

    def rest(self) -> bytes:
        rest, self._at = self._raw[self._at :], len(self._raw)
        return rest

    def end(self) -> None:
        if self._at != len(self._raw):
            raise Refused("the signature carries more than one signature needs")

    def _byte(self, at: int) -> int:
        if at >= len(self._raw):
            raise Refused("the signature is cut off")
        return self._raw[at]
