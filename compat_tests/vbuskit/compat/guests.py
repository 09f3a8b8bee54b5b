# SPDX-License-Identifier: MIT
"""The guests of the matrix, as `compat_tests/guests.toml` describes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import UsageError
from vbuskit.compat import tomlfile
from vbuskit.compat.domain import MACHINES
from vbuskit.compat.tomlfile import TomlFile
from vbuskit.drivers.kernels import DEBUG, FOREIGN, KERNELS, Kernel, kernel_named

FILE = Path("compat_tests/guests.toml")
DEFAULT = "debian-12"


class Level(StrEnum):
    """What a red cell of a guest does.

    gating:       makes the run red
    informing:    is shown
    experimental: is shown, and the guest is tried only when it is named
    """

    GATING = "gating"
    INFORMING = "informing"
    EXPERIMENTAL = "experimental"


# What the kernel starts, and the program of ours that it is.
INITS: dict[str, Path | None] = {"systemd": None, "minimal": Path("compat_tests/guest/init")}

LINUX = ("kernel", "update")  # words whose values are of the table of kernels
# Whose packages a guest takes, and what Debian's own have to bring for that.
FAMILIES: dict[str, tuple[str, ...]] = {
    "deb": (),
    "rpm": ("dracut-core", "rpm"),
    "dkms": ("dkms", "linux-headers-{release}", "openssl", "pahole"),
}
# Guests that are no Debian, and so have no kernel of the table; what they wait for here.
SYSTEMS = {
    "windows": "its drivers come with issue 9",
    "wine": "comes with issue 9",
}
# Packages with QEMU for a guest of another architecture than this machine's.
EMULATORS = {"arm64": "qemu-system-arm"}

Words = Mapping[str, tuple[type, Collection[object], str]]  # types, values, and how that is said
# Words that any table may have besides.
OPTIONAL: Words = {
    "level": (str, tuple(Level), " or ".join(Level)),
    "patience": (int, range(1, 61), "a number from 1 to 60"),
    "memory": (int, range(128, 1 << 16), "a number of MiB from 128 to 65535"),
}
# Those of a Debian, and of the others.
DEBIAN: Words = {
    "family": (str, FAMILIES, " or ".join(FAMILIES)),
    "init": (str, INITS, " or ".join(INITS)),
}
OTHERS = ("system", "image")


@dataclass(frozen=True, slots=True)
class GuestKind:
    """One table of the file.

    linux:    its kernel of the table; None: it is no Debian
    update:   the kernel that it gets as an update
    family:   of FAMILIES
    patience: how many times as long as others it may take for everything
    memory:   MiB
    init:     of INITS
    level:    whether a red cell of it counts
    system:   of SYSTEMS, or empty: Debian
    image:    the disk that its user has supplied
    absent:   why it cannot boot here, in one line; empty when it can
    """

    name: str
    linux: Kernel | None = None
    update: Kernel | None = None
    family: str = "deb"
    patience: int = 1
    memory: int = 512
    init: str = "systemd"
    level: Level = Level.GATING
    system: str = ""
    image: Path | None = None
    absent: str = ""

    @property
    def kernel(self) -> Kernel:
        """Raises UsageError for a guest that is no Debian."""
        if self.linux is None:
            raise UsageError(f"{self.name}: {self.absent}")
        return self.linux

    @property
    def suite(self) -> str:
        return self.kernel.line.suite

    @property
    def arch(self) -> str:
        """As Debian calls it."""
        foreign = self.linux is not None and self.linux.flavour in FOREIGN
        return self.kernel.flavour if foreign else "amd64"

    @property
    def excluded(self) -> str:
        """Why no cell can be tried on it, in one line; empty when that can be."""
        if self.absent or self.arch == "amd64":
            return self.absent
        return (
            f"there are no packages of ours for {self.arch} yet; `vbuskit guest shell {self.name}` boots it"
        )

    def packages(self, release: str) -> tuple[str, ...]:
        """Debian's, beside those that every guest has; `release` of its kernel."""
        return tuple(package.format(release=release) for package in FAMILIES[self.family])

    @property
    def informing(self) -> bool:
        """A red cell of it is shown and stops nothing."""
        return self.level is not Level.GATING

    def first(self, tree: Path) -> Artifact | None:
        """What its image needs for another init than systemd."""
        program = INITS[self.init]
        return None if program is None else Artifact.of(tree / program)


def guest_kinds(tree: Path, images: Mapping[str, Path] | None = None) -> dict[str, GuestKind]:
    """All guests by name, in the file's order; `images`: what the command line gives, by guest.

    Raises UsageError that says where in the file what is wrong, and what was expected.
    """
    file = tomlfile.read(tree / FILE, str(FILE))
    kinds = {name: kind(file, name, images or {}) for name in file.tables}
    for name in images or {}:
        if name not in kinds or kinds[name].system != "windows":
            takers = [kind.name for kind in kinds.values() if kind.system == "windows"]
            raise UsageError(
                f"--image {name}=...: is no guest whose image a user supplies{nearest(name, takers)}",
                hint=f"these are: {', '.join(takers) or 'none'}",
            )
    return kinds


