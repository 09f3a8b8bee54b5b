# SPDX-License-Identifier: MIT
"""Build `vbusd`, the Debian package of the host's side: deb(5), deb-control(5), deb-conffiles(5)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.run import Runner
from vbuskit.kmp import deb, host
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.host import CONFIGURATION, DOCUMENTS, NAME, Files

# Where Debian 12 has units; 13 says /usr/lib, which is the same folder there.
UNITS = "lib/systemd/system"
SCRIPTS = ("postinst", "prerm", "postrm")
NEEDED = "python3 (>= 3.11), systemd | systemd-sysusers, systemd | systemd-tmpfiles"


def build(
    run: Runner, tree: Path, release: Release, programs: Mapping[str, Artifact], into: Path
) -> Artifact:
    """Write `into`/vbusd_VERSION_amd64.deb of `host_programs`; equal inputs give equal bytes."""
    return deb.packed(run, tree, release, package(run, tree, release, host.programs(run, programs)), into)


def package(run: Runner, tree: Path, release: Release, programs: Files) -> deb.Package:
    debian = tree / "kmp/debian"
    copyright_file = {f"{DOCUMENTS}/copyright": ((debian / f"{NAME}.copyright").read_bytes(), 0o644)}
    return deb.Package(
        name=NAME,
        version=release.debian_version,
        architecture="amd64",
        section="admin",
        files=programs | host.shared(tree, UNITS) | deb.overrides(tree, NAME) | copyright_file,
        scripts={name: (debian / f"{NAME}.{name}").read_text() for name in SCRIPTS},
        conffiles=CONFIGURATION,
        fields=f"""\
Depends: {libraries(run, programs)}, {NEEDED}
Description: host side of the vbus paravirtual bus
 The daemon that holds the descriptors of the guests' buses (vbusd), the
 sandboxed workers that move their data, the tree of files and the JSON socket
 (vbus-control), and the command that administrates them (vbuskit host), with
 systemd units and libvirt's hook. Guests are served on while it is upgraded.
""",
    )


def libraries(run: Runner, programs: Files) -> str:
    """The packages that the programs' libraries are in, as dpkg-shlibdeps names them."""
    with tempfile.TemporaryDirectory(prefix="vbuskit-shlibs.") as folder:
        control = f"Source: vbuskit\n\nPackage: {NAME}\nArchitecture: amd64\n"
        deb.put_files(Path(folder), programs | {"debian/control": (control.encode(), 0o644)})
        said = run(["dpkg-shlibdeps", "-O", *(f"-e{path}" for path in programs)], cwd=Path(folder))
    return said.partition("shlibs:Depends=")[2].strip()
