# SPDX-License-Identifier: MIT
"""A kernel as its distribution ships it: the packages that a guest installs when its kernel is updated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Blocked
from vbuskit.base.mirror import source, why_not
from vbuskit.base.places import Places
from vbuskit.base.remembered import Results, remembered
from vbuskit.base.run import Runner
from vbuskit.base.shelf import hold
from vbuskit.drivers.kernels import Kernel
from vbuskit.drivers.roots import WORK, root_for

VERSION = 1  # raise it when fetch() gets something else for the same kernel
PARTS = ("image", "binary", "modules", "base")  # newer suites have cut the image into these
# apt in a root that stays as it is: its lists and its cache are where the packages go, and are not kept.
FETCH = f"""\
set -eu
cd {WORK}
apt() {{
    command=$1
    shift
    "$command" -oAPT::Sandbox::User=root -oAcquire::Languages=none -oAcquire::Retries=2 \\
        -oAcquire::Check-Valid-Until=false -oDir::State::lists={WORK}/lists -oDir::Cache={WORK}/cache "$@"
}}
# Headers are several packages; compilers and the rest are the guest's own.
with_parts() {{
    for name in "$@"; do
        echo "$name"
        case $name in
        linux-headers-*)
            apt apt-cache depends --recurse --important "$name" |
                sed -n 's/^\\(linux-\\(headers\\|kbuild\\|compiler\\)-[^ :]*\\).*/\\1/p'
            ;;
        esac
    done
}}
mkdir lists cache
apt apt-get update --error-on=any
apt apt-cache pkgnames >names
apt apt-get download $(with_parts "$@" | sort -u | while read -r name; do grep -xF "$name" names || :; done)
rm -r lists cache names
"""


def kernel_debs(run: Runner, places: Places, kernel: Kernel, release: str) -> dict[str, Artifact]:
    """{package: file} of the kernel `release`, from the cache, or from its suite's mirror."""
    return debs(run, places, kernel, release, [f"linux-{part}-{release}" for part in PARTS])


def header_debs(run: Runner, places: Places, kernel: Kernel, release: str) -> dict[str, Artifact]:
    """As kernel_debs, what modules for it are built with."""
    return debs(run, places, kernel, release, [f"linux-headers-{release}"])


def debs(
    run: Runner, places: Places, kernel: Kernel, release: str, wanted: Sequence[str]
) -> dict[str, Artifact]:
    """Those of `wanted` that there are; Blocked without the first one."""
    root = root_for(run, places, kernel.line.suite)

    def work(folder: Path) -> Results:
        words = ["sh", "-c", FETCH, "sh", *wanted]
        done = run.attempt(inside(root.tree, words, binds={folder: WORK}))
        if done.code:
            raise why_not(done, f"packages of kernel {release}", source())
        found = {file.name.partition("_")[0]: Artifact.of(file) for file in sorted(folder.glob("*.deb"))}
        if wanted[0] not in found:
            raise Blocked(
                f"{wanted[0]}: the mirror no longer has it",
                hint=f"remove {root.tree.parent}: its headers are older than what the mirror has",
            )
        return found

    inputs = digest_of(str(VERSION), kernel.line.suite, release, source(), *wanted)
    found = remembered(places.cache / "kernel-debs", inputs, work)
    for file in found.values():
        hold(file.path.parent)
    return found
