# SPDX-License-Identifier: MIT
"""Build `vbusd`, the Debian package of the host's side: deb(5), deb-control(5), deb-conffiles(5)."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vbuskit.base.artifact import Artifact, written
from vbuskit.base.run import Runner
from vbuskit.kmp import host
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.deb import MAINTAINER, put_files, set_times
from vbuskit.kmp.host import CONFIGURATION, DOCUMENTS, LIBEXEC, NAME, PROGRAMS, Files

# Where Debian 12 has units; 13 says /usr/lib, which is the same folder there.
UNITS = "lib/systemd/system"
SCRIPTS = ("postinst", "prerm", "postrm")


def build(
    run: Runner, tree: Path, release: Release, programs: Mapping[str, Artifact], into: Path
) -> Artifact:
    """Write `into`/vbusd_VERSION_amd64.deb of `host_programs`; equal inputs give equal bytes."""
    target = into / f"{NAME}_{release.debian_version}_amd64.deb"
    files = host.programs(run, programs) | host.shared(tree, UNITS) | documents(tree)
    with tempfile.TemporaryDirectory(prefix="vbuskit-deb.") as folder, written(target) as draft:
        root = Path(folder) / "root"
        put_files(root, files)
        put_files(root, control_files(tree, release, files, libraries(run, root)))
        set_times(root, release.epoch)
        # One thread: xz cuts the stream into other blocks with another number of them.
        run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", root, draft],
            env={"SOURCE_DATE_EPOCH": str(release.epoch), "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        )
    return Artifact.of(target)


def documents(tree: Path) -> Files:
    debian = tree / "kmp/debian"
    changelog = gzip.compress((debian / "changelog").read_bytes(), 9, mtime=0)
    return {
        f"{DOCUMENTS}/copyright": ((debian / f"{NAME}.copyright").read_bytes(), 0o644),
        f"{DOCUMENTS}/changelog.gz": (changelog, 0o644),
        f"usr/share/lintian/overrides/{NAME}": (
            (debian / f"{NAME}.lintian-overrides").read_bytes(),
            0o644,
        ),
    }


def libraries(run: Runner, root: Path) -> str:
    """The packages that the programs' libraries are in, as dpkg-shlibdeps names them."""
    with tempfile.TemporaryDirectory(prefix="vbuskit-shlibs.") as folder:
        control = Path(folder) / "debian/control"
        control.parent.mkdir()
        control.write_text(f"Source: vbuskit\n\nPackage: {NAME}\nArchitecture: amd64\n")
        words = [f"-e{root / LIBEXEC / name}" for name in PROGRAMS]
        said = run(["dpkg-shlibdeps", "-O", *words], cwd=Path(folder))
    return said.partition("shlibs:Depends=")[2].strip()


def control_files(tree: Path, release: Release, files: Files, needed: str) -> Files:
    sums = "".join(
        f"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}  {path}\n"
        for path, (raw, _) in sorted(files.items())
        if path not in CONFIGURATION
    )
    kilobytes = sum(-(-len(raw) // 1024) for raw, _ in files.values())
    made = {
        "DEBIAN/control": (control(release, kilobytes, needed).encode(), 0o644),
        "DEBIAN/conffiles": ("".join(f"/{path}\n" for path in CONFIGURATION).encode(), 0o644),
        "DEBIAN/md5sums": (sums.encode(), 0o644),
    }
    for name in SCRIPTS:
        made[f"DEBIAN/{name}"] = ((tree / f"kmp/debian/{NAME}.{name}").read_bytes(), 0o755)
    return made


def control(release: Release, kilobytes: int, needed: str) -> str:
    return f"""\
Package: {NAME}
Source: vbuskit
Version: {release.debian_version}
Architecture: amd64
Maintainer: {MAINTAINER}
Installed-Size: {kilobytes}
Depends: {needed}, python3 (>= 3.11), systemd | systemd-sysusers, systemd | systemd-tmpfiles
Suggests: libvirt-daemon-system, passt
Section: admin
Priority: optional
Description: host side of the vbus paravirtual bus
 The daemon that holds the descriptors of the guests' buses (vbusd), the
 sandboxed workers that move their data, the tree of files and the JSON socket
 (vbus-control), and the command that administrates them (vbuskit host), with
 systemd units and libvirt's hook. Guests are served on while it is upgraded.
"""
