# SPDX-License-Identifier: MIT
"""Debian's packages that went into images, kept by content, and which of them each image was made of.

A mirror drops a version when the next one is there. What it gave is written down under what it was asked for
(a lock), so that the same question has the same answer again, with or without the mirror.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact, write
from vbuskit.base.errors import Refused
from vbuskit.base.mirror import plain
from vbuskit.base.places import Places, make
from vbuskit.base.run import Runner
from vbuskit.base.shelf import trusted


@dataclass(frozen=True, slots=True)
class Package:
    """One that is kept: `file`, its name in a mirror; `control`, what it says of itself (deb-control(5))."""

    file: str
    sha256: str
    size: int
    control: str

    @property
    def name(self) -> str:
        return self.file.partition("_")[0]

    @property
    def stanza(self) -> str:
        """As in a mirror's index; apt takes no other bytes for it."""
        return (
            f"{self.control.rstrip()}\nFilename: ./{self.file}\nSize: {self.size}\nSHA256: {self.sha256}\n"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """The packages that are kept on this machine; others than its owner must not write there."""

    folder: Path

    @classmethod
    def of(cls, places: Places) -> Kept:
        kept = cls(make(places.cache / "packages"))
        make(kept.folder / "locks")
        return kept

    def path(self, package: Package) -> Path:
        return self.folder / f"{package.sha256}.deb"

    def lock(self, key: str) -> Path:
        return self.folder / "locks" / f"{key}.json"

    def keep(self, run: Runner, key: str, debs: Iterable[Path]) -> None:
        """Take these files in, and write down that they are what `key` (Recipe.wanted) got."""
        packages = [asdict(self.taken(run, deb)) for deb in sorted(debs)]
        write(self.lock(key), json.dumps(packages, indent=1) + "\n")

    def taken(self, run: Runner, deb: Path) -> Package:
        found = Artifact.of(deb)
        package = Package(deb.name, found.sha256, found.size, run(["dpkg-deb", "--field", deb]))
        deb.chmod(0o444)
        deb.replace(self.path(package))
        return package

    def locked(self, key: str) -> tuple[Package, ...]:
        """What was given for `key`; none where that is not known or not all of it is kept."""
        try:
            trusted(self.folder)
            packages = tuple(Package(**words) for words in json.loads(self.lock(key).read_text()))
            whole = all(self.path(package).stat().st_size == package.size for package in packages)
        except (OSError, ValueError, TypeError, AttributeError, Refused):
            return ()
        return packages if whole else ()

    def are_whole(self, packages: Iterable[Package]) -> bool:
        """Whether each is the one that was kept, to the byte."""
        try:
            for package in packages:
                Artifact(self.path(package), package.sha256, package.size).verify()
        except Refused:
            return False
        return True

    def repository(self, packages: Sequence[Package], suite: str, folder: Path) -> str:
        """Make a folder of them that apt takes for a mirror; its line of a sources.list.

        The index says which bytes each package has: it is as trustworthy as the one who may write here.
        """
        make(folder)
        for package in packages:
            os.utime(self.path(package))  # its last use
            os.link(self.path(package), folder / package.file)
        index = write(folder / "Packages", "\n".join(package.stanza for package in packages))
        listing = f"SHA256:\n {index.sha256} {index.size} Packages\n"
        write(folder / "Release", f"Suite: {plain(suite)}\nCodename: {plain(suite)}\n{listing}")
        return f"deb [trusted=yes] copy:{folder} ./"
