# SPDX-License-Identifier: MIT
"""The bus against virtio: the same work on both, in turn and in one guest, and what it costs."""

from __future__ import annotations

import os
import re
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vbuskit.base.errors import UsageError, VbuskitError
from vbuskit.compat.bench import Bench
from vbuskit.drivers.bench import ticks
from vbuskit.drivers.figures import Bar, Figure, Result

VBUS, VIRTIO = "vbus", "virtio"
SECONDS = 300.0  # for one run, on a machine that does other things as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of everything: pairs of runs, MiB of each over the net, MiB of each on a disk."""

    pairs: int
    net_mib: int
    disk_mib: int

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise UsageError("bench: less than one pair compares nothing")


WHOLE = Amount(pairs=5, net_mib=256, disk_mib=64)
QUICK = Amount(pairs=2, net_mib=16, disk_mib=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What only rises.

    cpu:        seconds of QEMU and the worker, everything of the guest's in it
    worker:     the worker's part of them
    interrupts: that the guest took for the device
    doorbells:  that the guest rang for it; 0 when nobody counts them
    units:      frames or requests that passed, both ways
    """

    cpu: float
    worker: float
    interrupts: int
    doorbells: int
    units: int

    def since(self, before: Counters) -> Counters:
        return Counters(
            cpu=self.cpu - before.cpu,
            worker=self.worker - before.worker,
            interrupts=self.interrupts - before.interrupts,
            doorbells=self.doorbells - before.doorbells,
            units=self.units - before.units,
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run moved, as its own program says, and in how many seconds."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Taken:
    """One run."""

    moved: Moved
    cost: Counters

    def per_unit(self, what: float) -> float:
        if self.cost.units <= 0:
            raise VbuskitError("bench: nothing passed where the counters are")
        return what / self.cost.units


class Side(ABC):
    """One of the two, as it is in the guest; `name` is VBUS or VIRTIO."""

    name: str

    @abstractmethod
    def look(self) -> Counters:
        """Both sides' counters now; nothing moves meanwhile."""


S = TypeVar("S", bound=Side)


@dataclass(frozen=True, slots=True)
class Trial(Generic[S]):
    """The same work for both.

    unit: of what is counted: `frame`, `request`
    rate: what its speed is in, of RATES
    few_interrupts: that there are not more of them is a bar as well
    """

    section: str
    name: str
    unit: str
    rate: str
    work: Callable[[S], Moved]
    few_interrupts: bool = False


RATES: dict[str, Callable[[Taken], float]] = {
    "MB/s": lambda taken: taken.moved.count / taken.moved.seconds / 1e6,
    "requests/s": lambda taken: taken.cost.units / taken.moved.seconds,
}


def compared(
    sides: tuple[S, S], trials: Sequence[Trial[S]], pairs: int, left_out: Mapping[str, str]
) -> Result:
    """Pairs go round the trials, so that what else the machine does meets all alike.

    The first round is thrown away: TCG translates in it what the others find translated.
    left_out: what is not measured, and why
    """
    rounds = [[[once(side, trial) for side in sides] for trial in trials] for _ in range(pairs + 1)][1:]
    results = [
        judged(trial, *zip(*(one[index] for one in rounds), strict=True))
        for index, trial in enumerate(trials)
    ]
    return Result(
        figures=tuple(figure for result in results for figure in result.figures),
        bars=tuple(bar for result in results for bar in result.bars),
        skipped=left_out,
    )


def once(side: S, trial: Trial[S]) -> Taken:
    before = side.look()
    moved = trial.work(side)
    return Taken(moved, side.look().since(before))


def judged(trial: Trial[S], ours: Sequence[Taken], theirs: Sequence[Taken]) -> Result:
    """The figures of a trial: its speed, the ratio of each pair, and what it costs; and its bars."""
    rate = RATES[trial.rate]
    ratios = tuple(rate(one) / rate(other) for one, other in zip(ours, theirs, strict=True))
    figures = [
        *(
            Figure(trial.section, f"{trial.name}: {name}", trial.rate, tuple(map(rate, runs)))
            for name, runs in ((VBUS, ours), (VIRTIO, theirs))
        ),
        Figure(trial.section, f"{trial.name}: {VBUS} / {VIRTIO}, pair by pair", "", ratios),
        *costs(trial, VBUS, ours),
        *costs(trial, VIRTIO, theirs),
    ]
    name = f"{trial.name}: {VBUS} / {VIRTIO}, median"
    bars = [Bar(trial.section, name, "", 1.0, statistics.median(ratios), at_least=True)]
    if trial.few_interrupts:
        bars.append(interrupts_bar(trial, ours, theirs))
    return Result(tuple(figures), tuple(bars), {})


def interrupts_bar(trial: Trial[S], ours: Sequence[Taken], theirs: Sequence[Taken]) -> Bar:
    """At most as many for each unit as the other side takes."""
    seen, bound = (
        statistics.median(one.per_unit(one.cost.interrupts) for one in runs) for runs in (ours, theirs)
    )
    return Bar(trial.section, f"{trial.name}: interrupts", f"/{trial.unit}, {VIRTIO}'s", bound, seen)


def costs(trial: Trial[S], name: str, runs: Sequence[Taken]) -> Iterator[Figure]:
    """Worker and doorbells only of who has such, or counts them."""

    def figure(what: str, unit: str, value: Callable[[Taken], float]) -> Figure:
        return Figure(trial.section, f"{trial.name}: {name}, {what}", unit, tuple(map(value, runs)))

    yield figure("CPU", "s/GB", lambda one: one.cost.cpu / one.moved.count * 1e9)
    if any(one.cost.worker for one in runs):
        yield figure("the worker's part", "s/GB", lambda one: one.cost.worker / one.moved.count * 1e9)
    yield figure("interrupts", f"/{trial.unit}", lambda one: one.per_unit(one.cost.interrupts))
    if any(one.cost.doorbells for one in runs):
        yield figure("doorbells", f"/{trial.unit}", lambda one: one.per_unit(one.cost.doorbells))
    yield figure("bytes", f"/{trial.unit}", lambda one: one.per_unit(one.moved.count))


# ---- Counters ----


def interrupts(listing: str, name: str) -> int:
    """Of all CPUs, of the lines whose last word matches: /proc/interrupts, as text."""
    head, *lines = listing.splitlines()
    cpus, total = len(head.split()), 0
    for line in lines:
        words = line.split()
        if re.fullmatch(name, words[-1]):
            total += sum(int(word) for word in words[1 : cpus + 1])
    return total


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a guest's time is seen: its QEMU and its worker, on this host."""

    bench: Bench
    qemu: int

    @classmethod
    def of(cls, bench: Bench) -> Machine:
        pid = bench.host.seen(f"/run/libvirt/qemu/{bench.guest.name}.pid").read_text()
        return cls(bench, int(pid))

    def counters(self, lines: str, *, doorbells: int, units: int) -> Counters:
        """`lines`: as in `interrupts`. The worker counts for both sides: it sleeps while virtio works."""
        hertz = os.sysconf("SC_CLK_TCK")
        worker = ticks([self.bench.bus.status().worker]) / hertz
        return Counters(
            cpu=worker + ticks([self.qemu]) / hertz,
            worker=worker,
            interrupts=interrupts(self.bench.guest("cat /proc/interrupts"), lines),
            doorbells=doorbells,
            units=units,
        )

    def doorbells(self) -> int:
        """That the guest has rung on the bus."""
        return int(self.bench.bus.north(self.bench.guest)["qinject"])


BUS_LINES = r"vbus\d+-q\d+"


def virtio_lines(bench: Bench, path: str) -> str:
    """What the interrupts of the virtio device below a folder of /sys are called."""
    name = bench.guest(f"basename $(readlink -f {path}/device)").strip()
    if not re.fullmatch(r"virtio\d+", name):
        raise VbuskitError(f"{path}: the guest says that it is {name!r}, and not a virtio device")
    return rf"{name}-.*"
