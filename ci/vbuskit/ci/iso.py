# SPDX-License-Identifier: MIT
"""The driver ISO: what lies where, listed in a signed manifest.

README.txt  SHA256SUMS  manifest.json  manifest.p7s
linux/install.sh  linux/certificate.der  linux/certificate.pem  linux/deb/*.deb
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.ci.manifest import NAME, SIGNATURE, SUMS, Entry, Manifest, Package, sha256sums
from vbuskit.ci.media import read_iso, write_iso
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.keys import Key
from vbuskit.kmp.signing import sign_detached, split_signature

CERTIFICATES = frozenset({"linux/certificate.der", "linux/certificate.pem"})


def build(tree: Path, release: Release, key: Key, packages: Sequence[Artifact], path: Path) -> Artifact:
    """Write the ISO with these .deb files; equal inputs, the key included, give equal bytes."""
    return write_iso(contents(tree, release, key, packages), release.epoch, path)


def contents(tree: Path, release: Release, key: Key, packages: Sequence[Artifact]) -> dict[str, bytes]:
    """Path on the ISO -> bytes, manifest and signature included."""
    sources = tree / "ci/iso"
    files = {f"linux/deb/{package.path.name}": package.path.read_bytes() for package in packages}
    listed = tuple(described(path, raw) for path, raw in sorted(files.items()))
    files["README.txt"] = (sources / "README.txt").read_bytes()
    files["linux/install.sh"] = (sources / "install.sh").read_bytes()
    files["linux/certificate.der"] = key.certificate_der
    files["linux/certificate.pem"] = key.certificate_pem
    files[SUMS] = sha256sums(files)
    entries = {name: Entry.of(raw) for name, raw in files.items()}
    manifest = Manifest(
        vbuskit=release.version, epoch=release.epoch, files=entries, packages=listed
    ).to_json()
    return files | {NAME: manifest, SIGNATURE: sign_detached(manifest, key)}


def described(path: str, raw: bytes) -> Package:
    """What the manifest says of a package; the package's own control file decides."""
    fields = read_deb(raw).fields
    return Package(
        file=path,
        name=fields.get("Package", ""),
        version=fields.get("Version", ""),
        architecture=fields.get("Architecture", ""),
        kernel=fields.get("Kernel-Release", ""),
    )


def unsigned_view(path: Path) -> dict[str, bytes]:
    """What of an ISO does not depend on the key: path -> bytes, two keys give the same.

    Cut off or left out: both certificates, the manifest's signature, the signature of every module; what is
    computed over those (packages are unpacked, checksums and sizes are left out).
    """
    files = read_iso(path)
    manifest = json.loads(files.pop(NAME))
    rest = {name: raw for name, raw in files.items() if name not in CERTIFICATES | {SIGNATURE, SUMS}}
    body = {**manifest, "files": sorted(manifest["files"])}
    unsigned = {NAME: json.dumps(body, sort_keys=True).encode()}
    for name, raw in rest.items():
        unsigned |= unsigned_deb(name, raw) if name.endswith(".deb") else {name: raw}
    return unsigned


def unsigned_deb(name: str, raw: bytes) -> dict[str, bytes]:
    """The members of a package; Installed-Size and md5sums count the signature, so they go."""
    deb = read_deb(raw)
    parts = {f"{name}!{path}": content for path, content in deb.files.items() if not path.endswith(".ko")}
    parts |= {f"{name}!{path}": split_signature(module)[0] for path, module in deb.modules().items()}
    for path, content in deb.control.items():
        lines = content.splitlines(keepends=True)
        if path != "md5sums":
            parts[f"{name}#{path}"] = b"".join(x for x in lines if not x.startswith(b"Installed-Size:"))
    return parts


def unsigned_digest(path: Path) -> str:
    """One SHA-256 over `unsigned_view`."""
    total = hashlib.sha256()
    for name, raw in sorted(unsigned_view(path).items()):
        total.update(f"{name}\0{len(raw)}\0".encode() + raw)
    return total.hexdigest()
