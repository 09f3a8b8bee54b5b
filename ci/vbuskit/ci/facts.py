# SPDX-License-Identifier: MIT
"""What a report says about a run besides its cells: what was tried, on what, with what, for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import VbuskitError
from vbuskit.base.run import Finished


class Attempts(Protocol):
    """The part of a Runner that is needed to look around."""

    def attempt(self, args: list[str], *, cwd: Path | None = None) -> Finished: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline and its wall time."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine that ran the guests; a version that could not be found out is empty."""

    system: str
    kernel: str
    qemu: str
    libvirt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest that was tried.

    kernel:       as `uname -r` says it
    image_sha256: of its disk image as it was before the run
    informing:    its red cells are shown and do not count
    """

    name: str
    kernel: str = ""
    image_sha256: str = ""
    informing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run. What is not known (a run that broke early) is empty, and shown as unknown.

    commit:      of the checkout; `dirty` when tracked files differed from it
    accelerator: "kvm" or "tcg"
    started:     with a time zone
    quarantine:  cells that are shown and do not count, by their id: whose they are, until when, and why
    defect:      what is wrong on purpose; such a run is no measure for others, and no history
    """

    version: str
    commit: str
    dirty: bool
    host: Host
    accelerator: str
    started: datetime
    guests: tuple[Guest, ...] = ()
    steps: tuple[Step, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    quarantine: dict[str, str] = field(default_factory=dict)
    defect: str = ""

    def __post_init__(self) -> None:
        if self.started.tzinfo is None:
            raise VbuskitError("a run's start needs a time zone")

    def guest(self, name: str) -> Guest:
        """What is known of it: of one that was never tried, its name."""
        return next((guest for guest in self.guests if guest.name == name), Guest(name=name))

    @property
    def informing(self) -> frozenset[str]:
        return frozenset(guest.name for guest in self.guests if guest.informing)


def look_at_host(run: Attempts, os_release: Path = Path("/etc/os-release")) -> Host:
    return Host(
        system=pretty_name(os_release),
        kernel=answer(run, ["uname", "-r"]),
        qemu=answer(run, ["qemu-system-x86_64", "--version"], lambda line: line.rpartition("version ")[2]),
        libvirt=answer(run, ["virsh", "--version"]),
    )


def look_at_checkout(run: Attempts, tree: Path) -> tuple[str, bool]:
    """Commit and whether tracked files differ from it; ("", False) outside a git checkout."""
    commit = answer(run, ["git", "-C", str(tree), "rev-parse", "HEAD"])
    status = ["git", "-C", str(tree), "status", "--porcelain", "--untracked-files=no"]
    return commit, bool(commit and answer(run, status))


def answer(run: Attempts, args: list[str], pick: Callable[[str], str] = str) -> str:
    """The first line a program prints, or nothing: a missing tool does not spoil a report."""
    try:
        done = run.attempt(args)
    except VbuskitError:
        return ""
    lines = done.out.splitlines()
    return pick(lines[0].strip()) if lines and not done.code else ""


def pretty_name(os_release: Path) -> str:
    if not os_release.is_file():
        return ""
    named = (line.partition("=") for line in os_release.read_text(errors="replace").splitlines())
    return next((value.strip('"') for key, _, value in named if key == "PRETTY_NAME"), "")
