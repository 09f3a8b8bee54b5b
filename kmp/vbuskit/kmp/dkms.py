# SPDX-License-Identifier: MIT
"""Build `vbus-dkms` in both formats: the drivers' sources, which dkms(8) builds where they are installed.

The scripts and settings are in kmp/dkms. Nothing in the packages is signed or could be: dkms signs what it
builds, with a key of the machine's own.
"""

from __future__ import annotations

from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.run import Runner
from vbuskit.drivers.kernel import sources_of
from vbuskit.kmp import deb, rpm
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.deb import Files

NAME = "vbus-dkms"
SCRIPT = "usr/libexec/vbuskit/dkms-vbus"
# Sorts behind dkms' own hook, and before dracut's and that of initramfs-tools.
HOOKS = {
    "etc/kernel/postinst.d/dkms-vbus": "kernel-hook",
    "etc/kernel/header_postinst.d/dkms-vbus": "headers-hook",
}
PLUGIN = "usr/lib/kernel/install.d/45-vbus-dkms.install"


def build(run: Runner, tree: Path, release: Release, into: Path) -> dict[str, Artifact]:
    """Write vbus-dkms_VERSION_all.deb and vbus-dkms-VERSION-1.noarch.rpm to `into`; return them by format.

    Equal sources give equal bytes, in any folder and on any day.
    """
    return {
        "deb": deb.packed(run, tree, release, package(tree, release), into),
        "rpm": packed_rpm(run, tree, release, into),
    }


def shared(tree: Path, release: Release) -> Files:
    """The sources that the pipeline compiles, and what tells dkms how."""
    sources = f"usr/src/vbus-{release.debian_version}"
    files = {
        f"{sources}/{path}": (file.read_bytes(), 0o644)
        for path, file in sources_of(tree / "drivers").items()
    }
    files[f"{sources}/dkms.conf"] = (filled_in(tree, release, "kmp/dkms/dkms.conf"), 0o644)
    files[SCRIPT] = (filled_in(tree, release, "kmp/dkms/dkms-vbus"), 0o755)
    return files


def filled_in(tree: Path, release: Release, name: str) -> bytes:
    """dkms, too, knows a version as Debian and rpm spell it; modules say theirs as vbuskit does."""
    return (
        deb.whole(tree, name)
        .replace("@VERSION@", release.debian_version)
        .replace("@RELEASE@", release.version)
        .encode()
    )


def package(tree: Path, release: Release) -> deb.Package:
    ours = tree / "kmp/dkms"
    files = shared(tree, release)
    files |= {hook: ((ours / name).read_bytes(), 0o755) for hook, name in HOOKS.items()}
    files["lib/depmod.d/vbus-dkms.conf"] = ((ours / "depmod.conf").read_bytes(), 0o644)
    return deb.Package(
        name=NAME,
        version=release.debian_version,
        files=files,
        scripts={
            name: filled_in(tree, release, f"kmp/debian/{NAME}.{name}").decode()
            for name in ("postinst", "prerm")
        },
        conffiles=sorted(HOOKS),
        triggers=f"interest-noawait {deb.TRIGGER}\n",
        fields=f"""\
Depends: {deb.COMMON} (>= {release.debian_version}), dkms (>= 3.0), kmod
Recommends: openssl
Description: paravirtual bus, network and disk drivers, built by dkms
 The sources of the guest drivers of the vbus paravirtual bus, built and
 signed by dkms for each kernel that has its headers installed: the bridge to
 the host (vbus), the network device (venet) and the disk (vblk) on it. For
 kernels that there is no package of signed modules for.
""",
    )


def packed_rpm(run: Runner, tree: Path, release: Release, into: Path) -> Artifact:
    plugin = {PLUGIN: ((tree / "kmp/dkms/vbus-dkms.install").read_bytes(), 0o755)}
    contents = {f"files/{path}": raw for path, (raw, _) in (shared(tree, release) | plugin).items()}
    contents |= {name: (tree / "LICENSES" / name).read_bytes() for name in rpm.LICENCES}
    with rpm.build_folder(tree, release, NAME, contents) as top:
        return rpm.rpmbuild(run, release, top, ["-bb"], into)[NAME]
