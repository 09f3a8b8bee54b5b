# SPDX-License-Identifier: MIT
"""What a user enrols as Machine Owner Key (MOK): is the certificate fit for it, and what to do then."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from vbuskit.base.errors import Refused
from vbuskit.kmp.keys import check_dates, public_key, subject

Kind = TypeVar("Kind", bound=x509.ExtensionType)


def check_fit(certificate: x509.Certificate) -> None:
    """Refused for what shim or the kernel would not take, and for what opens more than it should."""
    check_dates(certificate)
    wrong = unfit(certificate)
    if wrong:
        raise Refused(
            f"the certificate of {subject(certificate)} is not fit for MOK: {wrong[0]}",
            hint="./vbuskit sign without --key makes one that is",
        )


def unfit(certificate: x509.Certificate) -> list[str]:
    if certificate.version is x509.Version.v1:
        return ["it is of X.509 version 1, which counts as that of a CA"]
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        return [f"its extensions cannot be read: {error}"]
    return [*key_faults(certificate), *authority_faults(extensions), *usage_faults(extensions)]


def key_faults(certificate: x509.Certificate) -> list[str]:
    public_key(certificate)
    if isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        return [f"it is signed over {certificate.signature_hash_algorithm.name}"]
    return []


def authority_faults(extensions: x509.Extensions) -> list[str]:
    """shim walks chains: with a CA enrolled, whatever that CA ever certifies may boot this machine."""
    basic = found(extensions, x509.BasicConstraints)
    usage = found(extensions, x509.KeyUsage)
    if (basic and basic.ca) or (usage and usage.key_cert_sign):
        return ["it is that of a CA, and with it you would trust every certificate the CA makes"]
    return []


def usage_faults(extensions: x509.Extensions) -> list[str]:
    """No usage at all allows each; one that is stated has to be the signing of code: SUSE looks."""
    faults = []
    usage = found(extensions, x509.KeyUsage)
    if usage and not usage.digital_signature:
        faults.append("its key usage lacks digitalSignature")
    purposes = found(extensions, x509.ExtendedKeyUsage)
    if purposes and ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        faults.append("its extended key usage lacks codeSigning")
    return faults


def found(extensions: x509.Extensions, kind: type[Kind]) -> Kind | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def words(request: Path, certificate: x509.Certificate) -> list[str]:
    """What to do with the DER file `request` on the guest; fingerprints as MokManager shows them."""
    return [
        f"{request}: the certificate of {subject(certificate)}, which signs kernel modules",
        f"  SHA-256 {certificate.fingerprint(hashes.SHA256()).hex(' ')}",
        f"  SHA-1   {certificate.fingerprint(hashes.SHA1()).hex(' ')}",
        "On each guest that has Secure Boot on (`mokutil --sb-state`), with that file and as root:",
        f"  1. mokutil --import {request.name}; it asks twice for a password, invent one: it is needed once",
        "  2. reboot, and be at the guest's console: MokManager's blue screen waits for ten seconds only",
        "  3. there: Enroll MOK, View key 0 (compare a fingerprint), Continue, Yes, the password, Reboot",
        f"  4. mokutil --test-key {request.name}; it says that the key is already enrolled",
        f"To take it back: mokutil --delete {request.name}, and the same way through MokManager.",
    ]
