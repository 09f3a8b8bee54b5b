# SPDX-License-Identifier: MIT
"""The packages of the host's side: what dpkg, rpm, lintian and rpmlint read in them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT
from vbuskit.base.run import Arg, Runner
from vbuskit.kmp import host, host_deb, host_rpm
from vbuskit.kmp.changelog import current_release

RELEASE = current_release(ROOT)
MAKERS = {"deb": host_deb.build, "rpm": host_rpm.build}


@pytest.fixture(params=[*MAKERS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def package(kind: str, vbusd_packages: Mapping[str, tuple[Path, Path]]) -> Path:
    return vbusd_packages[kind][0]


def unpacked(package: Path, into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    if package.suffix == ".deb":
        Runner()(["dpkg-deb", "-x", package, into])
    else:
        Runner()(["sh", "-c", 'rpm2cpio "$1" | cpio -idm --quiet', "sh", package], cwd=into)
    return into


def listing(package: Path) -> dict[str, tuple[str, str]]:
    """Path -> mode as `ls` writes it, and owner, of files."""
    if package.suffix == ".deb":
        lines = [line.split() for line in Runner()(["dpkg-deb", "-c", package]).splitlines()]
        found = {words[5][1:]: (words[0], words[1].replace("/", ":")) for words in lines}
    else:
        form = "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME}\n]"
        lines = [line.split() for line in Runner()(["rpm", "-qp", "--qf", form, package]).splitlines()]
        found = {words[0]: (words[1], words[2]) for words in lines}
    return {path: words for path, words in found.items() if not words[0].startswith("d")}


def test_both_hold_the_same_files_but_for_what_is_debians(
    vbusd_packages: Mapping[str, tuple[Path, Path]],
) -> None:
    deb, rpm = (
        {re.sub("^/lib/", "/usr/lib/", path) for path in listing(old)} for old, _ in vbusd_packages.values()
    )
    documents = {f"/usr/share/doc/vbusd/{name}" for name in ("copyright", "changelog.gz")}
    assert deb - rpm == documents | {"/usr/share/lintian/overrides/vbusd"}
    assert rpm - deb == {"/usr/share/licenses/vbusd/MIT.txt"}


def test_everything_belongs_to_root_and_only_programs_are_executable(package: Path) -> None:
    executable = ("/usr/bin/", "/usr/libexec/", "/etc/libvirt/hooks/")
    for path, (mode, owner) in listing(package).items():
        assert (path, mode, owner) == (
            path,
            "-rwxr-xr-x" if path.startswith(executable) else "-rw-r--r--",
            "root:root",
        )


def test_what_an_administrator_may_change_is_marked_as_such(kind: str, package: Path) -> None:
    queries: dict[str, list[Arg]] = {
        "deb": ["dpkg-deb", "-I", package, "conffiles"],
        "rpm": ["rpm", "-qpc", package],
    }
    assert sorted(Runner()(queries[kind]).split()) == sorted(f"/{path}" for path in host.CONFIGURATION)
    assert {path for path in listing(package) if path.startswith("/etc/")} == {
        f"/{path}" for path in host.CONFIGURATION
    }


def test_vbuskit_host_runs_on_the_packages_own_modules_alone(package: Path, tmp_path: Path) -> None:
    root = unpacked(package, tmp_path / "root")
    script = root / "usr/bin/vbuskit"
    script.write_text(script.read_text().replace("/usr/share/vbuskit", str(root / "usr/share/vbuskit")))
    done = Runner().attempt(
        [script, "host", "--socket", tmp_path / "none", "status"], env={"PYTHONPATH": ""}
    )
    assert done.code == 3, done.err
    assert done.err.startswith(f"vbuskit: {tmp_path}/none: no vbusd answers (No such file or directory)\n")
    assert (
        Runner().attempt([script, "package"]).err
        == "vbuskit: package: no such command\nhint: commands: host\n"
    )
    assert not list(root.rglob("*.pyc"))


def test_no_module_is_packed_that_vbuskit_host_does_not_import(package: Path, tmp_path: Path) -> None:
    root = unpacked(package, tmp_path / "root") / host.MODULES
    lines = (
        f"import sys; sys.path.insert(0, {str(root)!r})",
        "import vbuskit.ci.cli, vbuskit.ci.commands.host",
        "print(*(each.__file__ for name, each in sys.modules.items() if name.startswith('vbuskit.')))",
    )
    used = Runner()(["/usr/bin/python3", "-IBc", "\n".join(lines)]).split()
    assert sorted(map(str, root.rglob("*.py"))) == sorted(used)


def test_programs_are_stripped_and_name_no_folder_of_this_machine(package: Path, tmp_path: Path) -> None:
    folder = unpacked(package, tmp_path / "root") / host.LIBEXEC
    assert sorted(path.name for path in folder.iterdir()) == sorted(host.PROGRAMS)
    for program in folder.iterdir():
        assert ".debug_info" not in Runner()(["readelf", "-SW", program])
        assert str(ROOT).encode() not in program.read_bytes()


def test_a_build_id_follows_from_the_program_and_not_from_the_folder_of_its_build() -> None:
    one, other = (b"ELF" + host.BUILD_ID + bytes([number]) * 20 + b"code" for number in (1, 2))
    assert host.named_anew(one) == host.named_anew(other) != one
    assert host.named_anew(one)[-24:-4] != host.named_anew(one.replace(b"code", b"mode"))[-24:-4]
    assert host.named_anew(b"ELF code") == b"ELF code"


def test_two_builds_have_the_same_bytes(
    kind: str, package: Path, built: Mapping[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = tmp_path / "another/longer/folder"
    longer.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(longer))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".rpmmacros").write_text("%packager somebody\n")
    again = MAKERS[kind](Runner(), ROOT, RELEASE, built, tmp_path / "out")
    assert again.sha256 == Artifact.of(package).sha256


def test_every_date_is_the_releases(kind: str, built: Mapping[str, Artifact], tmp_path: Path) -> None:
    ahead = replace(RELEASE, epoch=4_000_000_000)
    package = MAKERS[kind](Runner(), ROOT, ahead, built, tmp_path).path
    if kind == "deb":
        lines = Runner()(["dpkg-deb", "-c", package], env={"TZ": "UTC"}).splitlines()
        assert {" ".join(line.split()[3:5]) for line in lines} == {"2096-10-02 07:06"}
    else:
        form = "[%{FILEMTIMES}\n]%{BUILDTIME}\n"
        assert set(Runner()(["rpm", "-qp", "--qf", form, package]).split()) == {"4000000000"}


def test_the_libraries_of_the_programs_are_dependencies(kind: str, package: Path) -> None:
    queries: dict[str, list[Arg]] = {
        "deb": ["dpkg-deb", "-f", package, "Depends"],
        "rpm": ["rpm", "-qpR", package],
    }
    needed = Runner()(queries[kind])
    for library in ("libfuse3", "libjansson", "libseccomp", "python3"):
        assert library in needed


def test_lintian_has_nothing_to_say_but_what_is_waived(
    vbusd_packages: Mapping[str, tuple[Path, Path]],
) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian: not installed")
    words = ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]
    done = Runner().attempt([*words, vbusd_packages["deb"][0]])
    assert (done.code, done.out) == (0, "")


def test_rpmlint_has_nothing_to_say_but_what_is_waived(
    vbusd_packages: Mapping[str, tuple[Path, Path]],
) -> None:
    done = Runner().attempt(["rpmlint", "-r", ROOT / "kmp/rpm/vbusd.rpmlintrc", vbusd_packages["rpm"][0]])
    said = re.findall(r"^\S+: [EW]: .*$", done.out, re.MULTILINE)
    assert (said, done.code) == ([], 0)


def test_scriptlets_are_sound_shell(vbusd_packages: Mapping[str, tuple[Path, Path]], tmp_path: Path) -> None:
    for step in ("POSTIN", "PREUN", "POSTUN", "POSTTRANS"):
        text = Runner()(["rpm", "-qp", "--qf", f"%{{{step}}}", vbusd_packages["rpm"][0]])
        (tmp_path / step).write_text(f"#!/bin/sh\n{text}\n")
    scripts = [ROOT / f"kmp/debian/vbusd.{name}" for name in host_deb.SCRIPTS]
    Runner()(["shellcheck", *sorted(tmp_path.iterdir()), *scripts, ROOT / "drivers/host/libvirt/qemu-hook"])


def test_apparmors_rules_say_that_they_are_untested_and_lie_where_nothing_loads_them(package: Path) -> None:
    text = (ROOT / "drivers/host/apparmor/vbuskit").read_text()
    assert "# UNTESTED: " in text.splitlines()[1]
    assert not re.search(r"^\s*(audit )?deny ", text, re.MULTILINE)
    profiles = re.findall(r"^profile .*", text, re.MULTILINE)
    assert [line.endswith(" flags=(complain) {") for line in profiles] == [True, True]
    assert [path for path in listing(package) if "apparmor" in path] == [
        "/usr/share/doc/vbusd/examples/apparmor.d/vbuskit"
    ]


def test_apparmors_parser_takes_its_rules() -> None:
    parser = shutil.which("apparmor_parser", path="/usr/sbin:/sbin")
    if parser is None:
        pytest.skip("apparmor_parser: not installed (package apparmor)")
    done = Runner().attempt([parser, "-Q", "-K", "-o", "/dev/null", ROOT / "drivers/host/apparmor/vbuskit"])
    assert done.code == 0, done.err


def test_what_a_build_host_compiles_has_debug_information_and_sources_beside_it(tmp_path: Path) -> None:
    made = host_rpm.build_from_source(Runner(), ROOT, RELEASE, tmp_path)
    assert {"vbusd", "vbusd.src", "vbusd-debuginfo"} <= set(made)
    folder = unpacked(made["vbusd"].path, tmp_path / "root") / host.LIBEXEC
    assert sorted(path.name for path in folder.iterdir()) == sorted(host.PROGRAMS)
    assert ".debug_info" not in Runner()(["readelf", "-SW", folder / "vbusd"])
    assert "usage: vbusd --socket PATH" in Runner().attempt([folder / "vbusd", "--help"]).err
