# SPDX-License-Identifier: MIT
"""One image, read once: its segments, its tree, and what of it concerns the bus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from vbuskit.base.errors import Refused, VbuskitError
from vbuskit.base.inputs import opened
from vbuskit.base.unpack import Budget
from vbuskit.initrd import kmod
from vbuskit.initrd.archive import Archive, Entry, Segment
from vbuskit.initrd.rootfs import Rootfs

MODULES = ("vbus", "vblk", "venet")
RULES = ("61-vblk.rules", "61-vbus.rules", "81-vbus.rules")
KEPT_BYTES = 256 << 20  # of all files that are kept
# What one image may cost beyond that, however many names and links its files have.
SETTINGS = 8 << 20  # bytes of one file that is no module
TEXT = 128 << 20  # bytes of such files, each time that one is read
LOOKED_AT = 1 << 30  # bytes of modules, unpacked, each time that one is looked at
KERNELS = 16
AGAIN = "build the image again; is its disk full?"

# Names of files whose content is looked at.
KEPT = re.compile(
    rf"""(?x) (?:^|/) (?:
    (?:{"|".join(MODULES)}) \.ko (?:\.xz|\.zst|\.gz)?
    | modules\.(?:dep|alias|builtin)
    | modules\.(?:dep|alias)\.bin
    | conf/modules
    | modules-load\.d/[^/]+\.conf
    | modprobe\.d/[^/]+\.conf
    | rules\.d/(?:{"|".join(re.escape(name) for name in RULES)})
    )$"""
)

UDEV_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
UDEVD = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd", "/sbin/udevd", "/usr/bin/udevadm")
MODPROBE_FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
LISTS = ("/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d", "/lib/modules-load.d")

# Who made the image -> paths that only its images have.
GENERATORS = {
    "dracut": ("/usr/lib/dracut", "/lib/dracut", "/usr/lib/dracut-lib.sh", "/lib/dracut-lib.sh"),
    "initramfs-tools": ("/conf/initramfs.conf", "/conf/arch.conf"),
}


@dataclass(frozen=True, slots=True)
class Image:
    segments: list[Segment]
    tree: Rootfs
    _text: Budget = field(default_factory=lambda: Budget(TEXT, "has more settings than vbuskit reads"))
    _modules: Budget = field(
        default_factory=lambda: Budget(LOOKED_AT, "has more modules of our names than vbuskit reads")
    )

    @property
    def generator(self) -> str | None:
        return next(
            (name for name, marks in GENERATORS.items() if any(map(self.tree.find, marks))),
            None,
        )

    def releases(self) -> list[str]:
        """Kernels whose modules are here: those that modprobe finds an index for, if there is any such."""
        names = self.tree.names("/lib/modules")
        indexed = [name for name in names if self._has_index(name)]
        found = indexed or [name for name in names if any(map(kmod.suffix, self.files(name)))]
        if len(found) > KERNELS:
            raise Refused(f"has modules of more than {KERNELS} kernels")
        return found

    def files(self, release: str) -> Iterator[str]:
        return self.tree.below(f"/lib/modules/{release}")

    def ours(self, release: str) -> list[str]:
        """Paths of our modules of that kernel, in the order of their names."""
        found = [
            path for path in self.files(release) if kmod.suffix(path) and kmod.module_name(path) in MODULES
        ]
        return sorted(found, key=lambda path: (MODULES.index(kmod.module_name(path)), path))

    def module(self, path: str) -> bytes:
        """The module at `path`, unpacked; Refused when it is missing or damaged."""
        raw = self.tree.content(path)
        if raw is None:
            raise Refused("is a link to nothing" if self.tree.find(path) is None else "is no file")
        module = kmod.unpacked_module(path, raw)
        self._modules.spend(len(module))
        return module

    def dependencies(self, release: str) -> dict[str, list[str]]:
        """Of our modules: name -> paths below the folder of `release`: its own, then what it needs."""
        return kmod.dependencies(self._index(release, "modules.dep", ""), MODULES)

    def aliases(self, release: str) -> Iterator[tuple[str, str]]:
        """(pattern, module name)."""
        return kmod.aliases(self._index(release, "modules.alias", "alias "))

    def loaded_for(self, release: str, modalias: str) -> set[str]:
        """Names of the modules that a device with this modalias loads."""
        return set(kmod.fitting(self.aliases(release), modalias))

    def builtin(self, release: str) -> set[str]:
        return set(map(kmod.module_name, self.lines(f"/lib/modules/{release}/modules.builtin")))

    def lines(self, path: str) -> Iterator[str]:
        """Lines of a text file with something in them; none when it is not there."""
        raw = self.tree.content(path) or b""
        self._text.spend(len(raw))
        texts = (each.decode(errors="backslashreplace").strip() for each in BytesIO(raw))
        return (text for text in texts if text)

    def listed(self) -> dict[str, str]:
        """Those of our modules that are loaded in any case -> the file that says so."""
        lists = [f"{folder}/{name}" for folder in LISTS for name in self.tree.names(folder)]
        files = ["/conf/modules", *lists]
        named = ((line.split()[0].replace("-", "_"), file) for file in files for line in self.lines(file))
        return {name: file for name, file in named if name in MODULES}

    def forbidden(self) -> dict[str, str]:
        """Those of our modules that are kept from being loaded -> the file of modprobe.d that says so."""
        files = [f"{folder}/{name}" for folder in MODPROBE_FOLDERS for name in self.tree.names(folder)]
        lines = ((file, line.split(maxsplit=2)) for file in files for line in self.lines(file))
        return {
            name: file
            for file, words in lines
            if len(words) > 1
            and words[0] in ("blacklist", "install")
            and (name := words[1].replace("-", "_")) in MODULES
        }

    def rule(self, name: str) -> str | None:
        """The path of a udev rules file: the first of the folders that has it hides those of the others."""
        return next((f"{folder}/{name}" for folder in UDEV_FOLDERS if name in self.tree.names(folder)), None)

    def has_udev(self) -> bool:
        """Whether devices load their modules by alias: udevd, and the rule that asks it to."""
        return self.has_udevd() and self.rule("80-drivers.rules") is not None

    def has_udevd(self) -> bool:
        return any(map(self.tree.find, UDEVD))

    def _has_index(self, release: str) -> bool:
        names = self.tree.names(f"/lib/modules/{release}")
        return "modules.dep" in names or "modules.dep.bin" in names

    def _index(self, release: str, name: str, before: str) -> Iterator[str]:
        """Lines of the text form; out of the binary form where there is one, as kmod reads nothing else."""
        path = f"/lib/modules/{release}/{name}"
        raw = self.tree.content(f"{path}.bin")
        if raw is None:
            return self.lines(path)
        self._text.spend(len(raw))
        return named(f"{path}.bin", (f"{before}{line}" for line in index_lines(raw, name)))


def index_lines(raw: bytes, name: str) -> Iterator[str]:
    """modules.dep.bin has the lines of the text as values; modules.alias.bin the patterns as keys."""
    for key, value in kmod.index(raw):
        yield value if name == "modules.dep" else f"{key} {value}"


def named(path: str, lines: Iterator[str]) -> Iterator[str]:
    try:
        yield from lines
    except Refused as error:
        raise Refused(f"{path}: {error}", hint="run depmod and build the image again") from error


def read_image(path: Path) -> Image:
    """Everything of `path` that is looked at; the errors name it."""
    with opened(path) as file:
        archive, tree = Archive(file, is_kept), Rootfs()
        kept = Budget(KEPT_BYTES, f"has more than {KEPT_BYTES >> 20} MiB of modules and settings of ours")
        try:
            for entry in archive.entries():
                kept.spend(size_of(entry))
                tree.add(entry)
            image = Image(archive.segments, tree)
            image.releases()
        except VbuskitError as error:
            raise type(error)(f"{path}: {error}", hint=error.hint or AGAIN) from error
    return image


def size_of(entry: Entry) -> int:
    """Bytes of what is kept of it."""
    size = len(entry.body or b"")
    if size > SETTINGS and kmod.suffix(entry.name) is None:
        raise Refused(f"{entry.name}: has more than {SETTINGS >> 20} MiB, and is no module")
    return size


def is_kept(name: str) -> bool:
    return KEPT.search(name) is not None
