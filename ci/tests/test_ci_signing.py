# SPDX-License-Identifier: MIT
"""Signing and verifying from the command line: other keys, a signing service, and every refusal's words."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit
from vbuskit.base.run import Runner
from vbuskit.base.secret import PASSPHRASE
from vbuskit.ci import cli
from vbuskit.ci.commands import factory
from vbuskit.kmp.compressed import FORMS
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import sign_module, signed_artifact

Capture = pytest.CaptureFixture[str]
WORDS = "correct-horse-battery"


@dataclass(frozen=True)
class Desk:
    """Where one user signs; `said` is what a command printed: (exit code, lines out, lines of error)."""

    folder: Path
    kernel: str
    capture: Capture

    def said(self, *words: str | Path) -> tuple[int, list[str], list[str]]:
        code = cli.main([str(word) for word in words])
        said = self.capture.readouterr()
        assert WORDS not in said.out + said.err
        return code, said.out.splitlines(), said.err.splitlines()

    def ours(self, command: str, *words: str | Path) -> tuple[int, list[str], list[str]]:
        return self.said(command, *words, "--kernel", self.kernel, "--out", self.folder / "out")

    def file(self, name: str, content: bytes) -> Path:
        (self.folder / name).touch(mode=0o600)
        (self.folder / name).write_bytes(content)
        return self.folder / name


@pytest.fixture
def desk(
    dummies: dict[str, Artifact],
    kernel: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> Desk:
    monkeypatch.setattr(factory, "modules", lambda *_: dummies)
    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "state"))
    monkeypatch.delenv(PASSPHRASE, raising=False)
    return Desk(tmp_path, kernel, capsys)


@pytest.fixture
def trust(desk: Desk, key: Key) -> Path:
    return desk.file("trust.pem", key.certificate_pem)


def test_a_pkcs12_key_signs_and_its_pass_phrase_is_written_nowhere(
    desk: Desk, key: Key, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = serialization.BestAvailableEncryption(WORDS.encode())
    raw = pkcs12.serialize_key_and_certificates(b"x", key.private, key.certificate, None, how)
    bundle, words = desk.file("k.p12", raw), desk.file("words", f"{WORDS}\n".encode())
    code, made, _ = desk.ours("sign", "--key", bundle, "--passphrase-file", words)
    assert code == Exit.OK
    assert desk.said("verify", *made, "--trust", trust)[0] == Exit.OK
    monkeypatch.setenv(PASSPHRASE, WORDS)
    assert desk.ours("sign", "--key", bundle)[0] == Exit.OK
    monkeypatch.setenv(PASSPHRASE, "wrong")
    code, _, said = desk.ours("sign", "--key", bundle)
    assert code == Exit.REFUSED and "wrong pass phrase" in said[0]
    written = [path for path in desk.folder.rglob("*") if path.is_file() and path != words]
    assert [path for path in written if WORDS.encode() in path.read_bytes()] == []
    assert not (desk.folder / "state").exists()


def test_no_command_takes_a_secret_on_its_command_line(desk: Desk) -> None:
    code, _, said = desk.ours("sign", "--key", f"pkcs11:object=x?pin-value={WORDS}")
    assert code == Exit.USAGE and "pin-value would show the PIN" in said[0]
    for command in ("sign", "package", "iso"):
        assert "--passphrase " not in " ".join(desk.said(command, "--help")[1])


def test_a_strangers_certificate_reaches_no_terminal_as_it_is(
    desk: Desk, certified: Callable[..., Key]
) -> None:
    file = desk.file("c.der", certified(name="\x1b[2Jevil\nname").certificate_der)
    code, said, _ = desk.said("mok", "--certificate", file, "--out", desk.folder)
    assert code == Exit.OK and "CN=?[2Jevil?name" in said[0] and "\x1b" not in "".join(said)


def test_a_token_is_found_through_p11_kit(desk: Desk, key: Key, trust: Path) -> None:
    if not Path("/usr/share/p11-kit/modules/softhsm2.module").is_file():
        pytest.skip("softhsm2 is not installed")
    (desk.folder / "tokens").mkdir()
    conf = desk.file("conf", f"directories.tokendir = {desk.folder}/tokens\n".encode())
    pin = desk.file("pin", b"271828\n")
    store(key, desk.folder / "keys")
    run, env = Runner(), {"SOFTHSM2_CONF": str(conf)}
    pins = ["--pin", "271828", "--so-pin", "314159"]
    run(["softhsm2-util", "--init-token", "--free", "--label", "t", *pins], env=env)
    private = desk.folder / "keys/module.key"
    run(
        ["softhsm2-util", "--import", private, "--token", "t", "--label", "k", "--id", "01", *pins[:2]],
        env=env,
    )
    module = desk.file("x.ko", b"\x7fELF" + bytes(900))
    uri = f"pkcs11:token=t;object=k?pin-source=file:{pin}"
    words: list[str | Path] = [
        "sign",
        module,
        "--key",
        uri,
        "--certificate",
        trust,
        "--out",
        desk.folder / "out",
    ]
    run([sys.executable, "-P", "-m", "vbuskit.ci.cli", *words], env=env)
    assert (desk.folder / "out/signed/x.ko").read_bytes() == sign_module(module.read_bytes(), key)


def service(desk: Desk, key: Key) -> int:
    """Sign what the folder asks for, as a service that sees digests only; how many there were."""
    private = desk.folder / "service/module.key"
    if not private.exists():
        store(key, private.parent)
    asked = [line.split()[1] for line in (desk.folder / "d/SHA256SUMS").read_text().splitlines()]
    words = ["openssl", "pkeyutl", "-sign", "-inkey", str(private), "-pkeyopt", "digest:sha256"]
    for name in asked:
        answer = desk.folder / f"d/{name}.sig"
        Runner()([*words, "-in", answer.with_suffix(".sha256"), "-out", answer])
    return len(asked)


def test_an_iso_comes_from_a_signing_service_in_two_rounds(desk: Desk, key: Key, trust: Path) -> None:
    words = ("--detached", desk.folder / "d", "--certificate", trust)
    code, _, said = desk.ours("iso", *words)
    assert code == Exit.BLOCKED and "3 signatures are waited for: " in said[0]
    assert len(said) == 2 and "run the same command again" in said[1]
    assert service(desk, key) == 3
    code, _, said = desk.ours("iso", *words)
    assert code == Exit.BLOCKED and "1 signature is waited for: manifest-" in said[0]
    assert service(desk, key) == 1
    code, (iso,), _ = desk.ours("iso", *words)
    assert code == Exit.OK
    assert desk.said("verify", iso, "--trust", trust)[0] == Exit.OK
    assert not (desk.folder / "state").exists()


def test_an_answer_that_is_wrong_is_refused_by_its_name(desk: Desk, key: Key, trust: Path) -> None:
    words = ("--detached", desk.folder / "d", "--certificate", trust)
    desk.ours("sign", *words)
    service(desk, key)
    answer = next((desk.folder / "d").glob("venet.ko-*.sig"))
    answer.write_bytes(bytes(256))
    code, _, said = desk.ours("sign", *words)
    assert code == Exit.REFUSED and f"{answer}: is no signature of this content" in said[0]


@pytest.mark.parametrize(
    "words",
    [
        ["--detached", "d"],
        ["--detached", "d", "--certificate", "c", "--key", "k"],
        ["--certificate", "c"],
        ["--passphrase-file", "w"],
        ["--key", "pkcs11:nonsense"],
        ["x.ko", "y/x.ko"],
        ["x.ko"],
    ],
)
def test_words_that_do_not_go_together_are_a_usage_error(desk: Desk, words: list[str]) -> None:
    kernel = [] if "y/x.ko" in words else ["--kernel", desk.kernel]
    assert desk.said("sign", *words, *kernel, "--out", desk.folder)[0] == Exit.USAGE


@pytest.mark.parametrize("form", FORMS)
def test_modules_are_signed_and_then_compressed(desk: Desk, form: str) -> None:
    code, made, _ = desk.ours("sign", "--compress", form)
    assert code == Exit.OK
    assert [Path(path).name for path in made] == [f"{name}.ko.{form}" for name in ("vbus", "venet", "vblk")]
    code, said, _ = desk.said("verify", *made)
    assert code == Exit.OK and all(": signed by" in line for line in said)
    code, _, wrong = desk.said("sign", made[0], "--out", desk.folder / "again")
    assert code == Exit.REFUSED and "is compressed" in wrong[0] and "sign the .ko" in wrong[1]


def test_modules_of_ones_own_are_signed_as_they_are(desk: Desk, dummies: dict[str, Artifact]) -> None:
    source = dummies["vbus"].path
    code, made, _ = desk.said("sign", source, "--out", desk.folder / "out")
    assert (code, made) == (Exit.OK, [str(desk.folder / "out/signed/vbus.ko")])
    assert Path(made[0]).read_bytes().startswith(source.read_bytes())
    assert desk.said("verify", made[0])[0] == Exit.OK


def test_modules_of_ones_own_are_asked_for_all_at_once(desk: Desk, key: Key, trust: Path) -> None:
    files = [desk.file(f"{name}.ko", b"\x7fELF" + name.encode() * 99) for name in "ab"]
    words: list[str | Path] = ["sign", *files, "--detached", desk.folder / "d", "--certificate", trust]
    words += ["--out", desk.folder]
    code, _, said = desk.said(*words)
    assert code == Exit.BLOCKED and "2 signatures are waited for" in said[0]
    assert service(desk, key) == 2
    code, made, _ = desk.said(*words)
    assert code == Exit.OK
    assert [Path(path).read_bytes() for path in made] == [sign_module(x.read_bytes(), key) for x in files]


def test_mok_writes_the_certificate_and_says_what_to_do(desk: Desk) -> None:
    assert desk.said("mok", "--out", desk.folder)[0] == Exit.BLOCKED
    desk.ours("sign")
    code, said, _ = desk.said("mok", "--out", desk.folder)
    assert code == Exit.OK
    request = desk.folder / "vbuskit-mok.der"
    text = Runner()(
        ["openssl", "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256", "-in", request]
    )
    assert text.partition("=")[2].strip().replace(":", " ").lower() in " ".join(said)
    assert any("mokutil --import vbuskit-mok.der" in line for line in said)
    assert stat.S_IMODE(request.stat().st_mode) == 0o644


def test_mok_refuses_the_certificate_of_a_ca(desk: Desk, certified: Callable[..., Key]) -> None:
    authority = certified(x509.BasicConstraints(ca=True, path_length=None))
    file = desk.file("ca.pem", authority.certificate_pem)
    code, _, said = desk.said("mok", "--certificate", file, "--out", desk.folder)
    assert code == Exit.REFUSED and "that of a CA" in said[0]
    assert not (desk.folder / "vbuskit-mok.der").exists()


def test_every_refusal_of_verify_has_its_own_line_and_code_4(
    desk: Desk,
    dummies: dict[str, Artifact],
    key: Key,
    other_key: Key,
    certified: Callable[..., Key],
    trust: Path,
) -> None:
    late, early = certified(days=(-9, -1)), certified(days=(1, 9))
    everyone = b"".join(each.certificate_pem for each in (key, late, early))
    trusted = desk.file("several.pem", everyone)
    plain = signed_artifact(Runner(), dummies["vbus"], key, desk.folder / "good").path.read_bytes()
    content = dummies["vbus"].path.read_bytes()
    altered = plain.replace(b"license=GPL", b"license=gpl")
    cases = {
        "signed by another key than a trusted one: serial": sign_module(content, other_key),
        "expired on 20": sign_module(content, late),
        "is not valid before 20": sign_module(content, early),
        "the content was changed after it was signed": altered,
        "is not signed": content,
    }
    assert altered != plain
    for number, (words, raw) in enumerate(cases.items()):
        code, out, said = desk.said("verify", desk.file(f"{number}.ko", raw), "--trust", trusted)
        assert (code, out) == (Exit.REFUSED, [])
        assert said[0].startswith(f"vbuskit: {number}.ko: ") and words in said[0]
        assert len(said) <= 2
    assert desk.said("verify", desk.file("good.ko", plain), "--trust", trusted)[0] == Exit.OK
    code, _, said = desk.said("verify", desk.file("x.ko", plain), "--trust", desk.file("junk", b"junk"))
    assert code == Exit.REFUSED and "junk: is no X.509 certificate" in said[0]
    assert desk.said("verify", desk.folder / "x.ko", "--trust", desk.folder / "absent")[0] == Exit.BLOCKED
