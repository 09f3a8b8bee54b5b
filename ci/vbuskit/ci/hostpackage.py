# SPDX-License-Identifier: MIT
"""The host's side as a package: built by meson, packed once for each set of inputs, found in out/."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of, written
from vbuskit.base.places import Places
from vbuskit.base.remembered import Results, digest_of_files, remembered
from vbuskit.base.run import Runner
from vbuskit.drivers.build import host_programs
from vbuskit.kmp import host, host_deb, host_rpm
from vbuskit.kmp.changelog import Release, current_release

Pack = Callable[[Runner, Path, Release, Mapping[str, Artifact], Path], Artifact]
# Format -> what packs it, and the programs that do it, whose versions are inputs.
FORMATS: dict[str, tuple[Pack, tuple[str, ...]]] = {
    "deb": (host_deb.build, ("dpkg-deb", "strip", "dpkg-shlibdeps")),
    "rpm": (host_rpm.build, ("rpmbuild", "strip")),
}


def packed(run: Runner, places: Places, kind: str) -> Artifact:
    """out/vbusd_VERSION_amd64.deb or out/vbusd-VERSION-1.x86_64.rpm."""
    pack, tools = FORMATS[kind]
    release = current_release(places.tree)
    programs = host_programs(run, places)

    def work(folder: Path) -> Results:
        return {kind: pack(run, places.tree, release, programs, folder)}

    folders = ("LICENSES", "kmp/debian", "kmp/rpm", "kmp/vbuskit")
    sources = digest_of_files(places.tree / name for name in folders)
    files = [f"{path} {mode}".encode() + raw for path, (raw, mode) in host.shared(places.tree, "").items()]
    versions = [run([tool, "--version"]) for tool in tools]
    sums = [programs[name].sha256 for name in host.PROGRAMS]
    inputs = digest_of(sources, repr(release), *versions, *sums, *files)
    made = remembered(places.work("steps", f"host-{kind}"), inputs, work)[kind]
    with written(places.out / made.path.name) as draft:
        shutil.copyfile(made.path, draft)
    return Artifact(places.out / made.path.name, made.sha256, made.size)
