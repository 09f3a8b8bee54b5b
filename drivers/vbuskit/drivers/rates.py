# SPDX-License-Identifier: MIT
"""How much a second, and how late: what vbus-bench measures, once for each class and size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vbuskit.drivers.figures import MAC, Bench, Figure, Result, device

INTERFACE = "vbench0"
FRAMES = (60, 1514)  # bytes: the shortest and the longest without a tag, their checksum not counted
DEADLINE = 60.0  # of one repetition, on a machine that does other things as well


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of vbus-bench, taken several times; `units` are of QUANTITIES."""

    section: str
    name: str
    units: tuple[str, ...]
    words: tuple[str | Path, ...]


def rates(this: Bench, sections: list[str]) -> Result:
    """Repetitions go round, so that what else the machine does meets all measures alike."""
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        measures = [measure for name in sections for measure in RIGS[name](this, stack, skipped)]
        taken = [[once(this, measure) for measure in measures] for _ in range(this.amount.repetitions)]
    columns = zip(measures, zip(*taken, strict=True), strict=True)
    return Result(tuple(one for measure, runs in columns for one in figures_of(measure, runs)), (), skipped)


def once(this: Bench, measure: Measure) -> dict[str, float]:
    said = this.run([*measure.words, "--ms", str(this.amount.ms)], seconds=DEADLINE)
    numbers: dict[str, float] = json.loads(said)
    return numbers


def per_second(said: dict[str, float]) -> float:
    return said["count"] / said["seconds"]


QUANTITIES: dict[str, Callable[[dict[str, float]], float]] = {
    "calls/s": per_second,
    "pairs/s": per_second,
    "frames/s": per_second,
    "requests/s": per_second,
    "GB/s": lambda said: said["bytes"] / said["seconds"] / 1e9,
    "us p50": lambda said: said["p50_us"],
    "us p99": lambda said: said["p99_us"],
}
LATENCY = ("us p50", "us p99")


def figures_of(measure: Measure, runs: tuple[dict[str, float], ...]) -> list[Figure]:
    return [
        Figure(measure.section, measure.name, unit, tuple(QUANTITIES[unit](said) for said in runs))
        for unit in measure.units
    ]


def calls_rig(this: Bench, stack: ExitStack, skipped: dict[str, str]) -> list[Measure]:
    path = loopback(this, stack, "calls")
    return [Measure("calls", "ENUMERATE", ("calls/s", *LATENCY), (this.program, "calls", path))]


def signals_rig(this: Bench, stack: ExitStack, skipped: dict[str, str]) -> list[Measure]:
    path = loopback(this, stack, "signals")
    return [Measure("signals", "there and back", ("pairs/s", *LATENCY), (this.program, "signals", path))]


def packets_rig(this: Bench, stack: ExitStack, skipped: dict[str, str]) -> list[Measure]:
    words = (this.program, "packets", loopback(this, stack, "packets"))
    return [
        Measure("packets", f"loopback {size} B", ("frames/s", "GB/s"), (*words, "--size", str(size)))
        for size in FRAMES
    ]


def loopback(this: Bench, stack: ExitStack, name: str) -> Path:
    host, _ = stack.enter_context(this.host(name))
    path = this.folder / name / "q"
    host.add_bus("vm", path)
    host.add_device("vm", device(1), "venet-loopback", mac=MAC.format(1))
    return path


def tap_rig(this: Bench, stack: ExitStack, skipped: dict[str, str]) -> list[Measure]:
    """vbusd and the bench in a network namespace that ends with them."""
    if os.geteuid():
        skipped["tap"] = "a network namespace needs root"
        return []
    if not Path("/dev/net/tun").exists():
        skipped["tap"] = "there is no /dev/net/tun"
        return []
    host, pid = stack.enter_context(this.host("tap", "unshare", "--net", "--"))
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net", "--")
    this.run([*inside, "ip", "tuntap", "add", "dev", INTERFACE, "mode", "tap"])
    path = this.folder / "tap" / "q"
    host.add_bus("vm", path)
    host.add_device("vm", device(1), "venet-tap", mac=MAC.format(1), argument=INTERFACE)
    this.run([*inside, "ip", "link", "set", INTERFACE, "up"])
    words = (*inside, this.program, "--interface", INTERFACE)
    return [
        Measure("tap", f"{name} {size} B", ("frames/s", "GB/s"), (*words, what, path, "--size", str(size)))
        for what, name in (("tap-out", "from the guest"), ("tap-in", "to the guest"))
        for size in FRAMES
    ]


# Of a disk: name, what is told of it, words.
DISK = (
    ("random read 4 KiB", "requests/s", ("--random", "--size", "4096")),
    ("random write 4 KiB", "requests/s", ("--random", "--size", "4096", "--write")),
    ("sequential read 64 KiB", "GB/s", ("--size", "65536")),
    ("sequential write 64 KiB", "GB/s", ("--size", "65536", "--write")),
)


def disk_rig(this: Bench, stack: ExitStack, skipped: dict[str, str]) -> list[Measure]:
    """Both engines, each with an image of its own: an image is one vbusd's at a time."""
    measures: list[Measure] = []
    for engine, through in (("io_uring", ()), ("pool", ("env", "VBUS_IO_POOL=1"))):
        host, _ = stack.enter_context(this.host(engine, *through))
        path, image = this.folder / engine / "q", this.disk / f"{engine}.img"
        write_image(image, this.amount.image_mib)
        host.add_bus("vm", path)
        host.add_device("vm", device(1), "vblk-file", argument=str(image))
        measures += disk_measures(this, engine, path)
    return measures


def disk_measures(this: Bench, engine: str, path: Path) -> list[Measure]:
    return [
        Measure(
            "disk",
            f"{engine} {name} depth {depth}",
            (unit, *LATENCY),
            (this.program, "disk", path, "--depth", str(depth), *words),
        )
        for name, unit, words in DISK
        for depth in (1, 16)
    ]


def write_image(path: Path, mib: int) -> None:
    """Written, not only made long: a hole is read without the disk."""
    block = os.urandom(1 << 20)
    with path.open("wb") as image:
        for _ in range(mib):
            image.write(block)
        image.flush()
        os.fsync(image.fileno())


RIGS: dict[str, Callable[[Bench, ExitStack, dict[str, str]], list[Measure]]] = {
    "calls": calls_rig,
    "signals": signals_rig,
    "packets": packets_rig,
    "tap": tap_rig,
    "disk": disk_rig,
}
