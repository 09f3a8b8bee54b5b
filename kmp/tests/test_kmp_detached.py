# SPDX-License-Identifier: MIT
"""A signing service, played by openssl: it gets digests or contents, and what it gives back is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit, Refused
from vbuskit.base.run import Runner
from vbuskit.kmp.detached import SUMS, Waiting, detached_key
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import sign_detached, sign_module, signed_artifacts

ELF = b"\x7fELF" + bytes(300)


@pytest.fixture
def private(key: Key, tmp_path: Path) -> Path:
    """The key, as the service has it; vbuskit gets the certificate only."""
    store(key, tmp_path / "service")
    return tmp_path / "service/module.key"


def asked(folder: Path, key: Key, content: bytes = ELF) -> Path:
    """What the service gets for `content`."""
    with pytest.raises(Waiting) as waiting:
        sign_module(content, detached_key(folder, key.certificate))
    return folder / waiting.value.names[0]


def test_the_service_gets_contents_digests_and_a_list(key: Key, tmp_path: Path) -> None:
    request = asked(tmp_path, key)
    assert request.read_bytes() == ELF
    assert request.with_name(f"{request.name}.sha256").read_bytes().hex() == Artifact.of(request).sha256
    assert (tmp_path / SUMS).read_text() == f"{Artifact.of(request).sha256}  {request.name}\n"
    assert "OK" in Runner()(["sha256sum", "-c", SUMS], cwd=tmp_path)


def test_all_modules_are_asked_for_at_once_and_by_name(
    dummies: dict[str, Artifact], key: Key, tmp_path: Path
) -> None:
    with pytest.raises(Waiting, match="3 signatures are waited for") as waiting:
        signed_artifacts(Runner(), dummies, detached_key(tmp_path / "d", key.certificate), tmp_path)
    assert [name.partition(".ko-")[0] for name in waiting.value.names] == ["vbus", "venet", "vblk"]
    assert waiting.value.exit_code == Exit.BLOCKED
    assert len((tmp_path / "d" / SUMS).read_text().splitlines()) == 3


def sign_digest(private: Path, name: str, folder: Path) -> None:
    words: list[str | Path] = ["openssl", "pkeyutl", "-sign", "-inkey", private, "-pkeyopt", "digest:sha256"]
    Runner()([*words, "-in", folder / f"{name}.sha256", "-out", folder / f"{name}.sig"])


def sign_content(private: Path, name: str, folder: Path) -> None:
    Runner()(["openssl", "dgst", "-sha256", "-sign", private, "-out", folder / f"{name}.sig", folder / name])


def sign_cms(private: Path, name: str, folder: Path, digest: str = "sha256") -> None:
    pair: list[str | Path] = ["-inkey", private, "-signer", private.with_suffix(".pem")]
    form = ["-binary", "-noattr", "-nocerts", "-nosmimecap", "-outform", "DER", "-md", digest]
    Runner()(["openssl", "cms", "-sign", *pair, *form, "-in", folder / name, "-out", folder / f"{name}.sig"])


@pytest.mark.parametrize("service", [sign_digest, sign_content, sign_cms])
def test_what_comes_back_makes_the_bytes_that_the_key_would_have_made(
    key: Key, private: Path, tmp_path: Path, service: object
) -> None:
    folder = tmp_path / "d"
    assert callable(service)
    service(private, asked(folder, key).name, folder)
    assert sign_module(ELF, detached_key(folder, key.certificate)) == sign_module(ELF, key)


def test_a_manifest_is_signed_the_same_way(key: Key, private: Path, tmp_path: Path) -> None:
    service = detached_key(tmp_path, key.certificate)
    with pytest.raises(Waiting, match="manifest-") as waiting:
        sign_detached(b"{}", service)
    sign_digest(private, waiting.value.names[0], tmp_path)
    assert sign_detached(b"{}", service) == sign_detached(b"{}", key)


def test_a_signature_of_another_content_by_another_key_or_of_another_kind_is_refused(
    key: Key, other_key: Key, private: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    request, other = asked(folder, key), asked(folder, key, ELF + b"!")
    answer = request.with_name(f"{request.name}.sig")
    sign_content(private, other.name, folder)
    foreign = sign_detached(ELF, other_key)
    answers = {
        "is no signature of this content": (folder / f"{other.name}.sig").read_bytes(),
        "signed by another key": foreign,
        "the content was changed": sign_detached(ELF + b"!", key),
        "no PKCS#7 signature": b"-----BEGIN PKCS7-----\n",
        "is cut off": sign_detached(ELF, key)[:-1],
    }
    for words, content in answers.items():
        answer.write_bytes(content)
        with pytest.raises(Refused, match=words) as said:
            sign_module(ELF, detached_key(folder, key.certificate))
        assert str(answer) in str(said.value)


def test_a_signature_over_another_hash_is_refused(key: Key, private: Path, tmp_path: Path) -> None:
    sign_cms(private, asked(tmp_path / "d", key).name, tmp_path / "d", "sha512")
    with pytest.raises(Refused, match="is made over sha512"):
        sign_module(ELF, detached_key(tmp_path / "d", key.certificate))


def test_what_has_come_back_is_waited_for_no_longer(key: Key, private: Path, tmp_path: Path) -> None:
    first = asked(tmp_path / "d", key)
    sign_digest(private, first.name, tmp_path / "d")
    second = asked(tmp_path / "d", key, ELF + b"!")
    assert (tmp_path / "d" / SUMS).read_text().split()[1:] == [second.name]
