# SPDX-License-Identifier: MIT
"""How fast, how small and how idle the host's programs are, against bounds; a real vbusd, no guest."""

from __future__ import annotations

import os
import re
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.client import Client, Stale
from vbuskit.drivers.figures import MAC, Amount, Bar, Bench, Figure, Result, device
from vbuskit.drivers.host import Host
from vbuskit.drivers.lines import lines_by_program
from vbuskit.drivers.rates import RIGS, rates

WHOLE = Amount(repetitions=5, ms=1000, image_mib=512, adds=200, kills=50, idle_seconds=10.0)
QUICK = Amount(repetitions=2, ms=50, image_mib=8, adds=5, kills=3, idle_seconds=1.0)

# Issue 3's bounds: ms, KiB a worker, lines of all programs.
ADD_MS, RESPAWN_MS = 20.0, 50.0
WORKER_KIB = 4096
LINES = 6000
IDLE_BUSES, IDLE_DEVICES = 64, 4

DEADLINE = 60.0  # seconds for what is waited for, on a machine that does other things as well
BETWEEN_KILLS = 0.25  # vbusd starts a worker late when five have died within a second


def bench(run: Runner, places: Places, amount: Amount, only: str | None = None) -> Result:
    """All sections, or one of NAMES."""
    programs = {name: artifact.path for name, artifact in host_programs(run, places).items()}
    images = places.work("bench")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=images) as disk:
        this = Bench(run, programs, places.tree, Path(folder), Path(disk), amount)
        rated = [name for name in RIGS if only in (None, name)]
        others = [section for name, section in OTHERS.items() if only in (None, name)]
        results = [rates(this, rated), *(section(this) for section in others)]
    return Result(
        figures=tuple(figure for result in results for figure in result.figures),
        bars=tuple(bar for result in results for bar in result.bars),
        skipped={name: why for result in results for name, why in result.skipped.items()},
    )


# ---- Times ----


def adds(this: Bench) -> Result:
    """From before the administrator's request to after the guest's DEVOPEN, everything in between."""
    path, took = this.folder / "add" / "q", []
    with this.host("add") as (host, _):
        host.add_bus("vm", path)
        with this.client(path) as client:
            client.negotiate()
            for _ in range(this.amount.adds):
                took.append(add_once(host, client))
                remove(host, client)
    figure = Figure("add", "DEVICE_ADD to DEVOPEN", "ms", tuple(took))
    return Result((figure,), (Bar("add", "DEVICE_ADD to DEVOPEN, p99", "ms", ADD_MS, figure.p99),), {})


def add_once(host: Host, client: Client) -> float:
    """Milliseconds; the guest asks as soon as a doorbell tells of another list."""
    begin = time.perf_counter()
    host.add_device("vm", device(1), "venet-loopback", mac=MAC.format(1))
    while not client.devices():
        client.wait(int(DEADLINE * 1000))
    client.open(device(1))
    return (time.perf_counter() - begin) * 1000


def remove(host: Host, client: Client) -> None:
    """Until the guest sees it: the next one must not be taken for this."""
    host.remove_device("vm", device(1))
    while client.devices():
        client.wait(int(DEADLINE * 1000))


def respawns(this: Bench) -> Result:
    """From before SIGKILL to the first answers of the next epoch: the fence's time is in it."""
    path, took = this.folder / "respawn" / "q", []
    with this.host("respawn") as (host, _):
        host.add_bus("vm", path)
        with this.client(path) as client:
            client.negotiate()
            for _ in range(this.amount.kills):
                took.append(respawn_once(host, client))
                time.sleep(BETWEEN_KILLS)
    figure = Figure("respawn", "SIGKILL to the next epoch's answer", "ms", tuple(took))
    return Result((figure,), (Bar("respawn", f"{figure.name}, p99", "ms", RESPAWN_MS, figure.p99),), {})


def respawn_once(host: Host, client: Client) -> float:
    """Milliseconds."""
    worker, before = host.bus("vm").worker, client.epoch
    begin = time.perf_counter()
    os.kill(worker, signal.SIGKILL)
    try:
        while True:
            client.wait(int(DEADLINE * 1000))
    except Stale:
        client.negotiate()
    took = (time.perf_counter() - begin) * 1000
    if client.epoch == before:
        raise VbuskitError(f"worker {worker}: was killed, and the epoch is the same")
    return took


