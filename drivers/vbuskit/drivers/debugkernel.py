# SPDX-License-Identifier: MIT
"""The debug kernel: Debian's source with a small configuration of ours, built once and kept in the cache.

It comes as two packages, as Debian's own kernels do: the image goes into the guest, the headers into the
root where the modules are built.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of, write
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Refused, VbuskitError
from vbuskit.base.mirror import UNREAD, bootstrap, source, why_not
from vbuskit.base.places import Places, make
from vbuskit.base.run import Arg, Runner, not_for_want_of_room
from vbuskit.base.shelf import draft_on, has_room, hold, locked, sweep, trusted
from vbuskit.drivers.kernels import Kernel
from vbuskit.drivers.roots import WORK

VERSION = 1  # raise it when build() makes something else from the same table and configuration
CONFIG = Path("drivers/linux/debug.config")
PACKAGES = (
    "bc",
    "bison",
    "cpio",
    "dpkg-dev",
    "flex",
    "gcc",
    "kmod",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "openssl",
    "perl",
    "rsync",
    "xz-utils",
)
ROOM = 6 << 30  # bytes a build takes at its peak, with a margin
# Packages that name no machine and no user; build-essential would be a C++ compiler that nobody needs.
SETTINGS = (
    "KBUILD_BUILD_USER=vbuskit",
    "KBUILD_BUILD_HOST=vbuskit",
    "KBUILD_PKG_ROOTCMD=",
    "KDEB_COMPRESS=gzip",
    "DEBFULLNAME=vbuskit",
    "DEBEMAIL=vbuskit@localhost",
    "DPKG_FLAGS=-d",
)


@dataclass(frozen=True, slots=True)
class DebugKernel:
    """One finished kernel.

    release: as `uname -r` says it
    tree:    a root with compiler and headers
    image:   the package with the kernel
    """

    release: str
    tree: Path
    image: Artifact


def key_of(kernel: Kernel, config: str) -> str:
    """32 hexadecimal digits over everything that decides what the kernel is, but its point release."""
    whole = (str(VERSION), kernel.line.suite, kernel.line.source, source(), config, *PACKAGES, *SETTINGS)
    return digest_of(*whole)[:32]


def debug_kernel_for(run: Runner, places: Places, kernel: Kernel) -> DebugKernel:
    """The kernel from the cache; built first, in a quarter of an hour, when it is not there."""
    config, folder = (places.tree / CONFIG).read_text(), folder_of(places, kernel)
    shelf = make(folder.parent)
    with locked(shelf):
        sweep(shelf)
        try:
            return held(folder)
        except Refused:
            has_room(shelf, "a kernel", ROOM)
            with draft_on(shelf, folder.name) as draft:
                build(run, kernel, config, draft)
        return held(folder)


def folder_of(places: Places, kernel: Kernel) -> Path:
    """Where it lies in the cache, when it is there."""
    key = key_of(kernel, (places.tree / CONFIG).read_text())
    return places.cache / "kernels" / kernel.name.replace("/", "-") / key


def held(folder: Path) -> DebugKernel:
    """As `load`, and kept from `vbuskit guest gc` until this process ends."""
    hold(folder)
    return load(folder)


def load(folder: Path) -> DebugKernel:
    """Raises Refused when the folder is no finished kernel, or its package is not the one that was built."""
    try:
        trusted(folder)
        release, name, sha256, size = (folder / "sealed").read_text().split()
    except (OSError, ValueError) as error:
        raise Refused(f"{folder.name}: no finished kernel") from error
    image = Artifact(folder / name, sha256, int(size))
    image.verify()
    return DebugKernel(release, folder / "tree", image)


def build(run: Runner, kernel: Kernel, config: str, draft: Path) -> None:
    """Everything happens in a draft folder; the seal is written last."""
    tree, sources = draft / "tree", draft / "sources"
    unpack(run, kernel, tree, make(sources))
    top = f"{WORK}/{kernel.line.source}"

    def step(*args: Arg, writable: bool = False) -> str:
        done = run.attempt(inside(tree, args, binds={sources: WORK}, writable=writable))
        if done.code:
            not_for_want_of_room(args[0], done)
            said = next((line for line in done.err.splitlines() if "error" in line.lower()), done.err[-200:])
            raise VbuskitError(
                f"{kernel.name}: {args[0]}: {said.strip()}", hint="the run's log has all that it printed"
            )
        return done.out

    write(sources / CONFIG.name, config)
    step("make", "-C", top, f"KCONFIG_ALLCONFIG={WORK}/{CONFIG.name}", "allnoconfig")
    compare(config, (sources / kernel.line.source / ".config").read_text())
    step("make", f"-j{os.cpu_count() or 1}", "-C", top, *SETTINGS, "bindeb-pkg")
    release = step("make", "-s", "-C", top, "kernelrelease").strip()
    (headers,) = sources.glob(f"linux-headers-{release}_*.deb")
    step("dpkg", "--install", f"{WORK}/{headers.name}", writable=True)
    (built,) = sources.glob(f"linux-image-{release}_*.deb")
    image = Artifact.of(built.rename(draft / built.name))
    shutil.rmtree(sources)
    write(draft / "sealed", f"{release} {image.path.name} {image.sha256} {image.size}\n")


def unpack(run: Runner, kernel: Kernel, tree: Path, sources: Path) -> None:
    """A root with compilers, and beside it the source, which apt has checked as it does any package."""
    name = kernel.line.source
    done = bootstrap(run, kernel.line.suite, tree, "apt", (*PACKAGES, name), UNREAD)
    if done.code:
        raise why_not(done, f"root of {kernel.name}", source())
    (tree / WORK.lstrip("/")).mkdir()
    packed = tree / f"usr/src/{name}.tar.xz"
    run(["tar", "--extract", "--file", packed, "--directory", sources])
    packed.unlink()


def compare(wanted: str, got: str) -> None:
    """Raise VbuskitError for a line that did not come out as it was written: kconfig drops it silently."""
    lines = set(got.splitlines())
    for name, value in re.findall(r"^(CONFIG_\w+)=(.+)$", wanted, re.MULTILINE):
        there = any(line.startswith(f"{name}=") for line in lines)
        if there if value == "n" else f"{name}={value}" not in lines:
            raise VbuskitError(
                f"{CONFIG}: {name}={value} did not come out so",
                hint="another option decides it: see Kconfig",
            )
