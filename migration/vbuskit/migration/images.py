# SPDX-License-Identifier: MIT
"""A disk's image as a host reaches it: its size, whether others have the very file, what a lock is worth."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vbuskit.migration.profile import Image

Lock = Literal["ofd", "local", "none"]

# File systems that several hosts have at once. The words are options that keep a lock on its host; None: no
# option is known with which an OFD lock keeps another host out, or nobody has tried it.
SHARED: dict[str, frozenset[str] | None] = {
    "nfs": frozenset({"nolock", "local_lock=all", "local_lock=posix"}),
    "nfs4": frozenset({"nolock", "local_lock=all", "local_lock=posix"}),
    "ceph": frozenset(),
    "gfs2": frozenset({"localflocks"}),
    "fuse.glusterfs": frozenset(),
    "lustre": frozenset({"localflock"}),
    **dict.fromkeys(("ocfs2", "gpfs", "beegfs", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs")),
}
SECTOR = 512  # bytes; the unit of sysfs, whatever a disk's own is


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo."""

    kind: str
    options: frozenset[str]

    @property
    def shared(self) -> bool:
        return self.kind in SHARED

    @property
    def lock(self) -> Lock:
        """What the file system promises."""
        local = SHARED.get(self.kind)
        return "local" if local is None or local & self.options else "ofd"


NOWHERE = Mount("", frozenset())


@dataclass(slots=True)
class Reach:
    """The images that this machine reaches; each mount's lock is tried once."""

    mounts: dict[int, Mount] = field(default_factory=lambda: mounts_in(Path("/proc/self/mountinfo")))
    tried: dict[int, Lock] = field(default_factory=dict)

    def image(self, path: str) -> Image | None:
        """None: there is no such file or block device here, or no profile may have its name."""
        if not path.isprintable():
            return None
        with suppress(OSError):
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                return self._image(path, handle)
            finally:
                os.close(handle)
        return None

    def images(self, paths: Iterable[str]) -> tuple[Image, ...]:
        """Of those that are there, by name."""
        return tuple(image for path in sorted(set(paths)) if (image := self.image(path)))

    def _image(self, path: str, handle: int) -> Image | None:
        found = os.fstat(handle)
        if stat.S_ISBLK(found.st_mode):
            writable = os.access(path, os.W_OK)
            return Image(
                path=path,
                size=disk_size(found.st_rdev),
                writable=writable,
                lock="local",
                block_size=block_size(path),
            )
        if not stat.S_ISREG(found.st_mode):
            return None
        number = mount_number(handle)
        mount = self.mounts.get(number, NOWHERE)
        if number not in self.tried:
            self.tried[number] = mount.lock if has_locks(path) else "none"
        return Image(
            path=path,
            size=found.st_size,
            writable=os.access(path, os.W_OK),
            shared=mount.shared,
            lock=self.tried[number],
        )


def mounts_in(file: Path) -> dict[int, Mount]:
    """By the number that /proc/self/fdinfo has, too; proc(5)."""
    found = {}
    for line in file.read_text(errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        words, own = left.split(), right.split(" ")
        found[int(words[0])] = Mount(own[0], frozenset([*words[5].split(","), *own[-1].split(",")]))
    return found


def mount_number(handle: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("mnt_id:")), -1)


def has_locks(path: str) -> bool:
    """Whether the kernel answers when it is asked who has one; none is taken, nobody else is kept out."""
    ask = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 100, 1, 0)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # not ours to open; who may will find locks where all others do
        return True
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_GETLK, ask)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def disk_size(device: int) -> int:
    """Bytes of a block device, which need not be opened for it."""
    return of_disk(device, "size") * SECTOR


def block_size(path: str) -> int:
    """Bytes of the logical block that a guest sees when its administrator named none; 0: it is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0
    if not stat.S_ISBLK(found.st_mode):
        return SECTOR
    device = found.st_rdev
    return of_disk(device, "queue/logical_block_size") or of_disk(device, "../queue/logical_block_size")


def of_disk(device: int, what: str) -> int:
    folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    try:
        return int((folder / what).read_text())
    except (OSError, ValueError):
        return 0