# ---- Idle ----


@dataclass(frozen=True, slots=True)
class Load:
    """Of processes together: ticks of the CPU, how often one was switched to."""

    ticks: int
    switches: int


def idle(this: Bench) -> Result:
    """Many guests that do nothing: connected, negotiated, confirmed, every device's rings shared."""
    raise_file_limit()
    with this.host("idle") as (host, vbusd), ExitStack() as stack:
        for number in range(IDLE_BUSES):
            stack.enter_context(idle_guest(this, host, number))
        workers = until(lambda: confirmed(host), DEADLINE)
        if not workers:
            raise VbuskitError(f"idle: not all of {IDLE_BUSES} guests were confirmed in {DEADLINE:g} s")
        pids = [vbusd, *workers]
        before = settled(pids)
        time.sleep(this.amount.idle_seconds)
        after = load(pids)
        memory = tuple(float(resident(worker)) for worker in workers)
    switches, ticks = float(after.switches - before.switches), float(after.ticks - before.ticks)
    name = f"{IDLE_BUSES} guests x {IDLE_DEVICES} devices"
    figures = (
        Figure("idle", f"{name}: switches in {this.amount.idle_seconds:g} s", "", (switches,)),
        Figure("idle", f"{name}: CPU in {this.amount.idle_seconds:g} s", "ticks", (ticks,)),
        Figure("idle", f"{name}: RssAnon + RssFile of a worker", "KiB", memory),
    )
    bars = (
        Bar("idle", "switches of vbusd and workers", "", 0, switches),
        Bar("idle", "CPU of vbusd and workers", "ticks", 0, ticks),
        Bar("idle", "RssAnon + RssFile of the largest worker", "KiB", WORKER_KIB, max(memory)),
    )
    return Result(figures, bars, {})


@contextmanager
def idle_guest(this: Bench, host: Host, number: int) -> Iterator[None]:
    bus, path = f"vm{number}", this.folder / "idle" / f"q{number}"
    host.add_bus(bus, path, window_mib=4)
    for card in range(IDLE_DEVICES):
        host.add_device(bus, device(card + 1), "venet-loopback", mac=MAC.format(card + 1))
    with this.client(path) as client:
        client.negotiate()
        for card in range(IDLE_DEVICES):
            client.venet(device(card + 1))
        yield


def confirmed(host: Host) -> list[int]:
    """The workers, when every guest has said that it has seen the epoch; else none."""
    buses = host.buses()
    return [bus.worker for bus in buses] if all(bus.confirmed for bus in buses) else []


def settled(pids: list[int]) -> Load:
    """Once all sleep: two looks in a row that are the same."""
    looks = [load(pids)]

    def again() -> Load | None:
        looks.append(load(pids))
        return looks[-1] if looks[-1] == looks[-2] else None

    seen = until(again, DEADLINE, pause=0.2)
    if not seen:
        raise VbuskitError(f"idle: the workers are still at work after {DEADLINE:g} s")
    return seen


def load(pids: list[int]) -> Load:
    """proc(5); all threads, and switches whether it slept or was made to wait."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    switches = [int(n) for t in tasks for n in SWITCHES.findall((t / "status").read_text())]
    return Load(ticks(pids), sum(switches))


def ticks(pids: list[int]) -> int:
    """Of the CPU, user and system, of processes together; sysconf(SC_CLK_TCK) are a second."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(words[11]) + int(words[12]) for words in stats)


SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE)
RESIDENT = re.compile(r"^Rss(?:Anon|File):\s*(\d+) kB$", re.MULTILINE)


def resident(pid: int) -> int:
    """KiB of a process that are its own or a file's; the window is neither."""
    return sum(int(number) for number in RESIDENT.findall(Path(f"/proc/{pid}/status").read_text()))


def raise_file_limit() -> None:
    """A guest takes up to 20 descriptors, and so many guests more than the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---- Lines ----


def lines(this: Bench) -> Result:
    counts = lines_by_program(this.tree)
    figures = tuple(Figure("lines", name, "lines", (float(count),)) for name, count in counts.items())
    return Result(figures, (Bar("lines", "all programs", "lines", LINES, sum(counts.values())),), {})


OTHERS: dict[str, Callable[[Bench], Result]] = {
    "add": adds,
    "respawn": respawns,
    "idle": idle,
    "lines": lines,
}
NAMES = (*RIGS, *OTHERS)
