# SPDX-License-Identifier: MIT
"""Disks of a guest: images on the host, plugged into its bus as vblk-file, and their names in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from vbuskit.base.errors import TimedOut
from vbuskit.base.places import make
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import folders
from vbuskit.drivers import host as south

MIB = 1 << 20
PATIENCE = 60.0  # seconds
KLASS = "vblk-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk as the administrator describes it; its image is a sparse file of `mib` MiB."""

    name: str
    number: int
    mib: int
    serial: str = ""
    block_size: int = 0
    read_only: bool = False

    @property
    def uuid(self) -> UUID:
        return UUID(f"76627573-6b69-4000-9000-{self.number:012x}")


@dataclass(frozen=True, slots=True)
class Plugged:
    """A disk that the guest has: `node` is its kernel name, such as vba."""

    bench: Bench
    disk: Disk
    image: Path
    node: str

    def counters(self) -> dict[str, int]:
        return dict(self.device().counters)

    def device(self) -> south.Device:
        return self.bench.bus.client.device(self.bench.bus.name, self.disk.uuid)

    def remove(self) -> None:
        self.bench.bus.client.remove_device(self.bench.bus.name, self.disk.uuid)

    def resize(self, mib: int) -> None:
        """Another size of the image, which the guest is told."""
        with self.image.open("r+b") as file:
            file.truncate(mib * MIB)
        self.bench.bus.client.resize(self.bench.bus.name, self.disk.uuid)

    def becomes(self, mib: int) -> bool:
        """Whether the guest sees this size, in time."""
        return bool(until(lambda: self.attribute("size") == str(mib * MIB // 512), PATIENCE))

    def state(self) -> str:
        found = self.bench.guest.execute(f"cat {sysfs(self.disk)}/state 2>/dev/null").out.strip()
        return found or "gone"

    def replays(self) -> int:
        return int(self.bench.guest(f"cat {sysfs(self.disk)}/replays"))

    def attribute(self, name: str) -> str:
        """A file below /sys/block, such as `queue/write_cache`."""
        return self.bench.guest(f"cat /sys/block/{self.node}/{name}").strip()

    def vanishes(self) -> str:
        """`gone`, once the driver has let go of it."""
        folder = f"ls -d {folders(self.disk.uuid)} /sys/block/{self.node} 2>/dev/null"
        look = until(lambda: None if self.bench.guest.execute(folder).out else "gone", PATIENCE)
        return look or "still there"

    def moved(self, count: int) -> None:
        """Wait until `count` more bytes have passed."""
        start = self._passed()
        if not until(lambda: self._passed() - start >= count, PATIENCE * 4, pause=0.005):
            raise TimedOut(f"disk {self.disk.name}: does not move {count} bytes")

    def _passed(self) -> int:
        now = self.counters()
        return now["read_bytes"] + now["write_bytes"]


def sysfs(disk: Disk) -> str:
    return f"/sys/bus/vbus/devices/{disk.uuid}"


def image_of(bench: Bench, disk: Disk) -> Path:
    """A fresh image, all zeroes."""
    path = make(bench.places.work("work", "disks")) / f"{disk.name}.img"
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.truncate(disk.mib * MIB)
    return path


@contextmanager
def plugged(bench: Bench, disk: Disk, image: Path | None = None) -> Iterator[Plugged]:
    """The disk in the guest's bus, once the guest has it; removed as by `added`."""
    path = image or image_of(bench, disk)
    with added(bench, disk, path):
        yield found(bench, disk, path)


@contextmanager
def added(bench: Bench, disk: Disk, image: Path) -> Iterator[None]:
    """The disk in the bus, whether a guest runs or not; removed afterwards, unless somebody else did."""
    add(bench, disk, image)
    try:
        yield
    finally:
        client, bus = bench.bus.client, bench.bus.name
        if any(device.uuid == disk.uuid for device in client.devices(bus)):
            client.remove_device(bus, disk.uuid)


def add(bench: Bench, disk: Disk, image: Path) -> None:
    """As `added`, until the bus ends."""
    bench.bus.client.add_device(
        bench.bus.name,
        disk.uuid,
        KLASS,
        argument=str(image),
        read_only=disk.read_only,
        block_size=disk.block_size,
        serial=disk.serial,
    )


def found(bench: Bench, disk: Disk, image: Path) -> Plugged:
    """A disk that was added, under the name that the guest has for it."""
    return Plugged(bench, disk, image, appears(bench, disk))


def appears(bench: Bench, disk: Disk) -> str:
    """The guest's name for the disk, once udev is through with it and its partitions."""
    # The folder is there before the partitions were read, and udev hears of all of them after that.
    look = f"cd {sysfs(disk)}/block && udevadm info -q property -p $PWD/* | grep -q ^ID_VBUS_UUID= && ls"
    node = until(lambda: bench.guest.execute(f"{look} 2>/dev/null").out.strip(), PATIENCE)
    if not node:
        raise TimedOut(f"disk {disk.name}: the guest has none within {PATIENCE:g} s")
    bench.guest("udevadm settle")
    return node
