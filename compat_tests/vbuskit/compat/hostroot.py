# SPDX-License-Identifier: MIT
"""Roots of lab hosts: one a suite, with its libvirt and QEMU, kept in the cache, never written to again."""

from __future__ import annotations

import shutil
from pathlib import Path

from vbuskit.base.artifact import digest_of, write
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.mirror import UNREAD, bootstrap, source, why_not
from vbuskit.base.places import Places, make
from vbuskit.base.run import Runner
from vbuskit.base.shelf import draft_on, has_room, locked, sweep
from vbuskit.compat.kept import Kept
from vbuskit.drivers.roots import Root, held

VERSION = 1  # raise it when build() makes something else of the same packages
SUITES = ("bookworm", "trixie", "bullseye", "sid")
PACKAGES = (
    "dropbear-bin",
    "iproute2",
    "iputils-ping",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "openssh-client",
    "procps",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
    "util-linux",
)
ROOM = 1 << 30  # bytes a build takes at its peak, with a margin


def own_suite(release: Path = Path("/etc/os-release")) -> str:
    """This machine's; empty when it is none that has a name."""
    lines = release.read_text().splitlines()
    return next(
        (line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")), ""
    )


def checked(suites: list[str]) -> list[str]:
    for suite in suites:
        if suite not in SUITES:
            raise UsageError(
                f"suite {suite!r}: no lab host is made of it", hint=f"there are: {', '.join(SUITES)}"
            )
    return suites


def key_of(suite: str) -> str:
    """32 hexadecimal digits over everything that decides what the root is."""
    return digest_of(str(VERSION), suite, source(), *PACKAGES, *UNREAD)[:32]


def root_for(run: Runner, places: Places, suite: str) -> Root:
    """The root from the cache; built first when it is not there or not what it was."""
    shelf, key = make(places.cache / "hosts" / suite), key_of(suite)
    with locked(shelf):
        sweep(shelf)
        try:
            return held(shelf / key, suite)
        except Refused:
            has_room(shelf, "the root of a lab host", ROOM)
            with draft_on(shelf, key) as draft:
                build(run, suite, draft, Kept.of(places))
        return held(shelf / key, suite)


def build(run: Runner, suite: str, draft: Path, kept: Kept) -> None:
    """Of the packages that were kept, or of what the mirror has now; the seal is written last."""
    tree, lock = draft / "tree", f"host-{key_of(suite)}"
    fill(run, suite, tree, kept, lock)
    listing = run(["dpkg-query", f"--admindir={tree / 'var/lib/dpkg'}", "-W", "-f=${Package} ${Version}\n"])
    packages = write(draft / "packages.txt", listing)
    write(draft / "sealed", f"{packages.sha256} {packages.size}\n")


def fill(run: Runner, suite: str, tree: Path, kept: Kept, lock: str) -> None:
    what = f"lab host of {suite}"
    packages = kept.locked(lock)
    if packages and kept.are_whole(packages):
        mirror = tree.with_name("mirror")
        line = kept.repository(packages, suite, mirror)
        names = [package.name for package in packages]
        done = bootstrap(run, suite, tree, "minbase", names, UNREAD, sources=[line])
        shutil.rmtree(mirror)
    else:
        debs = make(tree.with_name("debs"))
        done = bootstrap(run, suite, tree, "minbase", PACKAGES, UNREAD, keep=debs)
        if not done.code:
            kept.keep(run, lock, debs.glob("*.deb"))
        shutil.rmtree(debs)
    if done.code:
        raise why_not(done, what, source())
    shutil.rmtree(tree / "var/lib/apt/lists", ignore_errors=True)
