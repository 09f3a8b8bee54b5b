# SPDX-License-Identifier: MIT
"""`vbuskit initrd` from the command line: what it prints, and its exit codes."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.run import Runner
from vbuskit.ci import cli
from vbuskit.initrd import sample
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import sign_module

Capture = pytest.CaptureFixture[str]
RELEASE = sample.RELEASE
FOLDER = f"usr/lib/modules/{RELEASE}"
RULE = "usr/lib/udev/rules.d/61-vblk.rules"
UNSIGNED = "not signed, which Secure Boot refuses"


def without(*names: str) -> dict[str, bytes | str]:
    return {name: body for name, body in sample.files().items() if name not in names}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "initrd.img").write_bytes(gzip.compress(sample.tree(sample.files())))
    return tmp_path / "initrd.img"


def test_the_command_says_yes_with_its_reasons(image: Path, capsys: Capture) -> None:
    assert cli.main(["initrd", "check", str(image)]) == Exit.OK
    first, *reasons = capsys.readouterr().out.splitlines()
    assert first == f"{image}: yes: it can reach its root disk on vbus"
    assert reasons == [
        f"  {RELEASE}: vbus: /lib/modules/{RELEASE}/updates/vbus.ko, built for this kernel,"
        " not signed, which Secure Boot refuses",
        f"  {RELEASE}: vbus: loaded for its device, pci:v00001AF4d00001110",
        f"  {RELEASE}: vblk: /lib/modules/{RELEASE}/updates/vblk.ko, built for this kernel,"
        " not signed, which Secure Boot refuses",
        f"  {RELEASE}: vblk: loaded for its device, vbus:vblk",
        "  a root disk by UUID or label is found: the image has /usr/lib/udev/rules.d/61-vblk.rules",
    ]


def test_the_command_says_no_with_what_to_do(image: Path, capsys: Capture) -> None:
    image.write_bytes(sample.tree(without(RULE)))
    assert cli.main(["initrd", "check", str(image), "--root", "UUID=1"]) == Exit.REFUSED
    assert capsys.readouterr().out.splitlines() == [
        f"{image}: no: it cannot reach its root disk on vbus",
        "  61-vblk.rules is not in the image, so root=UUID=1 is never found: udev knows no disks named vb*",
        f"    next: look whether our package is installed, then: update-initramfs -u -k {RELEASE}",
    ]


def test_the_command_asks_for_trusted_signatures(
    image: Path, key: Key, other_key: Key, tmp_path: Path, capsys: Capture
) -> None:
    store(key, tmp_path / "keys")
    trust = ["--trust", str(tmp_path / "keys/module.pem")]
    assert cli.main(["initrd", "check", str(image), *trust]) == Exit.REFUSED
    assert "vbus.ko: is not signed" in capsys.readouterr().out
    for signer, code in ((key, Exit.OK), (other_key, Exit.REFUSED)):
        signed = {
            f"{FOLDER}/updates/{name}.ko": sign_module(raw, signer) for name, raw in sample.modules().items()
        }
        image.write_bytes(sample.tree({**sample.files(), **signed}))
        assert cli.main(["initrd", "check", str(image), *trust]) == code
        out = capsys.readouterr().out
        assert ("signed by CN=" in out) == (code == Exit.OK)
        assert ("signed by another key" in out) == (code == Exit.REFUSED)
    assert cli.main(["initrd", "inspect", str(image)]) == Exit.OK
    assert (
        f"signed by somebody else (serial {other_key.certificate.serial_number:x}, sha256)"
        in capsys.readouterr().out
    )


def test_the_next_step_is_the_command_of_who_made_the_image(tmp_path: Path, capsys: Capture) -> None:
    files = {
        **without(RULE, "conf/initramfs.conf", "conf/modules"),
        "usr/lib/dracut/modules.txt": b"",
    }
    (tmp_path / "image").write_bytes(sample.tree(files))
    assert cli.main(["initrd", "check", str(tmp_path / "image")]) == Exit.REFUSED
    assert f"then: dracut --force --add vbus --kver {RELEASE}\n" in capsys.readouterr().out
    assert cli.main(["initrd", "inspect", str(tmp_path / "image")]) == Exit.OK
    assert "made by dracut\n" in capsys.readouterr().out


def test_the_command_lists_what_is_in_an_image(image: Path, capsys: Capture) -> None:
    raw = image.read_bytes()
    early = sample.tree({"kernel/microcode.bin": b"x"})
    image.write_bytes(early + raw)
    assert cli.main(["initrd", "inspect", str(image)]) == Exit.OK
    unpacked = len(sample.tree(sample.files()))
    entries = len(
        {str(each) for name in sample.files() for each in (Path(name), *Path(name).parents)} - {"."}
    )
    assert capsys.readouterr().out.splitlines() == [
        f"byte 0: 2 entries, {len(early)} bytes",
        f"byte {len(early)}: {entries} entries, gzip, {len(raw)} bytes, unpacked {unpacked}",
        "made by initramfs-tools",
        f"kernel {RELEASE}: 3 modules",
        *(
            f"  /lib/modules/{RELEASE}/updates/{name}.ko: for {RELEASE}, ko, {UNSIGNED}"
            for name in ("vbus", "vblk", "venet")
        ),
        "rule /usr/lib/udev/rules.d/61-vblk.rules",
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["check", "{image}", "--root", "nonsense"], Exit.USAGE),
        (["check"], Exit.USAGE),
        (["check", "{folder}"], Exit.USAGE),
        (["check", "{folder}/nothing"], Exit.BLOCKED),
        (["inspect", "{folder}/empty"], Exit.REFUSED),
        (["check", "{image}", "--trust", "{folder}/empty"], Exit.REFUSED),
    ],
)
def test_the_command_fails_in_one_line(
    words: list[str], code: Exit, image: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "empty").touch()
    filled = [word.format(image=image, folder=tmp_path) for word in words]
    assert cli.main(["initrd", *filled]) == code
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert sum(line.startswith("vbuskit") for line in said.err.splitlines()) == 1


def test_a_name_that_a_terminal_cannot_show_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(sample.tree(sample.files("6-\u65e5")))
    run: list[str | Path] = [sys.executable, "-P", "-m", "vbuskit.ci.cli", "initrd", "inspect"]
    said = Runner().attempt([*run, tmp_path / "image"], env={"PYTHONIOENCODING": "ascii"})
    assert (said.code, said.err) == (Exit.OK, "") and "kernel 6-\\u65e5: 3 modules" in said.out


def test_names_in_an_image_reach_no_terminal_as_they_are(tmp_path: Path, capsys: Capture) -> None:
    release = "6\x1b[2J\n1"
    (tmp_path / "image").write_bytes(sample.tree(sample.files(release)))
    cli.main(["initrd", "inspect", str(tmp_path / "image")])
    cli.main(["initrd", "check", str(tmp_path / "image")])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "6?[2J?1" in said.out
