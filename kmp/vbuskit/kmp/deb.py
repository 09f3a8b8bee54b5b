# SPDX-License-Identifier: MIT
"""Build the Debian packages: what all kernels share, the signed modules of one kernel, and what follows it.

    vbus-common_VERSION_all.deb                  udev rules, the hook of initramfs-tools
    vbus-modules-KERNEL_VERSION_amd64.deb        the modules; one for each kernel, side by side
    vbus-modules-FLAVOUR_VERSION+KERNEL_all.deb  depends on the modules of the newest kernel of its flavour

apt asks of the last one whether there is a newer version, so the kernel is a part of its version. apt's
autoremove takes a name of the form *-modules-KERNEL for a part of that kernel, and keeps both or none.

Formats: deb(5), deb-control(5). Modules go to /lib/modules, not /usr/lib/modules: on
bookworm both are one folder, but dpkg knows only the spelling, and the kernel's own package says /lib, so
that dpkg knows the folder as shared. `updates` wins over `kernel` in depmod's order.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vbuskit.base.artifact import Artifact, written
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.run import Runner
from vbuskit.kmp.changelog import Release
from vbuskit.kmp.flavour import flavour_of, numbers_of

COMMON = "vbus-common"
MODULES = "vbus-modules"  # before a kernel's release or a flavour
MAINTAINER = "vbuskit maintainers <maintainers@vbuskit.invalid>"
# What is a kernel release and may be a part of a package's name (Debian Policy 5.6.1).
RELEASE = re.compile(r"[0-9][0-9a-z.+-]*")
SOURCED = re.compile(r"^# shellcheck source=(kmp/\S+\.sh) .*\n\. \./\S+\n", re.MULTILINE)
# By it vbus-common tells the packages of the modules that their initrds are to be made again.
TRIGGER = "vbus-initrd"

Files = dict[str, tuple[bytes, int]]  # path in the package -> (content, mode)
Spoil = Callable[[bytes], bytes]  # what a planted defect makes of a module (defects.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What goes into one .deb; `fields` are those of its control file that are its own.

    configuration: which of `files` an administrator may change (deb-conffiles(5))
    """

    name: str
    version: str
    architecture: str = "all"
    section: str = "kernel"
    fields: str
    conffiles: Sequence[str] = ()
    files: Files = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    triggers: str = ""


def build(
    run: Runner,
    tree: Path,
    release: Release,
    kernel: str,
    modules: Mapping[str, Artifact],
    into: Path,
    spoil: Spoil = bytes,
) -> dict[str, Artifact]:
    """Write the three packages to `into` and return them by name.

    `modules` are signed .ko files of the kernel release `kernel`, in the order in which they are loaded.
    Equal inputs give equal bytes, in any folder and on any day.
    """
    if not RELEASE.fullmatch(kernel):
        raise UsageError(
            f"{kernel}: is no kernel release that a Debian package can be named after",
            hint="what `uname -r` prints in the guest",
        )
    contents = {name: spoil(module_for(kernel, name, module)) for name, module in modules.items()}
    packages = [
        common(tree, release),
        modules_of(tree, release, kernel, contents),
        following(release, kernel),
    ]
    return {package.name: packed(run, tree, release, package, into) for package in packages}


def module_for(kernel: str, name: str, module: Artifact) -> bytes:
    """The module's bytes; Refused when it was built for another kernel."""
    raw = module.path.read_bytes()
    magic = re.search(rb"(?<=\0vermagic=)[^ \0]+", raw)
    if magic is None or magic[0].decode(errors="replace") != kernel:
        built = magic[0].decode(errors="replace") if magic else "no kernel"
        raise Refused(f"{name}.ko: is built for {built}, not for {kernel}", hint="build it for that kernel")
    return raw


def common(tree: Path, release: Release) -> Package:
    """Udev rules, hook and dracut module of all kernels; what changes of them reaches each one's initrd."""
    files: Files = {}
    for source, folder in shared_files(tree).items():
        raw = (tree / source).read_bytes()
        files[f"{folder}/{Path(source).name}"] = (raw, 0o755 if raw.startswith(b"#!") else 0o644)
    scripts = {
        name: (tree / "kmp/debian" / f"{COMMON}.{name}").read_text() for name in ("postinst", "postrm")
    }
    return Package(
        name=COMMON,
        version=release.debian_version,
        files=files,
        scripts=scripts,
        triggers=f"activate-noawait {TRIGGER}\n",
        fields="""\
Recommends: initramfs-tools | dracut
Description: paravirtual bus, network and disk drivers: what all kernels share
 What guest drivers of the vbus paravirtual bus need besides the drivers: the
 udev rules that name devices by their UUID, and what puts the drivers into
 the initrd of each kernel that has them: an initramfs-tools hook, and a
 dracut module.
""",
    )


def shared_files(tree: Path) -> dict[str, str]:
    """What all kernels share: the path in `tree` of each file -> the folder that it is installed in."""
    lines = (tree / "kmp/debian" / f"{COMMON}.install").read_text().splitlines()
    return dict(line.split() for line in lines)


