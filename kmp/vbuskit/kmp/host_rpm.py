# SPDX-License-Identifier: MIT
"""Build `vbusd`, the host's side as RPM, from kmp/rpm/vbusd.spec, which is one for build hosts as well."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vbuskit.base.artifact import Artifact, written
from vbuskit.base.run import Runner
from vbuskit.kmp import host
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.host import NAME, Files
from vbuskit.kmp.rpm import DEFINES, changelog, defined, packed

UNITS = "usr/lib/systemd/system"
LICENCE = "MIT.txt"
# What the host's programs are compiled from; drivers/meson.build takes its version from VERSION beside it.
SOURCES = ("bench", "client", "core", "host", "include", "ports/tsan", "ports/user")


def build(
    run: Runner, tree: Path, release: Release, programs: Mapping[str, Artifact], into: Path
) -> Artifact:
    """Write `into`/vbusd-VERSION-1.x86_64.rpm of `host_programs`; equal inputs give equal bytes."""
    stripped = {f"programs/{Path(path).name}": file for path, file in host.programs(run, programs).items()}
    return rpmbuild(run, tree, release, stripped, ["-bb", "--with", "prebuilt"], into)[NAME]


def build_from_source(run: Runner, tree: Path, release: Release, into: Path) -> dict[str, Artifact]:
    """As `build`, but rpmbuild compiles, as build hosts do; with debug information and the src.rpm."""
    files: Files = {}
    for source in ("meson.build", "meson_options.txt", *SOURCES):
        path = tree / "drivers" / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                files[str(file.relative_to(tree))] = (file.read_bytes(), 0o644)
    return rpmbuild(run, tree, release, files, ["-ba", *defined("debug_information", "1")], into)


def rpmbuild(
    run: Runner, tree: Path, release: Release, files: Files, words: Sequence[str], into: Path
) -> dict[str, Artifact]:
    """Run rpmbuild on a tar with `files` and all that is no program; package name -> file in `into`."""
    top = f"{NAME}-{release.debian_version}"
    installed = {f"files/{path}": file for path, file in host.shared(tree, UNITS).items()}
    contents = {path: raw for path, (raw, _) in (installed | files).items()}
    for name in ("VERSION", f"LICENSES/{LICENCE}"):
        contents[Path(name).name] = (tree / name).read_bytes()
    with tempfile.TemporaryDirectory(prefix="vbuskit-rpm.") as name:
        folder = Path(name)
        (folder / "SOURCES").mkdir()
        (folder / f"SOURCES/{top}.tar.xz").write_bytes(packed(top, contents, release.epoch))
        (folder / f"{NAME}.spec").write_text(spec(tree, release))
        command: list[str | Path] = ["rpmbuild", *words, "--nodeps"]
        folders: dict[str, str | Path] = {"_topdir": folder, "_dbpath": folder / "db"}
        for macro, value in (DEFINES | folders).items():
            command += defined(macro, value)
        times = {"SOURCE_DATE_EPOCH": str(release.epoch), "TZ": "UTC"}
        run([*command, folder / f"{NAME}.spec"], cwd=folder, env={**times, "HOME": name})
        made = sorted([*folder.glob("RPMS/*/*.rpm"), *folder.glob("SRPMS/*.rpm")])
        return {package_of(file): moved(file, into) for file in made}


def spec(tree: Path, release: Release) -> str:
    text = (tree / f"kmp/rpm/{NAME}.spec").read_text()
    log = changelog((tree / "kmp/debian/changelog").read_text())
    return text.replace("@VERSION@", release.debian_version).replace("@CHANGELOG@\n", log)


def package_of(file: Path) -> str:
    """NAME of NAME-VERSION-RELEASE.ARCHITECTURE.rpm, and .src after a source package's."""
    name = file.name.rsplit("-", 2)[0]
    return name + (".src" if file.name.endswith(".src.rpm") else "")


def moved(file: Path, into: Path) -> Artifact:
    with written(into / file.name) as draft:
        shutil.copyfile(file, draft)
    return Artifact.of(into / file.name)
