# SPDX-License-Identifier: MIT
"""Snapshots of guests: used again or made anew, whole or none, and no more than there is room for."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from vbuskit.base import shelf
from vbuskit.base.artifact import Artifact, write
from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.places import Places, make
from vbuskit.base.run import Runner
from vbuskit.base.virt import VirtError
from vbuskit.compat import snapshot
from vbuskit.compat.domain import Hardware
from vbuskit.compat.images import overlay

if TYPE_CHECKING:
    from vbuskit.compat.bench import Bench

DONE = ("installed",)


class Twin:
    """A guest whose memory is a line of text; it knows how often it was prepared, saved and restored."""

    def __init__(self, hardware: Hardware) -> None:
        self.name = hardware.name
        self.hardware = hardware
        self.memory = ""
        self.prepared = self.saved = self.restored = 0
        self.refusal: VirtError | None = None

    def prepare(self) -> None:
        self.prepared += 1
        self.memory = "drivers are installed"

    def off(self) -> None:
        self.memory = ""

    def save(self, file: Path) -> None:
        self.saved += 1
        if self.refusal:
            raise self.refusal
        file.write_text(self.memory)
        self.memory = ""

    def restore(self, file: Path) -> None:
        if self.refusal:
            refusal, self.refusal = self.refusal, None
            raise refusal
        assert self.hardware.disk is not None
        assert self.hardware.disk.is_file()
        self.restored += 1
        self.memory = file.read_text()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tree=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


@pytest.fixture
def bench(places: Places) -> Bench:
    return bench_in(places)


def bench_in(places: Places, name: str = "debian") -> Bench:
    image, work = make(places.cache / "images/one"), make(places.out / name)
    disk = image / "disk.qcow2"
    if not disk.exists():
        Runner()(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    parts = {part: write(image / part, part) for part in ("kernel", "initrd")}
    hardware = Hardware(
        name=name,
        disk=overlay(Runner(), disk, work / "own.qcow2"),
        kernel=parts["kernel"].path,
        initrd=parts["initrd"].path,
        serial=work / "serial.log",
        bus=Path("/run/vbus/s"),
    )
    return cast(
        "Bench",
        SimpleNamespace(
            run=Runner(),
            places=places,
            image=SimpleNamespace(disk=Artifact.of(disk), **parts),
            iso=write(places.out / "drivers.iso", "drivers").path,
            host=SimpleNamespace(connection=SimpleNamespace(versions=lambda: "libvirt 9.0.0, QEMU 7.2.22")),
            guest=Twin(hardware),
        ),
    )


def twin(bench: Bench) -> Twin:
    return cast(Twin, bench.guest)


def staged(bench: Bench, done: tuple[str, ...] = DONE) -> bool:
    """Whether a snapshot was there; either way the guest runs as it was prepared."""
    found = snapshot.stage(bench, done, twin(bench).prepare)
    assert twin(bench).memory == "drivers are installed"
    return found


def kept(bench: Bench) -> Path:
    """Its only snapshot."""
    (folder,) = snapshot.shelf_of(bench.places).glob("[!.]*")
    return folder


def test_a_guest_is_prepared_once_and_restored_from_then_on(bench: Bench) -> None:
    assert [staged(bench) for _ in range(3)] == [False, True, True]
    assert (twin(bench).prepared, twin(bench).saved, twin(bench).restored) == (1, 1, 3)


def test_a_staged_guest_has_no_bus(bench: Bench) -> None:
    staged(bench)
    assert bench.guest.hardware.bus is None


def test_each_restored_guest_has_a_disk_of_its_own(bench: Bench) -> None:
    staged(bench)
    disk = bench.guest.hardware.disk
    assert disk is not None
    disk.write_bytes(b"what the last one left")
    staged(bench)
    said = json.loads(Runner()(["qemu-img", "info", "--output=json", "--backing-chain", disk]))
    names = [Path(layer["filename"]).resolve() for layer in said]
    assert names == [disk, kept(bench) / snapshot.DISK, bench.image.disk.path]


def test_a_cache_that_moves_takes_its_snapshots_along(bench: Bench) -> None:
    staged(bench)
    cache = bench.places.cache
    elsewhere = cache.rename(cache.with_name("elsewhere"))
    disk = next(elsewhere.glob(f"snapshots/*/{snapshot.DISK}"))
    said = json.loads(Runner()(["qemu-img", "info", "--output=json", "--backing-chain", disk]))
    assert Path(said[1]["filename"]).resolve() == elsewhere / "images/one/disk.qcow2"


def test_what_the_guest_is_and_what_was_done_to_it_is_in_the_key(bench: Bench, tmp_path: Path) -> None:
    fake = cast(Any, bench)
    keys = {snapshot.key_of(bench, DONE), snapshot.key_of(bench, ("upgraded",))}
    usual = fake.guest.hardware
    for other in ({"memory": 1024}, {"init": "/sbin/init"}, {"stranger": True}):
        fake.guest.hardware = replace(usual, **other)
        keys.add(snapshot.key_of(bench, DONE))
    fake.guest.hardware = usual
    for name in ("disk", "kernel", "initrd"):
        image = SimpleNamespace(**{**vars(fake.image), name: write(tmp_path / name, "another")})
        keys.add(snapshot.key_of(cast("Bench", SimpleNamespace(**{**vars(fake), "image": image})), DONE))
    fake.host.connection.versions = lambda: "libvirt 9.0.0, QEMU 7.2.23"
    keys.add(snapshot.key_of(bench, DONE))
    bench.iso.write_text("other drivers")
    keys.add(snapshot.key_of(bench, DONE))
    assert len(keys) == 10


def test_paths_names_and_the_bus_are_not_in_the_key(places: Places) -> None:
    one, two = bench_in(places, "one"), bench_in(places, "two")
    two.guest.hardware = replace(two.guest.hardware, bus=None, pluggable=True)
    assert snapshot.key_of(one, DONE) == snapshot.key_of(two, DONE)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", [*snapshot.PARTS, snapshot.RECORD])
def test_a_damaged_snapshot_is_made_anew(bench: Bench, name: str, damage: Callable[[Path], None]) -> None:
    staged(bench)
    damage(kept(bench) / name)
    with pytest.raises(Refused):
        snapshot.load(kept(bench))
    assert [staged(bench), staged(bench)] == [False, True]


def test_a_snapshot_that_others_may_write_is_made_anew(bench: Bench) -> None:
    staged(bench)
    kept(bench).chmod(0o777)
    assert [staged(bench), staged(bench)] == [False, True]


def test_a_snapshot_that_libvirt_refuses_is_made_anew(bench: Bench) -> None:
    staged(bench)
    twin(bench).refusal = VirtError("debian: restore: another build of QEMU", 9)
    assert [staged(bench), staged(bench)] == [False, True]


def test_what_a_killed_builder_left_is_swept(bench: Bench) -> None:
    left = make(snapshot.shelf_of(bench.places) / f"{shelf.DRAFT}killed")
    staged(bench)
    assert not left.exists()


def test_a_full_disk_is_blocked_before_the_guest_is_saved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Blocked, match="a snapshot takes"):
        staged(bench)
    assert (twin(bench).saved, twin(bench).memory) == (0, "drivers are installed")


def test_a_disk_that_fills_up_under_a_snapshot_is_blocked_and_nothing_is_left(bench: Bench) -> None:
    full = VirtError("debian: save: unable to write: No space left on device", 38)

    def prepare() -> None:
        twin(bench).prepare()
        twin(bench).refusal = full

    with pytest.raises(Blocked, match="the disk is full"):
        snapshot.stage(bench, DONE, prepare)
    assert not list(snapshot.shelf_of(bench.places).glob("[!.]*"))
    assert not list(snapshot.shelf_of(bench.places).glob(f"{shelf.DRAFT}*"))


def test_a_guest_that_is_saved_and_cannot_be_restored_is_an_error(bench: Bench) -> None:
    def restore(file: Path) -> None:
        raise VirtError("debian: restore: no", 9)

    twin(bench).restore = restore  # type: ignore[method-assign]
    with pytest.raises(VirtError, match="restore: no"):
        staged(bench)


@pytest.mark.parametrize(
    "other", [{"raw": (Path("/x.img"),)}, {"disk": None}, {"firmware": cast(Any, object())}]
)
def test_a_guest_whose_disks_or_firmware_would_be_missing_is_prepared_and_not_kept(
    bench: Bench, other: dict[str, Any]
) -> None:
    bench.guest.hardware = replace(bench.guest.hardware, **other)
    assert [staged(bench), staged(bench)] == [False, False]
    assert (twin(bench).prepared, twin(bench).saved) == (2, 0)


def test_the_one_that_was_unused_for_longest_makes_room_and_one_that_is_used_never_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, done in enumerate(("old", "used", "young"), start=1):
        staged(bench, (done,))
        os.utime(folder_of(bench, done), (number, number))
    for done in ("old", "young"):  # as if another process had used them, which has ended
        os.close(shelf.HELD.pop(folder_of(bench, done)))
    os.utime(folder_of(bench, "used"), (0, 0))
    size = sum(file.stat().st_size for file in folder_of(bench, "old").iterdir())
    room = snapshot.room_for(bench.guest.hardware)
    monkeypatch.setattr(snapshot, "LIMIT", 2 * size + room)
    staged(bench, ("new",))
    left = [done for done in ("old", "used", "young", "new") if folder_of(bench, done).exists()]
    assert left == ["used", "young", "new"]


def folder_of(bench: Bench, done: str) -> Path:
    return snapshot.shelf_of(bench.places) / snapshot.key_of(bench, (done,))


def test_a_snapshot_that_is_used_is_young_again(bench: Bench) -> None:
    staged(bench)
    os.utime(kept(bench), (0, 0))
    staged(bench)
    assert kept(bench).stat().st_mtime > 0


def test_of_two_who_want_the_same_one_prepares_and_the_other_one_waits(places: Places) -> None:
    benches = [bench_in(places, "one"), bench_in(places, "two")]
    with ThreadPoolExecutor(2) as both:
        found = sorted(both.map(staged, benches))
    assert found == [False, True]
    assert sum(twin(bench).prepared for bench in benches) == 1


def test_a_snapshot_that_libvirt_refuses_to_one_stays_as_it_is_for_another_who_stands_on_it(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: Path) -> None:
        raise VirtError("other: restore: cannot allocate memory", 1)

    one, two = bench_in(places), bench_in(places, "other")
    staged(one)
    (disk,) = snapshot.shelf_of(places).glob("*/disk.qcow2")
    before = disk.stat().st_ino
    monkeypatch.setattr(twin(two), "restore", refused)
    with stood_on(disk.parent):
        assert not staged(two)
    assert disk.stat().st_ino == before


@contextmanager
def stood_on(folder: Path) -> Iterator[None]:
    """As by the guest of another process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    yield
    os.close(handle)
