# SPDX-License-Identifier: MIT
"""What a bench measures, and what it needs for that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from vbuskit.base.places import make
from vbuskit.base.run import Runner
from vbuskit.drivers.client import Client
from vbuskit.drivers.host import Host, serving

MAC = "52:54:00:00:00:{:02x}"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, once for each of `values`; the order is that of the measurement."""

    section: str
    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def p99(self) -> float:
        """The nearest rank; of fewer than a hundred values the highest."""
        return sorted(self.values)[math.ceil(len(self.values) * 0.99) - 1]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bound, and what was seen; the issue's numbers.

    at_least: less than the bound breaks it, not more
    """

    section: str
    name: str
    unit: str
    bound: float
    seen: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.seen >= self.bound if self.at_least else self.seen <= self.bound


@dataclass(frozen=True, slots=True)
class Result:
    """`skipped`: what was not measured, and why."""

    figures: tuple[Figure, ...]
    bars: tuple[Bar, ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of everything: repetitions, ms of each, MiB of the image, times, seconds of looking."""

    repetitions: int
    ms: int
    image_mib: int
    adds: int
    kills: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What every section needs; both folders are its own.

    folder: of sockets, whose paths are short
    disk:   of images, on the disk that results go to
    """

    run: Runner
    programs: Mapping[str, Path]
    tree: Path
    folder: Path
    disk: Path
    amount: Amount

    @contextmanager
    def host(self, name: str, *through: str) -> Iterator[tuple[Host, int]]:
        """A vbusd of its own, and its pid."""
        path, log = self.folder / name, self.folder / f"{name}.log"
        vbusd = self.programs["vbusd"]
        make(path, mode=0o700)
        with (
            serving(self.run, vbusd, path / "vbusd", output=log, through=through) as process,
            Host(path / "vbusd") as host,
        ):
            yield host, process.pid

    @property
    def program(self) -> Path:
        return self.programs["vbus-bench"]

    def client(self, path: Path) -> Client:
        return Client(self.programs["libvbus_client.so"], path)


def device(number: int) -> UUID:
    return UUID(int=0x5A4E6F7E_0000_4000_8000_000000000000 + number)
