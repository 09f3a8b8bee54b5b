# SPDX-License-Identifier: MIT
"""`vbuskit sign | package | iso` from the command line, with the build of the drivers replaced."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base import sandbox
from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT
from vbuskit.ci import cli
from vbuskit.ci.commands import factory, iso
from vbuskit.drivers.kernel import ModuleBuildFailed, Site
from vbuskit.drivers.kernels import Kernel, Line
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.keys import Key


@pytest.fixture
def state(dummies: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(factory, "modules", lambda *_: dummies)
    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize(("command", "suffixes"), [("sign", [".ko"] * 3), ("iso", [".iso"])])
def test_a_step_prints_what_it_made_and_verify_accepts_it(
    state: Path,
    kernel: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    suffixes: list[str],
) -> None:
    assert cli.main([command, "--kernel", kernel, "--out", str(tmp_path / "out")]) == Exit.OK
    made = capsys.readouterr().out.split()
    assert [Path(path).suffix for path in made] == suffixes
    assert cli.main(["verify", *made]) == Exit.OK
    assert stat.S_IMODE((state / "keys").stat().st_mode) == 0o700


def test_the_debian_packages_are_three_of_which_verify_accepts_the_one_with_modules(
    state: Path, kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["package", "--kernel", kernel, "--out", str(tmp_path / "out")]) == Exit.OK
    shared, modules, following = capsys.readouterr().out.split()
    names = [Path(path).name.partition("_")[0] for path in (shared, modules, following)]
    assert names == ["vbus-common", f"vbus-modules-{kernel}", f"vbus-modules-{flavour_of(kernel)}"]
    assert cli.main(["verify", modules]) == Exit.OK
    assert "3 modules signed by" in capsys.readouterr().out
    for path in (shared, following):
        assert cli.main(["verify", path]) == Exit.REFUSED
        assert "has no kernel modules, and nothing else in it could be signed" in capsys.readouterr().err


def test_the_rpm_comes_as_two_packages_of_which_verify_accepts_the_one_with_modules(
    state: Path, kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["package", "--format", "rpm", "--kernel", kernel, "--out", str(tmp_path / "out")]
    assert cli.main(words) == Exit.OK
    shared, modules = capsys.readouterr().out.split()
    assert [Path(path).name.split("-")[:2] for path in (shared, modules)][1] == ["vbus", "kmp"]
    assert cli.main(["verify", modules]) == Exit.OK
    assert "3 modules signed by" in capsys.readouterr().out
    assert cli.main(["verify", shared]) == Exit.REFUSED
    assert "has no kernel modules, and nothing else in it could be signed" in capsys.readouterr().err


def test_an_iso_for_several_kernels_takes_releases_and_kernels_of_suites(
    state: Path,
    kernel: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dummies: dict[str, Artifact],
    built_for: Callable[..., dict[str, Artifact]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered: list[bool] = []
    release = "6.12.9+deb13-rt-amd64"
    monkeypatch.setattr(sandbox, "enter", lambda: entered.append(True))
    monkeypatch.setattr(iso, "site_for", lambda *_: Site(release, ""))
    monkeypatch.setattr(iso, "modules_for", lambda *_: built_for(dummies, release))
    words = ["--kernel", kernel, "--kernel", "trixie/rt-amd64", "--out", str(tmp_path / "out")]
    assert cli.main(["iso", *words]) == Exit.OK
    made = capsys.readouterr().out.strip()
    assert cli.main(["verify", made]) == Exit.OK
    said = capsys.readouterr().out
    for each in (kernel, release):
        assert f"linux/deb/vbus-modules-{each}_" in said
    assert said.count("linux/rpm/vbus-kmp-") == 2
    assert entered == [True]


def test_an_iso_takes_the_folder_of_a_kernel_of_ones_own(
    state: Path,
    kernel: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dummies: dict[str, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(factory, "modules_for", lambda *_: dummies)
    folder = f"/lib/modules/{kernel}/build"
    assert cli.main(["iso", "--kernel-devel", folder, "--out", str(tmp_path / "out")]) == Exit.OK
    made = capsys.readouterr().out.strip()
    assert cli.main(["verify", made]) == Exit.OK
    assert f"linux/deb/vbus-modules-{kernel}_" in capsys.readouterr().out
    assert cli.main(["iso", "--kernel-devel", str(tmp_path / "none")]) == Exit.BLOCKED


def test_all_kernels_leave_out_what_only_informs_and_does_not_build(
    state: Path,
    kernel: str,
    dummies: dict[str, Artifact],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def built(_: object, __: object, wanted: Kernel) -> dict[str, Artifact]:
        if wanted.line.name == broken:
            raise ModuleBuildFailed("modules: no such member")
        return dummies

    informing = Kernel(Line("old", "old", "5", informing=True), "amd64")
    gating = Kernel(Line("new", "new", "6"), "amd64")
    foreign = Kernel(Line("new", "new", "6"), "arm64")
    monkeypatch.setattr(iso, "KERNELS", (informing, gating, foreign))
    monkeypatch.setattr(sandbox, "enter", lambda: None)
    monkeypatch.setattr(iso, "site_for", lambda *_: Site(kernel, ""))
    monkeypatch.setattr(iso, "modules_for", built)
    broken = "old"
    assert cli.main(["iso", "--all-kernels", "--out", str(tmp_path / "out")]) == Exit.OK
    assert "vbuskit: old/amd64 is left out: modules: no such member\n" in capsys.readouterr().err
    broken = "new"
    assert cli.main(["iso", "--all-kernels", "--out", str(tmp_path / "out")]) == Exit.FAILED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all-kernels", "--kernel", "x"], "--all-kernels: are all that there are"),
        (["--all-kernels", "--kernel-devel", "x"], "--all-kernels: are all that there are"),
        (["--kernel", "sid/arm64"], "sid/arm64: the packages are for amd64"),
        (["--kernel", "sid/s390x"], "sid/s390x: is no kernel that vbuskit builds for"),
    ],
)
def test_kernels_that_no_iso_can_have_are_a_usage_error(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["iso", *words, "--out", str(tmp_path)]) == Exit.USAGE
    assert said in capsys.readouterr().err


def test_the_packages_for_dkms_need_neither_kernel_nor_key_and_verify_accepts_neither(
    state: Path, key: Key, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trust.pem").write_bytes(key.certificate_pem)
    words = ["package", "--format", "dkms", "--kernel", "none", "--out", str(tmp_path / "out")]
    assert cli.main(words) == Exit.OK
    made = [Path(path) for path in capsys.readouterr().out.split()]
    version = current_release(ROOT).debian_version
    names = [f"vbus-dkms_{version}_all.deb", f"vbus-dkms-{version}-1.noarch.rpm"]
    assert [path.name for path in made] == names
    assert not state.exists()
    for path in made:
        assert cli.main(["verify", str(path), "--trust", str(tmp_path / "trust.pem")]) == Exit.REFUSED
        assert "has no kernel modules, and nothing else in it could be signed" in capsys.readouterr().err


def test_there_are_no_programs_for_dkms(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["package", "host", "--format", "dkms", "--out", str(tmp_path / "out")]
    assert cli.main(words) == Exit.USAGE
    said = "vbuskit: package host: there is no dkms of programs\nhint: --format deb or rpm\n"
    assert capsys.readouterr().err == said


def test_verify_makes_no_key(state: Path, tmp_path: Path) -> None:
    assert cli.main(["verify", str(tmp_path / "x.iso")]) == Exit.BLOCKED
    assert not state.exists()


def test_half_a_pair_on_the_command_line_is_a_usage_error(state: Path, tmp_path: Path) -> None:
    assert cli.main(["iso", "--certificate", "c", "--out", str(tmp_path)]) == Exit.USAGE
