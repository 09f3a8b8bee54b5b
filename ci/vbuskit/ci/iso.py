# SPDX-License-Identifier: MIT
"""The driver ISO: what lies where, listed in a signed manifest.

README.txt  SHA256SUMS  manifest.json  manifest.p7s
linux/install.sh  linux/certificate.der  linux/certificate.pem
linux/deb/*.deb  linux/rpm/*.rpm  and their indexes (repository.py)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.run import Runner
from vbuskit.ci.manifest import NAME, SIGNATURE, SUMS, Entry, Manifest, Package, sha256sums
from vbuskit.ci.media import read_iso, write_iso
from vbuskit.ci.repository import DEBS, RPMS, indexed, is_index
from vbuskit.kmp import rpmfile
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.keys import Key
from vbuskit.kmp.rpmfile import read_rpm
from vbuskit.kmp.signing import sign_detached, split_signature

CERTIFICATES = frozenset({"linux/certificate.der", "linux/certificate.pem"})
FOLDERS = {".deb": DEBS, ".rpm": RPMS}


def build(
    run: Runner, tree: Path, release: Release, key: Key, packages: Sequence[Artifact], path: Path
) -> Artifact:
    """Write the ISO with these .deb and .rpm files; equal inputs, the key included, give equal bytes."""
    return write_iso(contents(run, tree, release, key, packages), release.epoch, path)


def contents(
    run: Runner, tree: Path, release: Release, key: Key, packages: Sequence[Artifact]
) -> dict[str, bytes]:
    """Path on the ISO -> bytes, manifest and signature included."""
    sources = tree / "ci/iso"
    files = {f"{FOLDERS[package.path.suffix]}/{package.path.name}": package.path for package in packages}
    packed = {path: file.read_bytes() for path, file in files.items()}
    ours = packed | indexed(run, release, packed)
    ours["README.txt"] = (sources / "README.txt").read_bytes()
    ours["linux/install.sh"] = (sources / "install.sh").read_bytes()
    ours["linux/certificate.der"] = key.certificate_der
    ours["linux/certificate.pem"] = key.certificate_pem
    ours[SUMS] = sha256sums(ours)
    manifest = Manifest(
        vbuskit=release.version,
        epoch=release.epoch,
        files={name: Entry.of(raw) for name, raw in ours.items()},
        packages=tuple(described(path, raw) for path, raw in sorted(packed.items())),
    ).to_json()
    return ours | {NAME: manifest, SIGNATURE: sign_detached(manifest, key)}


def described(path: str, raw: bytes) -> Package:
    """What the manifest says of a package; the package's own control file or header decides."""
    return described_rpm(path, raw) if path.endswith(".rpm") else described_deb(path, raw)


def described_deb(path: str, raw: bytes) -> Package:
    fields = read_deb(raw).fields
    return Package(
        file=path,
        name=fields.get("Package", ""),
        version=fields.get("Version", ""),
        architecture=fields.get("Architecture", ""),
        kernel=fields.get("Kernel-Release", ""),
    )


def described_rpm(path: str, raw: bytes) -> Package:
    """The folder of the modules says which kernel they are for."""
    rpm = read_rpm(raw)
    kernels = {module.split("/")[2] for module in rpm.modules() if module.startswith("lib/modules/")}
    return Package(
        file=path,
        name=rpm.tags.get(rpmfile.NAME, ""),
        version=f"{rpm.tags.get(rpmfile.VERSION)}-{rpm.tags.get(rpmfile.RELEASE)}",
        architecture=rpm.tags.get(rpmfile.ARCHITECTURE, ""),
        kernel=" ".join(sorted(kernels)),
    )


def unsigned_view(path: Path) -> dict[str, bytes]:
    """What of an ISO does not depend on the key: path -> bytes, two keys give the same.

    Cut off or left out: both certificates, the manifest's signature, the signature of every module; what is
    computed over those (packages are unpacked, checksums, sizes and the indexes are left out).
    """
    files = read_iso(path)
    manifest = json.loads(files.pop(NAME))
    rest = {name: raw for name, raw in files.items() if name not in CERTIFICATES | {SIGNATURE, SUMS}}
    body = {**manifest, "files": sorted(manifest["files"])}
    unsigned = {NAME: json.dumps(body, sort_keys=True).encode()}
    for name, raw in rest.items():
        if not is_index(name):
            unsigned |= UNSIGNED.get(Path(name).suffix, plain)(name, raw)
    return unsigned


def plain(name: str, raw: bytes) -> dict[str, bytes]:
    return {name: raw}


def unsigned_deb(name: str, raw: bytes) -> dict[str, bytes]:
    """The members of a package; Installed-Size and md5sums count the signature, so they go."""
    deb = read_deb(raw)
    parts = unsigned_files(name, deb.files)
    for path, content in deb.control.items():
        lines = content.splitlines(keepends=True)
        if path != "md5sums":
            parts[f"{name}#{path}"] = b"".join(x for x in lines if not x.startswith(b"Installed-Size:"))
    return parts


def unsigned_rpm(name: str, raw: bytes) -> dict[str, bytes]:
    """Its files and what its header says in words, but for digests."""
    rpm = read_rpm(raw)
    words = {tag: text for tag, text in rpm.tags.items() if tag not in rpmfile.DIGESTS}
    return unsigned_files(name, rpm.files) | {f"{name}#{tag}": text.encode() for tag, text in words.items()}


def unsigned_files(name: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        f"{name}!{path}": split_signature(raw)[0] if path.endswith(".ko") else raw
        for path, raw in files.items()
    }


UNSIGNED = {".deb": unsigned_deb, ".rpm": unsigned_rpm}


def unsigned_digest(path: Path) -> str:
    """One SHA-256 over `unsigned_view`."""
    total = hashlib.sha256()
    for name, raw in sorted(unsigned_view(path).items()):
        total.update(f"{name}\0{len(raw)}\0".encode() + raw)
    return total.hexdigest()
