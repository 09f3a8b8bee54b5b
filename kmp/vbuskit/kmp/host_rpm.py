# SPDX-License-Identifier: MIT
"""Build `vbusd`, the host's side as RPM, from kmp/rpm/vbusd.spec, which is one for build hosts as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.run import Runner
from vbuskit.kmp import host, rpm
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.host import NAME, Files

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
    return rpmbuild(run, tree, release, files, ["-ba", *rpm.defined("debug_information", "1")], into)


def rpmbuild(
    run: Runner, tree: Path, release: Release, files: Files, words: Sequence[str], into: Path
) -> dict[str, Artifact]:
    """Run rpmbuild on a tar with `files` and all that is no program; package name -> file in `into`."""
    installed = {f"files/{path}": file for path, file in host.shared(tree, UNITS).items()}
    contents = {path: raw for path, (raw, _) in (installed | files).items()}
    for path in ("VERSION", f"LICENSES/{LICENCE}"):
        contents[Path(path).name] = (tree / path).read_bytes()
    with rpm.build_folder(tree, release, NAME, contents) as top:
        return rpm.rpmbuild(run, release, top, words, into)
