# SPDX-License-Identifier: MIT
"""Say of a driver ISO, a package or a module whether it is what the trusted key signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.inputs import content
from vbuskit.ci.iso import CERTIFICATES, described
from vbuskit.ci.manifest import NAME, SIGNATURE, SUMS, UNLISTED, Entry, Manifest, Package, sha256sums
from vbuskit.ci.media import read_iso
from vbuskit.kmp.debfile import MOST, Deb, read_deb
from vbuskit.kmp.keys import parse_certificate, subject
from vbuskit.kmp.rpmfile import Rpm, read_rpm
from vbuskit.kmp.signing import verify_detached, verify_module

READERS: dict[str, Callable[[bytes], Deb | Rpm]] = {".deb": read_deb, ".rpm": read_rpm}


def verify(path: Path, trusted: x509.Certificate) -> list[str]:
    """One line for each thing that was checked; Refused, naming the file, where one does not hold."""
    kind = KINDS.get(path.suffix)
    if kind is None:
        raise UsageError(f"{path}: is none of {', '.join(KINDS)}", hint="verify takes what vbuskit makes")
    return kind(path, trusted)


def verify_iso(path: Path, trusted: x509.Certificate) -> list[str]:
    files = read_iso(path)
    manifest = signed_manifest(path.name, files, trusted)
    compare_files(path.name, files, manifest)
    check_certificates(path.name, files, trusted)
    check_sums(path.name, files)
    check_packages(path.name, files, manifest)
    packages = [(package, f"{path.name}: {package.file}") for package in manifest.packages]
    return [
        f"{NAME}: signed by {subject(trusted)}, vbuskit {manifest.vbuskit}",
        f"{len(manifest.files)} files: sha256 and size as listed, none missing, none extra",
        *(line for package, name in packages for line in listed_lines(package, name, files, trusted)),
    ]


def signed_manifest(iso: str, files: Mapping[str, bytes], trusted: x509.Certificate) -> Manifest:
    for name in (NAME, SIGNATURE):
        if name not in files:
            raise Refused(f"{iso}: {name}: is missing", hint="this is no whole driver ISO")
    with naming(f"{iso}: {SIGNATURE}"):
        verify_detached(files[NAME], files[SIGNATURE], trusted)
    with naming(iso):
        return Manifest.from_json(files[NAME])


def compare_files(iso: str, files: Mapping[str, bytes], manifest: Manifest) -> None:
    for name, entry in sorted(manifest.files.items()):
        if name not in files:
            raise Refused(f"{iso}: {name}: is listed and missing")
        if Entry.of(files[name]) != entry:
            raise Refused(f"{iso}: {name}: is not what the manifest says", hint="get the ISO once more")
    extra = sorted(files.keys() - manifest.files.keys() - UNLISTED)
    if extra:
        raise Refused(f"{iso}: {extra[0]}: is on the ISO and not in the manifest")


def check_certificates(iso: str, files: Mapping[str, bytes], trusted: x509.Certificate) -> None:
    """Users enrol what the ISO carries, so it must be the certificate that was trusted."""
    for name in sorted(CERTIFICATES):
        with naming(f"{iso}: {name}"):
            if name not in files or parse_certificate(files[name]) != trusted:
                raise Refused("is not the trusted certificate")


def check_sums(iso: str, files: Mapping[str, bytes]) -> None:
    covered = {name: raw for name, raw in files.items() if name not in UNLISTED | {SUMS}}
    if files.get(SUMS) != sha256sums(covered):
        raise Refused(f"{iso}: {SUMS}: does not list the files of the ISO")


def check_packages(iso: str, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """The manifest lists every package, and says of each what its control file says."""
    with naming(f"{iso}: {NAME}"):
        packages = ((name, raw) for name, raw in sorted(files.items()) if Path(name).suffix in READERS)
        found = tuple(described(name, raw) for name, raw in packages)
        if found != manifest.packages:
            raise Refused("does not describe the packages on the ISO")


def listed_lines(
    package: Package, name: str, files: Mapping[str, bytes], trusted: x509.Certificate
) -> list[str]:
    """What is for no kernel and has no modules is as good as the manifest, whose sums were compared."""
    modules = modules_in(name, files[package.file])
    if not package.kernel and not modules:
        return [f"{name}: has no modules, and is what the manifest says"]
    return module_lines(name, modules, trusted)


def verify_deb(path: Path, trusted: x509.Certificate) -> list[str]:
    lines = module_lines(path.name, modules_in(path.name, content(path, MOST)), trusted)
    return [*lines, f"{path.name}: its scripts are not signed; they are by the manifest of an ISO"]


def verify_rpm(path: Path, trusted: x509.Certificate) -> list[str]:
    lines = module_lines(path.name, modules_in(path.name, content(path, MOST)), trusted)
    return [*lines, f"{path.name}: its scriptlets are not signed; `rpm -K` knows who signed a package"]


def modules_in(name: str, raw: bytes) -> dict[str, bytes]:
    """Of a package; how `name` ends says of which format."""
    with naming(name):
        return READERS[Path(name).suffix](raw).modules()


def module_lines(name: str, modules: Mapping[str, bytes], trusted: x509.Certificate) -> list[str]:
    if not modules:
        raise Refused(f"{name}: has no kernel modules, and nothing else in it could be signed")
    for module, body in modules.items():
        with naming(f"{name}: {module}"):
            verify_module(body, trusted)
    return [f"{name}: {len(modules)} modules signed by {subject(trusted)}"]


def verify_ko(path: Path, trusted: x509.Certificate) -> list[str]:
    with naming(path.name):
        verify_module(content(path, MOST), trusted)
    return [f"{path.name}: signed by {subject(trusted)}"]


KINDS: dict[str, Callable[[Path, x509.Certificate], list[str]]] = {
    ".iso": verify_iso,
    ".deb": verify_deb,
    ".rpm": verify_rpm,
    ".ko": verify_ko,
    ".gz": verify_ko,
    ".xz": verify_ko,
    ".zst": verify_ko,
}


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put the name of the file in front of what is wrong with it."""
    try:
        yield
    except Refused as error:
        raise type(error)(f"{what}: {error}", hint=error.hint) from error