def kind(file: TomlFile, name: str, images: Mapping[str, Path]) -> GuestKind:
    table = file.tables[name]
    if not isinstance(table, dict):
        raise file.wrong(f"{name}: is no table; expected [{name}] and its words below", name)
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        raise file.wrong(
            f"[{name}]: is no name of a guest; expected a-z, 0-9 and -, a letter first, at most 32", name
        )
    is_debian = "system" not in table
    words = [*LINUX, *DEBIAN, *OPTIONAL, "system"] if is_debian else [*OTHERS, *OPTIONAL]
    for word in table:
        if word not in words:
            whose = "a guest" if is_debian else "a guest that is no Debian"
            raise file.unknown(f"[{name}] {word}: is no word of {whose}", words, name, word)
    return debian(file, name, table) if is_debian else other(file, name, table, images.get(name))


def debian(file: TomlFile, name: str, table: dict[str, Any]) -> GuestKind:
    if "kernel" not in table:
        expected = 'kernel = "SUITE/FLAVOUR", or system = ' + " or ".join(f'"{word}"' for word in SYSTEMS)
        raise file.wrong(f"[{name}]: has no kernel; expected {expected}", name)
    kernels = {word: kernel_of(file, name, word, table[word]) for word in LINUX if word in table}
    if len({kernel.line.suite for kernel in kernels.values()}) > 1:
        suite = kernels["kernel"].line.suite
        raise file.wrong(
            f"[{name}] update: is of another suite than its kernel; expected a kernel of {suite}",
            *(name, "update"),
        )
    words = checked(file, name, table, {**OPTIONAL, **DEBIAN})
    its = GuestKind(name, kernels["kernel"], kernels.get("update"), **words)
    emulator = MACHINES[its.arch].emulator
    if its.arch in EMULATORS and not emulator.exists():
        lacking = f"{emulator.name} is not installed: apt-get install {EMULATORS[its.arch]}"
        return replace(its, absent=lacking)
    return its


def other(file: TomlFile, name: str, table: dict[str, Any], given: Path | None) -> GuestKind:
    """A guest that is no Debian: said in words why it does not run here."""
    system = table["system"]
    if system not in tuple(SYSTEMS):
        raise file.wrong(
            f"[{name}] system: {shown(system)}; expected {' or '.join(SYSTEMS)}", name, "system"
        )
    words = checked(file, name, table, OPTIONAL)
    image = table.get("image", "")
    if "image" in table and not (system == "windows" and isinstance(image, str) and image.isprintable()):
        wanted = "the path of a disk image, of a guest of Windows"
        raise file.wrong(f"[{name}] image: {shown(image)}; expected {wanted}", name, "image")
    wanted = str(given) if given else image
    path = found(wanted)
    absent = f"{system.title()}: {SYSTEMS[system]}"
    if system == "windows" and path is None:
        lacking = f"{wanted}: there is no such image" if wanted else "no image"
        absent = f'{lacking}: image = "PATH" in {FILE}, or --image {name}=PATH; {SYSTEMS[system]}'
    return GuestKind(name, system=system, image=path, absent=absent, **words)


def checked(
    file: TomlFile,
    name: str,
    table: dict[str, Any],
    known: Words,
) -> dict[str, Any]:
    """The values of the words that `known` has."""
    words = {word: value for word, value in table.items() if word in known}
    for word, value in words.items():
        its, values, said = known[word]
        if type(value) is not its or value not in values:
            near = nearest(value, list(values)) if isinstance(value, str) and its is str else ""
            raise file.wrong(f"[{name}] {word}: {shown(value)}; expected {said}{near}", name, word)
    if "level" in words:
        words["level"] = Level(words["level"])
    return words


def kernel_of(file: TomlFile, name: str, word: str, value: object) -> Kernel:
    named = value if isinstance(value, str) else ""
    try:
        return kernel_named(named)
    except UsageError as error:
        near = nearest(named, [kernel.name for kernel in (*KERNELS, DEBUG)])
        what = f"[{name}] {word}: {shown(value)}; expected a kernel that vbuskit builds for{near}"
        raise file.wrong(what, name, word, hint=error.hint) from error


def shown(value: object) -> str:
    """What a file has, short enough for a line."""
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}..."'
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "an array"
    is_short = not isinstance(value, int) or value.bit_length() < 64  # Python writes no longer ones
    return str(value).lower() if is_short else "a number with many digits"


def found(image: str) -> Path | None:
    """The file, when there is one."""
    with suppress(OSError, RuntimeError):  # a name too long for any; ~ of a user that is not there
        path = Path(image).expanduser()
        return path if path.is_file() else None
    return None


def nearest(word: str, known: Sequence[object]) -> str:
    """For the end of a message: the word that was meant, when one is near."""
    near = get_close_matches(word, [str(each) for each in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def images_of(words: Sequence[str] | None) -> dict[str, Path]:
    """`--image NAME=PATH`, each of them. Raises UsageError for another form."""
    pairs = [word.partition("=") for word in words or ()]
    if wrong := [
        word for word, (name, _, path) in zip(words or (), pairs, strict=True) if not (name and path)
    ]:
        raise UsageError(f"--image {wrong[0]}: expected NAME=PATH, a guest and the file with its disk")
    return {name: Path(path) for name, _, path in pairs}


def choose_guests(
    tree: Path, names: Sequence[str] | None, images: Mapping[str, Path] | None = None
) -> list[GuestKind]:
    """The named ones, or all that are no experiment. Raises UsageError for a word that names none."""
    known = guest_kinds(tree, images)
    if unknown := [name for name in names or () if name not in known]:
        raise UsageError(
            f"{unknown[0]}: no such guest{nearest(unknown[0], list(known))}",
            hint=f"there are: {', '.join(known)}",
        )
    return [known[name] for name in names or known if names or known[name].level is not Level.EXPERIMENTAL]
