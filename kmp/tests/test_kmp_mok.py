# SPDX-License-Identifier: MIT
"""Certificates for MOK: fit ones, and each trap by its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from vbuskit.base.errors import Refused
from vbuskit.base.run import Runner
from vbuskit.kmp import mok
from vbuskit.kmp.keys import MODULE_SIGNING, Key, load_certificate

Certified = Callable[..., Key]


def usage(*, sign: bool = True, certify: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, certify, False, False, False)


def test_our_own_certificate_is_fit(key: Key) -> None:
    mok.check_fit(key.certificate)


def test_one_that_says_nothing_about_its_use_is_fit(certified: Certified) -> None:
    mok.check_fit(certified().certificate)


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        (x509.BasicConstraints(ca=True, path_length=None), "that of a CA"),
        (usage(certify=True), "that of a CA"),
        (usage(sign=False), "lacks digitalSignature"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), "lacks codeSigning"),
        (x509.ExtendedKeyUsage([MODULE_SIGNING]), "lacks codeSigning"),
    ],
)
def test_one_for_another_use_or_for_too_much_is_refused(
    certified: Certified, extension: x509.ExtensionType, words: str
) -> None:
    with pytest.raises(Refused, match=f"not fit for MOK: .*{words}"):
        mok.check_fit(certified(extension).certificate)


@pytest.mark.parametrize(("days", "words"), [((-9, -1), "expired on"), ((1, 9), "not valid before")])
def test_one_out_of_its_dates_is_refused(certified: Certified, days: tuple[int, int], words: str) -> None:
    with pytest.raises(Refused, match=words):
        mok.check_fit(certified(days=days).certificate)


def by_openssl(folder: Path, *kind: str) -> x509.Certificate:
    """Version 1 without extensions, which `openssl x509 -req` makes when it is told nothing."""
    request: list[str | Path] = ["openssl", "req", "-new", *kind, "-nodes", "-keyout", folder / "k"]
    run = Runner()
    run([*request, "-subj", "/CN=x", "-out", folder / "r"])
    run(["openssl", "x509", "-req", "-in", folder / "r", "-signkey", folder / "k", "-out", folder / "c"])
    return load_certificate(folder / "c")


def test_version_1_counts_as_a_ca(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="version 1, which counts as that of a CA"):
        mok.check_fit(by_openssl(tmp_path, "-newkey", "rsa:2048"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (["-newkey", "rsa:1024"], "has 1024 bits"),
        (["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "no RSA key"),
        (["-newkey", "ed25519"], "no RSA key"),
    ],
)
def test_a_key_that_shim_or_kernels_do_not_take_is_refused(
    kind: list[str], words: str, tmp_path: Path
) -> None:
    words_of = ["openssl", "req", "-x509", *kind, "-nodes", "-subj", "/CN=x", "-days", "2"]
    Runner()(
        [
            *words_of,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            tmp_path / "k",
            "-out",
            tmp_path / "c",
        ]
    )
    with pytest.raises(Refused, match=words):
        mok.check_fit(load_certificate(tmp_path / "c"))


def test_the_words_name_the_file_and_show_the_fingerprint(key: Key) -> None:
    said = "\n".join(mok.words(Path("/x/vbuskit-mok.der"), key.certificate))
    assert "mokutil --import vbuskit-mok.der" in said
    assert "Enroll MOK" in said
