# SPDX-License-Identifier: MIT
"""A command inside another root folder: its mounts are its own, and gone with it however it ends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vbuskit.base.errors import Blocked
from vbuskit.base.run import Arg

# The same inside for everybody: nothing of the caller's environment.
CLEAN = (
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TMPDIR=/tmp",
    "LC_ALL=C",
    "DEBIAN_FRONTEND=noninteractive",
)
ENTER = """\
set -eu
root=$1 access=$2
shift 2
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$2"
    shift 2
done
shift
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -o "remount,bind,$access" "$root"
cd /
exec chroot "$root" "$@"
"""


def inside(
    root: Path,
    args: Sequence[Arg],
    *,
    binds: Mapping[Path, str] | None = None,
    env: Sequence[str] = (),
    writable: bool = False,
) -> list[Arg]:
    """The words that run `args` with `root` as /, for a Runner.

    `binds` maps folders of ours to folders that exist in `root`; these stay writable, the rest of `root`
    only with `writable`. /proc is mounted, objtool wants it. A new PID namespace takes everything with it
    when the command or its starter is killed. Raises Blocked when the caller is not root.
    """
    if os.geteuid() != 0:
        raise Blocked(
            "build roots need root: they are chroots with mounts of their own",
            hint="run it as root, for example with sudo",
        )
    bound = [part for ours, theirs in (binds or {}).items() for part in (ours, theirs)]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    entry = ["sh", "-c", ENTER, "sh", root, "rw" if writable else "ro", *bound, "--"]
    return [*namespaces, *entry, "env", "-i", *CLEAN, *env, *args]