def modules_of(tree: Path, release: Release, kernel: str, modules: Mapping[str, bytes]) -> Package:
    """The kernel is a dependency: without it the modules are useless, and removing it removes them.

    vbus-common may be newer, or one kernel's upgrade would take the modules of all others away.
    Kernel-Release is our own field, so that install.sh can ask a package file which kernel it is for.
    """
    scripts = {
        name: maintainer_script(tree, f"{MODULES}.{name}", kernel, list(modules))
        for name in ("postinst", "prerm", "postrm")
    }
    return Package(
        name=f"{MODULES}-{kernel}",
        version=release.debian_version,
        architecture="amd64",
        files=overrides(tree, MODULES, kernel)
        | {f"lib/modules/{kernel}/updates/vbus/{name}.ko": (raw, 0o644) for name, raw in modules.items()},
        scripts=scripts,
        triggers=f"interest-noawait {TRIGGER}\n",
        fields=f"""\
Depends: {COMMON} (>= {release.debian_version}), kmod, linux-image-{kernel} | linux-image-{kernel}-unsigned
Kernel-Release: {kernel}
Description: paravirtual bus, network and disk drivers for Linux {kernel}
 Guest drivers of the vbus paravirtual bus: the bridge to the host (vbus),
 the network device (venet) and the disk (vblk) on it, signed for this kernel
 release.
""",
    )


def following(release: Release, kernel: str) -> Package:
    """The metapackage. Not of the section `metapackages`: apt would keep old kernels' modules for ever."""
    flavour = flavour_of(kernel)
    return Package(
        name=f"{MODULES}-{flavour}",
        version=following_version(release, kernel),
        fields=f"""\
Depends: {MODULES}-{kernel} (>= {release.debian_version})
Description: paravirtual bus, network and disk drivers for Linux {flavour}
 This metapackage depends on the guest drivers of the vbus paravirtual bus for
 the newest kernel of the flavour {flavour} that they were built for.
""",
    )


def following_version(release: Release, kernel: str) -> str:
    """Newer with each driver, then with each kernel; a release candidate is older than its kernel."""
    numbers = re.sub(r"-(?=rc\d)", "~", numbers_of(kernel)).replace("-", ".")
    return f"{release.debian_version}+{numbers}"


def documents(tree: Path, name: str) -> Files:
    debian, folder = tree / "kmp/debian", f"usr/share/doc/{name}"
    changelog = gzip.compress((debian / "changelog").read_bytes(), 9, mtime=0)
    return {
        f"{folder}/copyright": ((debian / "copyright").read_bytes(), 0o644),
        f"{folder}/changelog.gz": (changelog, 0o644),
    }


def overrides(tree: Path, name: str, kernel: str = "") -> Files:
    """What lintian says of a package and we keep; each with its reason."""
    text = (tree / "kmp/debian" / f"{name}.lintian-overrides").read_bytes()
    package = f"{name}-{kernel}" if kernel else name
    return {f"usr/share/lintian/overrides/{package}": (text, 0o644)}


def packed(run: Runner, tree: Path, release: Release, package: Package, into: Path) -> Artifact:
    target = into / f"{package.name}_{package.version}_{package.architecture}.deb"
    files = documents(tree, package.name) | package.files
    with tempfile.TemporaryDirectory(prefix="vbuskit-deb.") as folder, written(target) as draft:
        root = Path(folder)
        put_files(root, files | control_files(package, release, files))
        set_times(root, release.epoch)
        # One thread: xz cuts the stream into other blocks with another number of them.
        run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", root, draft],
            env={"SOURCE_DATE_EPOCH": str(release.epoch), "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        )
    return Artifact.of(target)


def control_files(package: Package, release: Release, files: Files) -> Files:
    sums = "".join(
        f"{md5(raw)}  {path}\n" for path, (raw, _) in sorted(files.items()) if path not in package.conffiles
    )
    kilobytes = sum(-(-len(raw) // 1024) for raw, _ in files.values())
    made = {
        "DEBIAN/control": (control(package, release, kilobytes).encode(), 0o644),
        "DEBIAN/md5sums": (sums.encode(), 0o644),
    }
    if package.triggers:
        made["DEBIAN/triggers"] = (package.triggers.encode(), 0o644)
    if package.conffiles:
        listed = "".join(f"/{path}\n" for path in package.conffiles)
        made["DEBIAN/conffiles"] = (listed.encode(), 0o644)
    for name, text in package.scripts.items():
        made[f"DEBIAN/{name}"] = (text.encode(), 0o755)
    return made


def control(package: Package, release: Release, kilobytes: int) -> str:
    same = package.version == release.debian_version
    source = "vbuskit" if same else f"vbuskit ({release.debian_version})"
    return f"""\
Package: {package.name}
Source: {source}
Version: {package.version}
Architecture: {package.architecture}
Maintainer: {MAINTAINER}
Installed-Size: {kilobytes}
Section: {package.section}
Priority: optional
{package.fields}"""


def maintainer_script(tree: Path, name: str, kernel: str, modules: list[str]) -> str:
    """kmp/debian/NAME, whole, and with the @WORDS@ filled in."""
    text = whole(tree, f"kmp/debian/{name}")
    return text.replace("@RELEASE@", kernel).replace("@MODULES@", " ".join(modules))


def whole(tree: Path, path: str) -> str:
    """A script, with what it sources in place of the lines that source it."""
    text = (tree / path).read_text()
    while sourced := SOURCED.search(text):
        text = text.replace(sourced[0], shared_shell(tree, sourced[1]))
    return text


def shared_shell(tree: Path, path: str) -> str:
    """What a script gets in place of a line that sources `path`: all below its head."""
    return (tree / path).read_text().partition("\n\n")[2]


def put_files(root: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Folders are made 0755 whatever the umask is: dpkg-deb packs the modes it finds."""
    for name, (content, mode) in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def set_times(root: Path, epoch: int) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (epoch, epoch))
    os.utime(root, (epoch, epoch))


def md5(raw: bytes) -> str:
    """What dpkg --verify compares (deb-md5sums(5)); against accidents, not against attackers."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()
