# SPDX-License-Identifier: MIT
"""Make repositories of the ISO's packages: for apt one index a suite, for zypper, dnf and yum one for all.

    linux/deb/*.deb  linux/deb/SUITE/Packages  linux/deb/SUITE/Release    deb file:/mnt/linux/deb SUITE/
    linux/rpm/*.rpm  linux/rpm/repodata/*                                 baseurl=file:/mnt/linux/rpm

apt looks at the newest version of a metapackage and at no other: in one index for all suites, that for
another suite's kernel would hide one's own. zypper and dnf go by the symbols that an installed kernel has.
No index is signed: apt and rpm want OpenPGP, and the manifest has the sums of them all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

from vbuskit.base.run import Runner
from vbuskit.drivers.kernels import line_of_release
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.deb import MODULES
from vbuskit.kmp.debfile import read_deb

DEBS, RPMS = "linux/deb", "linux/rpm"
REPODATA = f"{RPMS}/repodata"
INDEXES = ("Packages", "Release")


def indexed(run: Runner, release: Release, packages: Mapping[str, bytes]) -> dict[str, bytes]:
    """The indexes over `packages`; paths on the ISO -> bytes, like those. Equal inputs give equal bytes."""
    return apt_indexes(release, packages) | repodata(run, release, packages)


def is_index(path: str) -> bool:
    return path.startswith(f"{REPODATA}/") or (path.startswith(f"{DEBS}/") and path.endswith(INDEXES))


def apt_indexes(release: Release, packages: Mapping[str, bytes]) -> dict[str, bytes]:
    """deb-control(5), and the Release file of a flat repository; all have what is for all kernels."""
    stanzas, suites = {}, {}
    for path, raw in sorted(packages.items()):
        if path.endswith(".deb"):
            deb = read_deb(raw)
            stanzas[path] = stanza(deb.control["control"], path, raw)
            suites[path] = suite_of(deb.fields)
    files = {}
    for suite in {*suites.values()} - {""}:
        index = "\n".join(text for path, text in stanzas.items() if suites[path] in ("", suite)).encode()
        files[f"{DEBS}/{suite}/Packages"] = index
        files[f"{DEBS}/{suite}/Release"] = release_file(release, suite, index)
    return files


def suite_of(fields: Mapping[str, str]) -> str:
    """That of the package's kernel, or its release where the table has no such line; empty for all."""
    needed = fields.get("Depends", "").split()[:1]
    following = (name.removeprefix(f"{MODULES}-") for name in needed if name.startswith(f"{MODULES}-"))
    kernel = fields.get("Kernel-Release") or next(following, "")
    return line_of_release(kernel) or kernel


def stanza(control: bytes, path: str, raw: bytes) -> str:
    found = f"Filename: {path.removeprefix(f'{DEBS}/')}\nSize: {len(raw)}\nSHA256: {sha256(raw)}\n"
    return control.decode() + found


def release_file(release: Release, suite: str, index: bytes) -> bytes:
    return f"""\
Origin: vbuskit
Label: vbuskit
Codename: {suite}
Version: {release.debian_version}
Date: {formatdate(release.epoch, usegmt=True)}
Architectures: amd64
Description: guest drivers of the vbus paravirtual bus for kernels of {suite}
SHA256:
 {sha256(index)} {len(index)} Packages
""".encode()


def repodata(run: Runner, release: Release, packages: Mapping[str, bytes]) -> dict[str, bytes]:
    """What createrepo_c says of the RPMs; nothing where there is none."""
    rpms = {Path(path).name: raw for path, raw in packages.items() if path.endswith(".rpm")}
    if not rpms:
        return {}
    with tempfile.TemporaryDirectory(prefix="vbuskit-repo.") as folder:
        top = Path(folder)
        for name, raw in rpms.items():
            (top / name).write_bytes(raw)
            os.utime(top / name, (release.epoch, release.epoch))
        words = ["--quiet", "--no-database", "--workers=1", f"--revision={release.epoch}"]
        # Joliet takes no names as long as those with sums.
        words += ["--set-timestamp-to-revision", "--simple-md-filenames"]
        run(["createrepo_c", *words, top], env={"TZ": "UTC", "LC_ALL": "C.UTF-8"})
        return {
            f"{REPODATA}/{file.name}": file.read_bytes() for file in sorted((top / "repodata").iterdir())
        }


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
