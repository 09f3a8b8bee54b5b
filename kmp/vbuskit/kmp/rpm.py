# SPDX-License-Identifier: MIT
"""Build the kernel module package as RPM: `vbus`, the same for all kernels, and `vbus-kmp-FLAVOUR`, modules.

The spec (kmp/rpm/vbus.spec) is one for build hosts of SUSE and RHEL as well. Their macro packages are not to
be had here, so rpmbuild is given ours (kmp/rpm/macros), which do what SUSE's do; no setting of the user's.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path

from vbuskit.base.artifact import Artifact, written
from vbuskit.base.errors import Refused
from vbuskit.base.run import CommandFailed, Runner, not_for_want_of_room
from vbuskit.drivers.kernel import headers_of, sources_of
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.deb import MAINTAINER, Spoil, module_for, shared_files, shared_shell
from vbuskit.kmp.flavour import flavour_of

NAME = "vbus"
BESIDE = ("vbus.preamble", "vbus.files")
ARCHITECTURE = "x86_64"
LICENCES = ("MIT.txt", "GPL-2.0-only.txt")
MACHINE = 62  # EM_X86_64 of elf.h
ENTRY = re.compile(
    r"^\S+ \((?P<version>[^)]+)\).*?$(?P<text>.*?)^ -- .+?>  (?P<date>.+?)$", re.DOTALL | re.MULTILINE
)
# Who built it, when, and with how many threads is what makes two builds differ.
DEFINES: dict[str, str | Path] = {
    "_buildhost": "vbuskit",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_binary_payload": "w6.xzdio",
    "_source_payload": "w6.xzdio",
    "_build_id_links": "none",
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key as the kernel's sign-file takes it: two PEM files, the key without a passphrase."""

    key: Path
    certificate: Path


def build(
    run: Runner,
    tree: Path,
    release: Release,
    kernel: str,
    modules: Mapping[str, Artifact],
    into: Path,
    spoil: Spoil = bytes,
) -> dict[str, Artifact]:
    """Write `into`/{vbus,vbus-kmp-FLAVOUR}-*.rpm and return them by package name.

    `modules` are signed .ko files of the kernel release `kernel`. Equal inputs give equal bytes, in any
    folder and on any day.
    """
    flavour = flavour_of(kernel)
    contents = {name: spoil(module_of(kernel, name, module)) for name, module in modules.items()}
    files = {f"modules/{flavour}/{name}.ko": raw for name, raw in contents.items()}
    with build_folder(tree, release, NAME, shared(tree) | files, BESIDE) as top:
        generated = top / "kernels" / flavour / "include/generated"
        generated.mkdir(parents=True)
        (generated / "utsrelease.h").write_text(f'#define UTS_RELEASE "{kernel}"\n')
        words = ["-bb", "--with", "prebuilt", *macros(tree, top)]
        return rpmbuild(run, release, top, words, into)


def build_from_source(
    run: Runner, tree: Path, release: Release, kernel: str, into: Path, signing: SigningKey | None = None
) -> dict[str, Artifact]:
    """As `build`, but rpmbuild compiles the drivers and packs their debug information and the sources, too.

    This is what build hosts of SUSE and RHEL do with the src.rpm. Blocked without the headers of `kernel`.
    """
    flavour = flavour_of(kernel)
    headers = headers_of(kernel)
    files = {f"drivers/{path}": file.read_bytes() for path, file in sources_of(tree / "drivers").items()}
    with build_folder(tree, release, NAME, shared(tree) | files, BESIDE) as top:
        (top / "kernels").mkdir()
        (top / "kernels" / flavour).symlink_to(headers)
        words = ["-ba", *macros(tree, top), *defined("_enable_debug_packages", "1")]
        if signing:
            words += defined("module_signing_key", signing.key.resolve())
            words += defined("module_signing_certificate", signing.certificate.resolve())
        return rpmbuild(run, release, top, words, into)


def macros(tree: Path, top: Path) -> list[str]:
    """The words for rpmbuild that stand in for the macro packages of SUSE and RHEL."""
    ours = (tree / "kmp/rpm/macros").resolve()
    words = ["--load", str(ours / "macros.kmp"), "--load", str(ours / "kmp.attr")]
    for name, value in {"_fileattrsdir": ours, "kmp_macros": ours, "kmp_kernels": top / "kernels"}.items():
        words += defined(name, value)
    return words


def module_of(kernel: str, name: str, module: Artifact) -> bytes:
    """The module's bytes; Refused when it was built for another kernel or for another architecture."""
    raw = module_for(kernel, name, module)
    machine = struct.unpack_from("<H", raw, 18)[0] if raw.startswith(b"\x7fELF\x02\x01") else None
    if machine != MACHINE:
        raise Refused(
            f"{name}.ko: is built for ELF machine {machine}, not for {ARCHITECTURE} ({MACHINE})",
            hint=f"build it for {ARCHITECTURE}",
        )
    return raw


