# SPDX-License-Identifier: MIT
"""The kernels that the modules are built for: to add one is to add one line of this table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vbuskit.base.errors import UsageError

FLAVOURS = ("amd64", "cloud-amd64", "rt-amd64")

# Flavours of another architecture, and what tells make of it; packages have it behind a colon.
FOREIGN = {"arm64": ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-")}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of kernels: its name here, Debian's suite, and what its releases look like.

    releases:  regular expression for `uname -r` without the flavour; the newest that matches is built for
    before:    the release before the newest, which a guest had until its kernel was updated
    informing: a build that fails is shown and does not turn the command red
    source:    Debian's package with the source that debugkernel.py builds it from; empty: Debian built it
    lacking:   packages that its headers want and do not depend on
    """

    name: str
    suite: str
    releases: str
    before: bool = False
    informing: bool = False
    flavours: tuple[str, ...] = FLAVOURS
    source: str = ""
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernel:
    """One line in one flavour."""

    line: Line
    flavour: str

    @property
    def name(self) -> str:
        return f"{self.line.name}/{self.flavour}"

    @property
    def releases(self) -> str:
        """Regular expression for `uname -r`."""
        return f"{self.line.releases}-{self.flavour}"

    @property
    def settings(self) -> tuple[str, ...]:
        """What make is told of a foreign architecture."""
        return FOREIGN.get(self.flavour, ())

    @property
    def tools(self) -> str:
        """What the names of the binutils begin with; sid's compiler brings no others."""
        return next((word.partition("=")[2] for word in self.settings[1:]), "x86_64-linux-gnu-")

    def package(self, release: str) -> str:
        """The package with the headers of `release`, as apt-get wants it."""
        return f"linux-headers-{release}" + (f":{self.flavour}" if self.flavour in FOREIGN else "")


LINES = (
    Line("bullseye", "bullseye", r"5\.10\.0-\d+", informing=True),
    Line("bookworm", "bookworm", r"6\.1\.0-\d+"),
    Line("bookworm-before", "bookworm", r"6\.1\.0-\d+", before=True, flavours=("cloud-amd64",)),
    Line("bookworm-6.12", "bookworm", r"6\.12\.\d+\+deb12"),
    Line("trixie", "trixie", r"6\.12\.\d+\+deb13"),
    Line(
        "trixie-backports",
        "trixie-backports",
        r"7\.\d+\.\d+\+deb13",
        informing=True,
        flavours=("cloud-amd64",),
        lacking=("binutils",),
    ),
    Line("sid", "sid", r"7\.\d+\.\d+\+deb14", flavours=(*FLAVOURS, "arm64")),
    Line("forky", "forky", r"7\.\d+\.\d+\+deb14", informing=True, flavours=("amd64", "cloud-amd64")),
)
KERNELS = tuple(Kernel(line, flavour) for line in LINES for flavour in line.flavours)

# Watches itself; only where it is asked for by name, since it takes a quarter of an hour to build.
DEBUG = Kernel(Line("bookworm", "bookworm", r"6\.1\.\d+", source="linux-source-6.1"), "debug")


def kernel_named(name: str) -> Kernel:
    for kernel in (*KERNELS, DEBUG):
        if kernel.name == name:
            return kernel
    names = ", ".join(kernel.name for kernel in (*KERNELS, DEBUG))
    raise UsageError(f"{name}: is no kernel that vbuskit builds for", hint=f"one of: {names}")


def line_of_release(release: str) -> str:
    """The name of the line that has such releases, as `uname -r` says them; empty where none has."""
    return next((kernel.line.name for kernel in KERNELS if re.fullmatch(kernel.releases, release)), "")
