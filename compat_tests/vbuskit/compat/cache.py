# SPDX-License-Identifier: MIT
"""What lies in the cache, when it was used last, and what goes when there is too much of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.places import Places
from vbuskit.base.shelf import is_held, removed, sweep
from vbuskit.compat.kept import Kept

# Kind -> where its items lie below the cache. Each is a folder, or a file of kept packages.
GUESTS = {"image": "images/*", "package": "packages/*.deb", "snapshot": "snapshots/*"}
ROOTS = {
    "build root": "roots/*/*",
    "root of a lab host": "hosts/*/*",
    "kernel": "kernels/*/*",
    "kernel's packages": "kernel-debs/*",
    "packages of a root": "debs/*",
    "machine": "systems/*",
    "tree of a release": "goldens/trees/*",
    "golden": "goldens/made/*",
}


@dataclass(frozen=True, slots=True)
class Item:
    """`size` in bytes of disk; `used` as time.time() says it."""

    kind: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, longest unused first; what would go, but is in use; bytes of all the rest."""

    going: tuple[Item, ...]
    busy: tuple[Item, ...]
    rest: int


def items(places: Places, kinds: dict[str, str] = GUESTS) -> list[Item]:
    """All of these kinds, the longest unused first; what is being made is none."""
    found = []
    for kind, pattern in kinds.items():
        for path in places.cache.glob(pattern):
            if not path.name.startswith("."):
                with suppress(FileNotFoundError):  # somebody else removed it meanwhile
                    found.append(Item(kind, path, size_of(path), path.stat().st_mtime))
    return sorted(found, key=lambda item: (item.used, item.path))


def size_of(path: Path) -> int:
    """Bytes on the disk; a file with several names counts once."""
    files = path.rglob("*") if path.is_dir() else [path]
    seen = {}
    for file in files:
        with suppress(FileNotFoundError):
            status = file.lstat()
            seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def plan(found: Sequence[Item], now: float, *, older: float | None, most: int | None) -> Plan:
    """`older`: seconds without a use, after which an item goes; `most`: bytes that may stay."""
    going, busy = [], []
    rest = sum(item.size for item in found)
    for item in found:
        is_old = older is not None and now - item.used > older
        is_much = most is not None and rest > most
        if not is_old and not is_much:
            continue
        if is_used(item):
            busy.append(item)
        else:
            going.append(item)
            rest -= item.size
    return Plan(tuple(going), tuple(busy), rest)


def is_used(item: Item) -> bool:
    if item.path.is_dir():
        return is_held(item.path)
    with building(item.path.parents[1]) as busy:
        return busy


@contextmanager
def building(cache: Path) -> Iterator[bool]:
    """Whether an image is being made now, which may want any package; none is begun in the block."""
    lock = cache / "images/.lock"
    if not lock.exists():
        yield False
        return
    handle = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield False
    except BlockingIOError:
        yield True
    finally:
        os.close(handle)


def remove(places: Places, item: Item) -> bool:
    """Whether it went: somebody may have begun to use it."""
    if item.path.is_dir():
        return removed(item.path)
    with building(places.cache) as busy:
        if not busy:
            item.path.unlink(missing_ok=True)
        return not busy


def tidy(places: Places) -> None:
    """Without locks whose packages are no longer all there, and without what killed builders left."""
    kept = Kept.of(places)
    with building(places.cache) as busy:
        if busy:
            return
        sweep(places.cache / "images")
        for lock in kept.folder.glob("locks/*.json"):
            if not kept.locked(lock.stem):
                lock.unlink(missing_ok=True)
