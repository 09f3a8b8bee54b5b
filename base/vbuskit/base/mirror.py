# SPDX-License-Identifier: MIT
"""Debian trees from a package mirror, and the ways in which that fails that are not ours."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.base.run import Finished, Runner

# Nobody reads a manual in there.
UNREAD = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
BACKPORTS = "-backports"
UNREACHABLE = r"Could not (connect|resolve)|Failed to fetch|Temporary failure|apt-get update.* failed"


def source() -> str:
    """VBUSKIT_MIRROR, one or more URLs; empty for what mmdebstrap takes by itself."""
    return os.environ.get("VBUSKIT_MIRROR", "")


def named(mirror: str) -> str:
    return mirror or "mmdebstrap's default"


def plain(suite: str) -> str:
    """The suite that backports are for; any other one itself."""
    return suite.removesuffix(BACKPORTS)


def bootstrap(
    run: Runner,
    suite: str,
    tree: Path,
    variant: str,
    packages: Sequence[str],
    excluded: Sequence[str],
    *,
    sources: Sequence[str] | None = None,
    keep: Path | None = None,
    arch: str = "",
) -> Finished:
    """Fill `tree` with `suite`; paths that match `excluded` are never unpacked. why_not judges the end.

    A suite of backports is the plain one with another beside it, which apt takes where nothing else will do.

    sources: lines of a sources.list in place of the mirror
    keep:    a folder that gets every package that went in
    arch:    another architecture than this machine's
    """
    base, pocket = plain(suite), "s/^\\(deb .* %s\\) /\\1-backports /p"
    added = f'cd "$1"/etc/apt; sed -n "{pocket % base}" sources.list >sources.list.d/backports.list'
    moved = f'mv "$1"/var/cache/apt/archives/*.deb {shlex.quote(str(keep))}'
    return run.attempt(
        [
            "mmdebstrap",
            "--mode=root",
            f"--variant={variant}",
            '--aptopt=APT::Install-Recommends "false"',
            # A mirror's copy of a suite that moves every day is a week old for many.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in excluded),
            *([f"--setup-hook={added}"] if suite != base and sources is None else []),
            *(["--skip=essential/unlink", f"--customize-hook={moved}"] if keep else []),
            *([f"--architectures={arch}"] if arch else []),
            f"--include={','.join(packages)}",
            base,
            tree,
            *(source().split() if sources is None else sources),
        ],
        env={"LC_ALL": "C", "INITRD": "No"},  # an initrd comes later, by our own configuration, if at all
    )


def why_not(done: Finished, what: str, mirror: str) -> VbuskitError:
    """The error for a failed mmdebstrap or apt-get; `what` was being made from `mirror`."""
    said = done.out + done.err
    if "No space left on device" in said:
        return Blocked(f"{what}: the disk is full", hint="free some space, or point VBUSKIT_CACHE elsewhere")
    if re.search(UNREACHABLE, said):
        return Blocked(
            f"{what}: the package mirror ({named(mirror)}) cannot be reached",
            hint="put the network right, or set VBUSKIT_MIRROR to a Debian mirror's URL",
        )
    last = next(
        (line for line in reversed(said.splitlines()) if line.startswith("E:")), f"exit code {done.code}"
    )
    return VbuskitError(f"{what}: {last}", hint="the run's log has all that it printed")
