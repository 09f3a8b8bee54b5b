# SPDX-License-Identifier: MIT
"""Folders of the cache that hold what takes long to make: one builder at a time, whole or not there."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vbuskit.base.errors import Blocked, Refused

DRAFT = ".building-"
HELD: dict[Path, int] = {}


@contextmanager
def locked(shelf: Path) -> Iterator[None]:
    """One builder at a time; the kernel drops the lock when its holder dies."""
    with (shelf / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def draft_on(shelf: Path, key: str) -> Iterator[Path]:
    """An empty folder; it becomes `shelf`/`key` when the block ends well, else it goes. Under the lock."""
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=shelf))
    try:
        yield draft
        draft.chmod(0o755)
        shutil.rmtree(shelf / key, ignore_errors=True)
        draft.rename(shelf / key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def hold(folder: Path) -> None:
    """Note its use, and keep it from `removed` until this process ends. Raises Refused when it is gone."""
    with suppress(OSError):
        if folder not in HELD or not is_same(HELD[folder], folder):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if folder in HELD:
                os.close(HELD[folder])
            HELD[folder] = handle
        os.utime(folder)
        if is_same(HELD[folder], folder):
            return
    raise Refused(f"{folder}: is gone", hint="run it again; it is made anew")


def let_go(folder: Path) -> None:
    """This process uses it no more."""
    with suppress(KeyError):
        os.close(HELD.pop(folder))


def is_same(handle: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(handle), path.stat())


def is_held(folder: Path) -> bool:
    """Whether a living process uses it; this one counts as well."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def removed(folder: Path) -> bool:
    """Remove it, unless a living process holds it; a part of it is never seen under its name."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # somebody else was faster
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        away = folder.with_name(f"{DRAFT}{folder.name}-{os.getpid()}")
        folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def sweep(shelf: Path) -> None:
    """Drafts of builders that were killed; under the lock there is no living one."""
    for left in shelf.glob(f"{DRAFT}*"):
        shutil.rmtree(left, ignore_errors=True)


def trusted(folder: Path) -> None:
    """Hash and files lie side by side: only their owner may be able to change both."""
    seen = folder.stat()
    if seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
        raise Refused(f"{folder}: others may write there", hint="remove it; it is built again")


def has_room(shelf: Path, what: str, room: int) -> None:
    """Raises Blocked when less than `room` bytes are free; `what` ("a guest image") takes them."""
    free = shutil.disk_usage(shelf).free
    if free < room:
        raise Blocked(
            f"{shelf}: {free >> 20} MiB free, {what} takes {room >> 20} MiB to build",
            hint="free some space, or point VBUSKIT_CACHE elsewhere",
        )
