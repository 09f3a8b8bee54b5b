# SPDX-License-Identifier: MIT
"""Guests that go on where one was saved: memory and disk, kept in the cache under what was done to it.

A snapshot has no bus: each guest that is restored gets one of its own, with `Guest.plug`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vbuskit.base.artifact import Artifact, digest_of, write
from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.places import Places, make
from vbuskit.base.shelf import draft_on, has_room, hold, is_held, let_go, locked, removed, sweep, trusted
from vbuskit.base.virt import VirtError
from vbuskit.compat.domain import Hardware, domain_xml
from vbuskit.compat.images import overlay

if TYPE_CHECKING:
    from vbuskit.compat.bench import Bench

VERSION = 1  # raise it when a guest is saved or restored in another way
PARTS = MEMORY, DISK = "memory", "disk.qcow2"
RECORD = "snapshot.json"
LIMIT = 16 << 30  # bytes of all of them; the one that was used longest ago goes first
MARGIN = 64 << 20  # bytes that one may take beside memory and disk


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A guest as it was: `memory` as libvirt saves it, `disk` upon its image's."""

    memory: Artifact
    disk: Artifact


def stage(bench: Bench, done: Sequence[str], prepare: Callable[[], None]) -> bool:
    """Have the bench's guest run as `prepare` leaves it, with no bus; whether a snapshot spared `prepare`.

    done:    what `prepare` does, in words that change when that does; what they are done to is known
    prepare: boots the guest, with a fresh disk and no bus, and does to it what is wanted

    Of several processes that want the same one prepares, and the others wait for its snapshot.
    """
    bench.guest.off()
    guest = bench.guest
    guest.hardware = replace(guest.hardware, bus=None)
    if why_not(guest.hardware):
        prepare()
        return False
    key = key_of(bench, done)
    if restored(bench, key):
        return True
    with turn(bench.places, key):
        if restored(bench, key):
            return True
        upon(bench, bench.image.disk.path)
        prepare()
        if not is_used(shelf_of(bench.places) / key):
            take(bench, key)
    return False


def why_not(hardware: Hardware) -> str:
    """Why a guest with this hardware cannot be kept; nothing when it can."""
    if hardware.disk is None or hardware.raw:
        return "its disks are not in its snapshot"
    if hardware.firmware is not None:
        return "its firmware has variables of its own"
    return "it has a bus" if hardware.bus is not None else ""


def key_of(bench: Bench, done: Sequence[str]) -> str:
    """Names a snapshot: what the guest is, what it is made to run on, and what was done to it."""
    image = bench.image
    parts = [part.sha256 for part in (image.disk, image.kernel, image.initrd, Artifact.of(bench.iso))]
    here = Path("/")
    nowhere = replace(
        bench.guest.hardware,
        name="guest",
        disk=here,
        kernel=here,
        initrd=here,
        serial=here,
        bus=None,
        pluggable=False,
    )
    xml = ET.tostring(domain_xml(nowhere))
    return digest_of(str(VERSION), *parts, bench.host.connection.versions(), xml, *done)[:32]


def take(bench: Bench, key: str) -> None:
    """Save the guest, which has no bus, and go on with it from there."""
    guest, shelf = bench.guest, shelf_of(bench.places)
    if reason := why_not(guest.hardware):
        raise Refused(f"{guest.name}: cannot be kept: {reason}")
    with locked(shelf):
        sweep(shelf)
        make_room(shelf, room_for(guest.hardware))
        with draft_on(shelf, key) as draft:
            save(bench, draft)
            seal(draft)
        restore(bench, key)


def restored(bench: Bench, key: str) -> bool:
    """Whether the guest runs as the snapshot has it; one that is not there, damaged or no use is none."""
    try:
        restore(bench, key)
    except Refused:
        return False
    except VirtError:  # such as another build of QEMU under the same version
        folder = shelf_of(bench.places) / key
        let_go(folder)  # the guest is off, and its next disk is another one
        removed(folder)  # unless it is of use to another guest
        return False
    return True


def is_used(folder: Path) -> bool:
    """Whether a guest stands on it, and it is whole: no use to one, it is not taken from under another."""
    try:
        load(folder)
    except Refused:
        return False
    return is_held(folder)


def restore(bench: Bench, key: str) -> None:
    """The guest runs as it was kept, on a disk of its own upon the snapshot's, which stays."""
    folder = shelf_of(bench.places) / key
    hold(folder)
    snapshot = load(folder)
    upon(bench, snapshot.disk.path)
    bench.guest.restore(snapshot.memory.path)


def upon(bench: Bench, base: Path) -> None:
    """The guest, which is off, gets a fresh disk upon another one."""
    disk = bench.guest.hardware.disk
    assert disk is not None
    disk.unlink(missing_ok=True)
    overlay(bench.run, base, disk)


def load(folder: Path) -> Snapshot:
    """Raises Refused when the folder is not complete, or when a file is not the one that was kept."""
    try:
        trusted(folder)
        record = json.loads((folder / RECORD).read_text())
        memory, disk = (Artifact(folder / name, *record[name]) for name in PARTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder.name}: no finished snapshot") from error
    memory.verify()
    disk.verify()
    return Snapshot(memory, disk)


def save(bench: Bench, draft: Path) -> None:
    """The guest is off afterwards."""
    guest, image = bench.guest, bench.image.disk.path
    assert guest.hardware.disk is not None
    try:
        guest.save(draft / MEMORY)
    except VirtError as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise Blocked(
                f"{draft.parent}: the disk is full", hint="free some space, and run it again"
            ) from error
        raise
    shutil.move(guest.hardware.disk, draft / DISK)
    # By a path from where it will lie: the whole cache may move.
    base = os.path.relpath(image, draft)
    bench.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", base, draft / DISK])


def seal(draft: Path) -> None:
    """The record is written last; a folder without it is no snapshot."""
    parts = {name: Artifact.of(draft / name) for name in PARTS}
    for part in parts.values():
        part.path.chmod(0o444)
    record = {name: [part.sha256, part.size] for name, part in parts.items()}
    write(draft / RECORD, json.dumps(record, indent=1) + "\n")


def make_room(shelf: Path, room: int) -> None:
    """Let go of those that nobody uses now, the longest unused first. Raises Blocked: still too little."""
    kept = sorted(shelf.glob("[!.]*"), key=lambda folder: folder.stat().st_mtime)
    sizes = {folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in kept}
    for folder in kept:
        if sum(sizes.values()) + room <= LIMIT and shutil.disk_usage(shelf).free >= room:
            break
        if removed(folder):
            del sizes[folder]
    has_room(shelf, "a snapshot", room)


def room_for(hardware: Hardware) -> int:
    assert hardware.disk is not None
    return (hardware.memory << 20) + hardware.disk.stat().st_size + MARGIN


def shelf_of(places: Places) -> Path:
    return make(places.cache / "snapshots")


@contextmanager
def turn(places: Places, key: str) -> Iterator[None]:
    """One at a time makes this snapshot, or one of a few others; the kernel frees a dead holder's lock."""
    with (shelf_of(places) / f".turn-{key[:2]}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
