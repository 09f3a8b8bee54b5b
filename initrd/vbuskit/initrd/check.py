# SPDX-License-Identifier: MIT
"""Can this image reach its root disk on vbus? Each thing that must hold, whether it does, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vbuskit.base.errors import Refused, UsageError
from vbuskit.initrd import kmod
from vbuskit.initrd.image import Image

NEEDED = ("vbus", "vblk")
# The modalias of each; what follows the device id is how QEMU's ivshmem names itself.
MODALIASES = {
    "vbus": "pci:v00001AF4d00001110sv00001AF4sd00001100bc05sc00i00",
    "vblk": "vbus:vblk",
}
RULE = "61-vblk.rules"

OURS = re.compile(r"/dev/vb[a-z]+\d*")
OTHERS = re.compile(r"/dev/(?:[hsv]d[a-z]+\d*|xvd[a-z]+\d*|nvme\d+n\d+(p\d+)?|mmcblk\d+(p\d+)?|nbd\d+)")
# Names that only udev gives: links, and volumes whose parts udev announces.
BY_UDEV = re.compile(r"(?:LABEL|UUID|PARTLABEL|PARTUUID|ID)=\S+|/dev/\S+/\S+|ZFS=\S+|zfs:\S+")
LISTED = "listed in"
BY_DEFAULT = "a root disk by UUID or label"

# Who says of an unpacked module by whom it is signed; Refused where that is nobody who is trusted.
Signer = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must hold: of which kernel ("" for all), what, and what to do where not."""

    release: str
    text: str
    holds: bool = True
    next_step: str = ""


def signed_or_not(module: bytes) -> str:
    """Where nobody is trusted, nothing is refused."""
    if kmod.is_signed(module):
        return "signed"
    return "not signed, which Secure Boot refuses"


def check(
    image: Image, *, root: str | None = None, kernel: str | None = None, signer: Signer = signed_or_not
) -> list[Finding]:
    """The image can reach its root disk where every finding holds; without `kernel`, for all that it has."""
    rules = root_finding(image, root)
    releases = image.releases()
    if kernel is not None and kernel not in releases:
        there = f"only of {', '.join(releases)}" if releases else "of none at all"
        missing = f"there are no modules of this kernel, {there}"
        return [Finding(kernel, missing, False, rebuild(image, kernel)), *rules]
    if not releases:
        return [Finding("", "there are no kernel modules", False, rebuild(image)), *rules]
    chosen = releases if kernel is None else [kernel]
    found = [finding for release in chosen for finding in of_kernel(image, release, signer)]
    return [*found, *rules]


def of_kernel(image: Image, release: str, signer: Signer) -> Iterator[Finding]:
    """What must hold of the modules of one kernel."""
    try:
        kernel = Kernel(image, release, image.dependencies(release), image.builtin(release), signer)
        loaders = {name: kernel.loader(name) for name in NEEDED}
    except Refused as error:
        yield Finding(release, str(error), False, error.hint or rebuild(image, release))
        return
    for name in NEEDED:
        try:
            yield Finding(release, f"{name}: {kernel.module(name)}")
            yield Finding(release, f"{name}: {kernel.loads(name, loaders)}")
        except Refused as error:
            yield Finding(release, f"{name}: {error}", False, error.hint or rebuild(image, release))