@contextmanager
def build_folder(
    tree: Path, release: Release, name: str, contents: Mapping[str, bytes], beside: Sequence[str] = ()
) -> Iterator[Path]:
    """A %_topdir with kmp/rpm/NAME.spec, what lies `beside` it there, and a tar with `contents`."""
    with tempfile.TemporaryDirectory(prefix="vbuskit-rpm.") as folder:
        top, rpm = Path(folder), tree / "kmp/rpm"
        sources = top / "SOURCES"
        sources.mkdir()
        for other in beside:
            shutil.copyfile(rpm / other, sources / other)
        (sources / f"{name}.spec").write_text(spec(tree, release, name))
        inner = f"{name}-{release.debian_version}"
        (sources / f"{inner}.tar.xz").write_bytes(packed(inner, contents, release.epoch))
        yield top


def shared(tree: Path) -> dict[str, bytes]:
    """Path in the tar -> content, of what is packed besides the drivers."""
    return {
        "VERSION": (tree / "VERSION").read_bytes(),
        **{name: (tree / "LICENSES" / name).read_bytes() for name in LICENCES},
        **{path.removeprefix("initrd/"): (tree / path).read_bytes() for path in rpms_own(tree)},
    }


def rpms_own(tree: Path) -> list[str]:
    """Of what all kernels share: no distribution with RPMs has initramfs-tools."""
    return [path for path in shared_files(tree) if "/initramfs-tools/" not in path]


def spec(tree: Path, release: Release, name: str) -> str:
    text = (tree / f"kmp/rpm/{name}.spec").read_text()
    text = text.replace("@DISKS@\n", shared_shell(tree, "kmp/scripts/disks.sh"))
    log = changelog((tree / "kmp/debian/changelog").read_text())
    return text.replace("@VERSION@", release.debian_version).replace("@CHANGELOG@\n", log)


def changelog(debian: str) -> str:
    """kmp/debian/changelog as rpm writes one; both spell a version in the same way."""
    entries = []
    for entry in ENTRY.finditer(debian):
        day = parsedate_to_datetime(entry["date"]).astimezone(UTC).strftime("%a %b %d %Y")
        points = [" ".join(point.split()) for point in entry["text"].split("\n  * ")[1:]]
        lines = [f"* {day} {MAINTAINER} - {entry['version']}-1", *(f"- {point}" for point in points)]
        entries.append("\n".join(lines).replace("%", "%%"))
    return "\n\n".join(entries) + "\n"


def packed(top: str, files: Mapping[str, bytes], epoch: int) -> bytes:
    """A tar.xz with everything below the folder `top`, whose bytes follow from the files alone."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:xz", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mtime, member.mode = len(content), epoch, 0o644
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def rpmbuild(
    run: Runner, release: Release, top: Path, words: Sequence[str], into: Path
) -> dict[str, Artifact]:
    """Run rpmbuild on the spec in `top` and move what it wrote to `into`; package name -> file."""
    command = ["rpmbuild", *words, "--nodeps"]
    folders = {"_topdir": top, "_tmppath": top / "tmp", "_dbpath": top / "db"}
    for name, value in (DEFINES | folders).items():
        command += defined(name, value)
    command += map(str, (top / "SOURCES").glob("*.spec"))
    times = {"SOURCE_DATE_EPOCH": str(release.epoch), "TZ": "UTC"}
    done = run.attempt(command, cwd=top, env={**times, "HOME": str(top)})
    if done.code:
        not_for_want_of_room("rpmbuild", done)
        # "Bad exit status" comes last and says nothing; what went wrong was said before it.
        said = [line for line in done.err.splitlines() if re.search(r"error: (?!Bad exit)", line)]
        raise CommandFailed(command, done.code, said[0] if said else done.err or done.out)
    made = sorted([*top.glob("RPMS/*/*.rpm"), *top.glob("SRPMS/*.rpm")])
    return {package_of(file): moved(file, into) for file in made}


def package_of(file: Path) -> str:
    """NAME of NAME-VERSION-RELEASE.ARCHITECTURE.rpm, and .src after a source package's."""
    return file.name.rsplit("-", 2)[0] + (".src" if file.name.endswith(".src.rpm") else "")


def moved(file: Path, into: Path) -> Artifact:
    with written(into / file.name) as draft:
        shutil.copyfile(file, draft)
    return Artifact.of(into / file.name)


def defined(name: str, value: str | Path) -> list[str]:
    return ["--define", f"{name} {value}"]
