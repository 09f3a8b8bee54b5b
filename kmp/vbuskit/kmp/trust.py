# SPDX-License-Identifier: MIT
"""Whom a user trusts: the certificates in one file, each of which may have signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from vbuskit.base.errors import Refused
from vbuskit.kmp.keys import UNREADABLE, parse_certificate, read, readable
from vbuskit.kmp.pkcs7 import UnknownSigner

BEGIN = b"-----BEGIN "
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Trust:
    """At least one certificate; no chains: who signed is in the file, or is unknown."""

    certificates: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        if not self.certificates:
            raise Refused("has no certificate in it")
        names = {(each.issuer.public_bytes(), each.serial_number) for each in self.certificates}
        if len(names) < len(self.certificates):
            raise Refused(
                "two of its certificates have one issuer and one serial number",
                hint="a signature says no more of its key, so which of them is meant? leave one out",
            )

    def judged(self, judge: Callable[[x509.Certificate], Answer]) -> Answer:
        """What `judge` says for the one certificate that signed."""
        *others, last = self.certificates
        for certificate in others:
            try:
                return judge(certificate)
            except UnknownSigner:
                continue
        try:
            return judge(last)
        except UnknownSigner as error:
            if not others:
                raise
            hint = f"{len(self.certificates)} keys are trusted; one of them must have signed all of a file"
            raise UnknownSigner(str(error), hint=hint) from error


def load_trust(path: Path) -> Trust:
    """One DER certificate, or any number in PEM with words between them."""
    raw = read(path)
    try:
        return Trust(tuple(dict.fromkeys(certificates(raw))))
    except Refused as error:
        raise Refused(f"{path}: {error}", hint=error.hint) from error


def certificates(raw: bytes) -> list[x509.Certificate]:
    if b"PRIVATE KEY-----" in raw:
        raise Refused(
            "has a private key in it", hint="a trust file is public: only certificates belong into it"
        )
    if BEGIN not in raw:
        return [parse_certificate(raw)]
    try:
        return [readable(each) for each in x509.load_pem_x509_certificates(raw)]
    except UNREADABLE as error:
        raise Refused("one of its certificates cannot be read, so none is trusted") from error