@dataclass(frozen=True, slots=True)
class Kernel:
    """The modules of one kernel in an image; methods say what is right, and raise Refused with what is not.

    dependencies: module name -> its path, then those of what it needs, as modules.dep has them
    builtin:      names of the modules that are part of the kernel
    """

    image: Image
    release: str
    dependencies: dict[str, list[str]]
    builtin: set[str]
    signer: Signer

    def module(self, name: str) -> str:
        """That the module and what it needs are here, are for this kernel, and may be loaded."""
        path, *needs = self._indexed(name)
        missing = [need for need in needs if self.image.tree.find(need) is None]
        if missing:
            raise Refused(f"needs {missing[0]}, which is not in the image")
        try:
            raw = self.image.module(path)
            info = kmod.modinfo(raw)
            by = self.signer(raw)
        except Refused as error:
            again = f"build or sign the module again, {install(self.image, self.release)}"
            raise Refused(f"{path}: {error}", hint=error.hint or again) from error
        self._needs_are_named(info, needs)
        return f"{path}, {self._built_for(path, info)}, {by}"

    def loader(self, name: str) -> str | None:
        """What loads the module; None when nothing does."""
        listed, modalias = self.image.listed(), MODALIASES[name]
        if name in listed:
            return f"{LISTED} {listed[name]}"
        if self.image.has_udev() and name in self.image.loaded_for(self.release, modalias):
            return f"loaded for its device, {modalias.partition('sv')[0]}"
        return None

    def loads(self, name: str, loaders: dict[str, str | None]) -> str:
        """That something loads the module, and nothing forbids it."""
        forbidden, again = self.image.forbidden(), command(self.image, self.release)
        if name in forbidden:
            hint = f"take the line away on the installed system, then: {again}"
            raise Refused(f"{forbidden[name]} keeps it from being loaded", hint=hint)
        if by := loaders[name]:
            return by
        if name == "vbus" and (loaders["vblk"] or "").startswith(LISTED):
            return "loaded as what vblk needs"
        if not self.image.has_udev():
            what = "nothing loads it: there is no udevd with 80-drivers.rules, nor a list that names it"
            raise Refused(what, hint=f"add vblk to the list of modules, then: {again}")
        hint = depmod(self.image, self.release)
        raise Refused(f"modules.alias has no {MODALIASES[name]}, so no device loads it", hint=hint)

    def _indexed(self, name: str) -> list[str]:
        """Absolute paths of the module and of what it needs, as modprobe finds them."""
        hint = install(self.image, self.release)
        if name not in self.dependencies:
            for path in self.image.ours(self.release):
                if kmod.module_name(path) == name:
                    again = depmod(self.image, self.release)
                    raise Refused(f"is in the image ({path}), but not in modules.dep", hint=again)
            for path in self.image.tree.lost:
                if kmod.module_name(path) == name:
                    raise Refused(f"is lost: the image has no entry for the folder of {path}", hint=hint)
            raise Refused("is not in the image", hint=hint)
        folder = f"/lib/modules/{self.release}"
        named = self.dependencies[name]
        paths = [path if path.startswith("/") else f"{folder}/{path}" for path in named]
        if self.image.tree.find(paths[0]) is None:
            raise Refused(f"is not in the image; modules.dep names {paths[0]}", hint=hint)
        return paths

    def _needs_are_named(self, info: dict[str, list[str]], needs: list[str]) -> None:
        depends = {each.replace("-", "_") for each in info.get("depends", [""])[0].split(",") if each}
        unnamed = sorted(depends - self.builtin - set(map(kmod.module_name, needs)))
        if unnamed:
            hint = depmod(self.image, self.release)
            raise Refused(f"needs {', '.join(unnamed)}, and modules.dep does not say so", hint=hint)

    def _built_for(self, path: str, info: dict[str, list[str]]) -> str:
        """Another kernel's module loads only where symbols have versions and weak-modules compared them."""
        built_for, _, options = info.get("vermagic", [""])[0].partition(" ")
        if built_for == self.release:
            return "built for this kernel"
        if "/weak-updates/" in path and "modversions" in options.split():
            return f"built for {built_for}, with the same versions of symbols"
        hint = install(self.image, self.release)
        raise Refused(f"{path}: is built for {built_for or 'no kernel'}, not for this one", hint=hint)


def root_finding(image: Image, root: str | None) -> list[Finding]:
    """Whether the name of the root disk will exist; without a name, as if it were a UUID, the usual one."""
    spec = ("UUID=?" if root is None else root).removeprefix("root=").removeprefix("block:")
    if OTHERS.fullmatch(spec):
        text = f"root={spec} is no disk on vbus: those are named vba, vbb and so on"
        return [Finding("", text, False, "give root=UUID=... on the kernel's command line")]
    if OURS.fullmatch(spec):
        return [Finding("", f"root={spec} needs no udev rule")]
    if not BY_UDEV.fullmatch(spec):
        raise UsageError(
            f"--root {spec}: is no root disk", hint="as in root= of a command line: UUID=, LABEL=, /dev/..."
        )
    return [rule_finding(image, f"root={spec}" if root else BY_DEFAULT)]


def rule_finding(image: Image, what: str) -> Finding:
    path = image.rule(RULE)
    body = image.tree.content(path) if path else None
    if path is None:
        text = f"{RULE} is not in the image, so {what} is never found: udev knows no disks named vb*"
    elif body is None or b"disk/by-uuid/" not in body:
        text = f"{path} is not ours or switched off, so {what} is never found: udev knows no disks named vb*"
    elif not image.has_udevd() and image.generator != "initramfs-tools":  # whose scripts look for themselves
        text = f"the image has no udevd, so {what} is never found"
    else:
        return Finding("", f"{what} is found: the image has {path}")
    return Finding("", text, False, rebuild(image, *image.releases()))


def command(image: Image, *releases: str) -> str:
    """What builds such an image again; --add vbus: by itself dracut takes it only where a bus is already."""
    release = releases[0] if len(releases) == 1 else "KERNEL"
    commands = {
        "dracut": f"dracut --force --add vbus --kver {release}",
        "initramfs-tools": f"update-initramfs -u -k {release}",
    }
    return commands.get(image.generator or "", "build the image again")


def rebuild(image: Image, *releases: str) -> str:
    return f"look whether our package is installed, then: {command(image, *releases)}"


def install(image: Image, release: str) -> str:
    return f"install the modules for {release}, then: {command(image, release)}"


def depmod(image: Image, release: str) -> str:
    return f"depmod {release}, then: {command(image, release)}"
