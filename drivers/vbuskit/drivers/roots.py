# SPDX-License-Identifier: MIT
"""Build roots: one chroot a suite with its compilers and headers, kept in the cache, never written to again.

A suite's kernel is built by the suite's own compiler: others do not know its flags, and the programs in its
headers packages want its C library.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of, write
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Blocked, Refused, VbuskitError
from vbuskit.base.mirror import UNREAD, bootstrap, source, why_not
from vbuskit.base.places import Places, make
from vbuskit.base.run import Finished, Runner
from vbuskit.base.shelf import draft_on, has_room, hold, locked, sweep, trusted
from vbuskit.drivers.kernels import FOREIGN, LINES, Kernel

VERSION = 1  # raise it when build() makes something else from the same table
PACKAGES = ("kmod", "make")
WORK = "/build"  # where a build finds its sources in there
ARCHIVES = "/var/cache/apt/archives"
ROOM = 3 << 30  # bytes a build takes at its peak, with a margin

# From 6.12 on the headers depend on the kernel itself, which nobody boots in there.
KERNEL_FILES = ("/boot/*", "/lib/modules/*/kernel/*", "/usr/lib/modules/*/kernel/*")
TRIES = 5  # releases that the index names and the pool may have lost, newest first


@dataclass(frozen=True, slots=True)
class Root:
    """One finished root; `packages` lists what is installed, one `name version` a line."""

    suite: str
    tree: Path
    packages: Artifact

    def release_of(self, kernel: Kernel) -> str:
        """The release of `kernel` that is installed, as `uname -r` says it; Blocked without one."""
        found = installed_in(self.tree, kernel)[kernel.line.before :]
        if not found:
            raise Blocked(
                f"{kernel.name}: the mirror had no headers of it when {self.suite}'s build root was made",
                hint=f"set VBUSKIT_MIRROR to a mirror that has them and remove {self.tree.parent}",
            )
        return found[0]


def newest_first(kernel: Kernel, packages: Iterable[str]) -> list[str]:
    """Releases of `kernel` among the names of packages, with or without architecture, by number."""
    wanted = re.compile(rf"linux-headers-({kernel.releases})(?::{kernel.flavour})?")
    releases = {match[1] for match in map(wanted.fullmatch, packages) if match}
    return sorted(releases, key=lambda name: [int(n) for n in re.findall(r"\d+", name)], reverse=True)


def installed_in(tree: Path, kernel: Kernel) -> list[str]:
    """Releases of `kernel` whose headers are there, newest first."""
    return newest_first(kernel, (path.name for path in (tree / "usr/src").glob("linux-headers-*")))


def kernels_of(suite: str) -> list[Kernel]:
    return [Kernel(line, flavour) for line in LINES if line.suite == suite for flavour in line.flavours]


def packages_of(suite: str) -> tuple[str, ...]:
    return (*PACKAGES, *(name for line in LINES if line.suite == suite for name in line.lacking))


def key_of(suite: str) -> str:
    """32 hexadecimal digits over everything that decides what the root is."""
    wanted = [f"{kernel.line.releases} {kernel.flavour}" for kernel in kernels_of(suite)]
    return digest_of(str(VERSION), suite, source(), *packages_of(suite), *KERNEL_FILES, *UNREAD, *wanted)[
        :32
    ]


def root_for(run: Runner, places: Places, suite: str) -> Root:
    """The root from the cache; built first when it is not there or not what it was."""
    shelf, key = make(places.cache / "roots" / suite), key_of(suite)
    with locked(shelf):
        sweep(shelf)
        try:
            return held(shelf / key, suite)
        except Refused:
            has_room(shelf, "a build root", ROOM)
            debs = make(places.cache / "debs" / suite)
            hold(debs)
            with draft_on(shelf, key) as draft:
                build(run, suite, debs, draft)
        return held(shelf / key, suite)


def root_here(places: Places, suite: str) -> Root:
    """The root when it is in the cache; Refused when it is not."""
    return load(places.cache / "roots" / suite / key_of(suite), suite)


def held(folder: Path, suite: str) -> Root:
    """As `load`, and kept from `vbuskit guest gc` until this process ends."""
    hold(folder)
    return load(folder, suite)


def load(folder: Path, suite: str) -> Root:
    """Raises Refused when the folder is no finished root. Builds see it read-only: it stays what it was."""
    try:
        trusted(folder)
        sha256, size = (folder / "sealed").read_text().split()
    except (OSError, ValueError) as error:
        raise Refused(f"{folder.name}: no finished build root") from error
    packages = Artifact(folder / "packages.txt", sha256, int(size))
    packages.verify()
    return Root(suite, folder / "tree", packages)


def build(run: Runner, suite: str, debs: Path, draft: Path) -> None:
    """Everything happens in a draft folder; the seal is written last."""
    tree = draft / "tree"
    what = f"build root {suite}"
    done = bootstrap(run, suite, tree, "apt", packages_of(suite), [*UNREAD, *KERNEL_FILES])
    if done.code:
        raise why_not(done, what, source())
    (tree / WORK.lstrip("/")).mkdir()
    lean = "".join(f"path-exclude={pattern}\n" for pattern in (*UNREAD, *KERNEL_FILES))
    write(tree / "etc/dpkg/dpkg.cfg.d/vbuskit", lean)
    for architecture in sorted({kernel.flavour for kernel in kernels_of(suite)} & {*FOREIGN}):
        run(inside(tree, ["dpkg", "--add-architecture", architecture], writable=True))
    done = apt(run, tree, debs, "update", "--error-on=any")
    if done.code:
        raise why_not(done, what, source())
    for kernel in kernels_of(suite):
        install_headers(run, tree, debs, kernel)
    shutil.rmtree(tree / "var/lib/apt/lists")
    listing = run(inside(tree, ["dpkg-query", "-W", "-f=${Package} ${Version}\\n"]))
    packages = write(draft / "packages.txt", listing)
    write(draft / "sealed", f"{packages.sha256} {packages.size}\n")


def install_headers(run: Runner, tree: Path, debs: Path, kernel: Kernel) -> None:
    """The newest release that can still be had; none at all when the index names none.

    A mirror's index names packages that its pool has lost, and its metapackages point to them. What is there
    is the newest of its line, so that the next one is what a line of those before wants.
    """
    named = run(inside(tree, ["apt-cache", "pkgnames", "linux-headers-"])).split()
    there = installed_in(tree, kernel)
    releases = [release for release in newest_first(kernel, named) if release not in there][:TRIES]
    failures: list[VbuskitError] = []
    for release in releases:
        done = apt(run, tree, debs, "install", "--yes", kernel.package(release))
        if not done.code:
            return
        failures.append(why_not(done, f"build root {kernel.line.suite}: linux-headers-{release}", source()))
    if failures:
        raise failures[0]


def apt(run: Runner, tree: Path, debs: Path, *words: str) -> Finished:
    """apt-get in the root; packages are kept in `debs` for the next root of the suite."""
    make(debs / "partial")
    settings = (
        "APT::Install-Recommends=false",
        "APT::Keep-Downloaded-Packages=true",
        "APT::Sandbox::User=root",
        "Acquire::Languages=none",
        "Acquire::Retries=2",
    )
    command = ["apt-get", *(f"-o{setting}" for setting in settings), *words]
    return run.attempt(inside(tree, command, binds={debs: ARCHIVES}, env=["INITRD=No"], writable=True))
