# SPDX-License-Identifier: MIT
"""The guests of the matrix, as `compat_tests/guests.toml` describes them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import UsageError
from vbuskit.drivers.kernels import Kernel, kernel_named

FILE = Path("compat_tests/guests.toml")
DEFAULT = "debian-12"

# What the kernel starts, and the program of ours that it is.
INITS: dict[str, Path | None] = {"systemd": None, "minimal": Path("compat_tests/guest/init")}

KERNELS = ("kernel", "update")  # words whose values are of the table of kernels
# Whose packages a guest takes, and what Debian's own have to bring for that.
FAMILIES: dict[str, tuple[str, ...]] = {
    "deb": (),
    "rpm": ("dracut-core", "rpm"),
    "dkms": ("dkms", "linux-headers-{release}", "openssl", "pahole"),
}

# Words that a table may have besides: types, values, and how that is said.
OPTIONAL: dict[str, tuple[type, Container[object], str]] = {
    "family": (str, FAMILIES, " or ".join(FAMILIES)),
    "patience": (int, range(1, 61), "a number from 1 to 60"),
    "memory": (int, range(128, 1 << 16), "a number of MiB, at least 128"),
    "init": (str, INITS, " or ".join(INITS)),
    "on_request": (bool, (False, True), "true or false"),
}


@dataclass(frozen=True, slots=True)
class GuestKind:
    """One table of the file.

    update:     the kernel that it gets as an update
    family:     of FAMILIES
    patience:   how many times as long as others it may take for everything
    memory:     MiB
    init:       of INITS
    on_request: only when it is named
    """

    name: str
    kernel: Kernel
    update: Kernel | None = None
    family: str = "deb"
    patience: int = 1
    memory: int = 512
    init: str = "systemd"
    on_request: bool = False

    @property
    def suite(self) -> str:
        return self.kernel.line.suite

    def packages(self, release: str) -> tuple[str, ...]:
        """Debian's, beside those that every guest has; `release` of its kernel."""
        return tuple(package.format(release=release) for package in FAMILIES[self.family])

    @property
    def informing(self) -> bool:
        """A red cell of it is shown and stops nothing."""
        return self.kernel.line.informing

    def first(self, tree: Path) -> Artifact | None:
        """What its image needs for another init than systemd."""
        program = INITS[self.init]
        return None if program is None else Artifact.of(tree / program)


def guest_kinds(tree: Path) -> dict[str, GuestKind]:
    """All guests by name, in the file's order. Raises UsageError that names table and word."""
    try:
        tables = tomllib.loads((tree / FILE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{FILE}: {error}") from error
    return {name: kind(name, table) for name, table in tables.items()}


def kind(name: str, table: object) -> GuestKind:
    if not isinstance(table, Mapping) or not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        raise UsageError(f"{FILE}: {name}: a guest is a table whose name is a-z, 0-9 and -")
    words = dict(table)
    if "kernel" not in words or (words.keys() - {*KERNELS, *OPTIONAL}):
        wrong = sorted(words.keys() - {*KERNELS, *OPTIONAL}) or ["kernel"]
        raise UsageError(f"{FILE}: [{name}]: {', '.join(wrong)}: missing, or not a word of a guest")
    kernels = {word: kernel_of(name, word, words.pop(word)) for word in KERNELS if word in words}
    if len({kernel.line.suite for kernel in kernels.values()}) > 1:
        raise UsageError(f"{FILE}: [{name}]: update: is of another suite than its kernel")
    for word, value in words.items():
        its, values, said = OPTIONAL[word]
        if type(value) is not its or value not in values:
            raise UsageError(f"{FILE}: [{name}]: {word}: is {said}")
    return GuestKind(name, kernels["kernel"], kernels.get("update"), **words)


def kernel_of(name: str, word: str, value: object) -> Kernel:
    try:
        return kernel_named(str(value))
    except UsageError as error:
        raise UsageError(f"{FILE}: [{name}]: {word}: {error}", hint=error.hint) from error


def choose_guests(tree: Path, names: Sequence[str] | None) -> list[GuestKind]:
    """The named ones, or all that nobody has to ask for. Raises UsageError for a word that names none."""
    known = guest_kinds(tree)
    if unknown := [name for name in names or () if name not in known]:
        raise UsageError(f"{unknown[0]}: no such guest", hint=f"there are: {', '.join(known)}")
    return [known[name] for name in names or known if names or not known[name].on_request]
