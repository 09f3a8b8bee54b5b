# SPDX-License-Identifier: MIT
"""What a cell may have left behind that it did not look at: complaints in any log, and what leaks.

Always compared: consoles of guests, what vbusd, its workers, QEMU and libvirtd wrote, and the host's
processes; also when the guest is off by then or was booted anew, for a console's log goes on over boots.
The kernel's own log says more, of the boot that runs. Descriptors are compared when vbusd has the same
devices as before, window memory when the guest was not booted meanwhile either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vbuskit.base.wait import until
from vbuskit.compat import scenario
from vbuskit.compat.cells import Cell
from vbuskit.compat.guest import SICK
from vbuskit.compat.host import is_here

if TYPE_CHECKING:
    from vbuskit.compat.bench import Bench

PATIENCE = 5.0  # seconds; what was just let go of may not be gone yet
NONE = "none"
SHOWN = 5

# What vbusd and its workers say in the ordinary course of things, kills and upgrades among them.
USUAL = re.compile(
    r"vbus(d|-worker): (bus \S+: )?("
    r"serves |ends$|added \(|removed \(asked for\)|class \S+ (added|removed) \(|"
    r"device [0-9a-f]+ (added \(|removed \(asked for\)|link |can be opened now)|"
    r"group \d+: bits \S+ are masked|"
    r"(QEMU|a client) is connected|QEMU is gone \(end of file\)|the client is gone \(end of file\)|"
    r"epoch [0-9a-f]+ \(worker started\)|vbusd is gone, its worker goes on|"
    r"worker \d+ (is to make room|made room|is taken over)|"
    r"worker \d+ died \((signal 9|a former vbusd had started it)\)|"
    r"the session is taken over from the descriptor store|"
    # What the host's kernel or file system cannot do.
    r"the sandbox lacks:|interface \S+ keeps its offloads|"
    r"image .*: (has \d+ bytes now|zeroes are written out|discards are refused|goes through the page cache)"
    r")"
)
QEMU_SAYS = re.compile(r"qemu-system-\w+: (?!terminating on signal 15|warning: )|reason=crashed")

# Of the running kernel: which boot, what is free of the window, lines of its log. Each program that is
# started costs the guest more than all that the shell does itself.
LOOK = (
    "read -r boot </proc/sys/kernel/random/boot_id; free=;"
    " for file in /sys/kernel/debug/vbus/*/counters; do"
    '   if [ -e "$file" ]; then'
    '     while read -r name value; do [ "$name" != pool_free: ] || free=$value; done <"$file";'
    "   fi;"
    " done;"
    f' echo "$boot"; echo "$free"; dmesg | grep -E \'{SICK.pattern}\'; :'
)


@dataclass(frozen=True, slots=True)
class North:
    """The guest's kernel; `free` of the window in bytes, when it has our drivers."""

    boot: str = ""
    free: int | None = None
    sick: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class South:
    """What the host's side holds: descriptors by owner and kind, processes by name.

    serves: what for; who serves something else may hold something else
    """

    serves: tuple[object, ...]
    descriptors: Counter[str]
    processes: Counter[str]


class Health:
    """Made before a cell's body; `check` comes after one that held."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._read = {log: log.stat().st_size for log in (*consoles(bench), *programs(bench))}
        self._north = north(bench)
        self._south = south(bench)

    def check(self, cell: Cell) -> None:
        """Compare what is with what was; what was let go of has a moment to be gone. Raises CellRed."""
        if not cell.comparisons:
            return  # it is for the cell to prove something first
        for what, seen in self._settled(cell.name).items():
            cell.compare(f"health: {what}", expected=NONE, seen=seen)

    def _settled(self, name: str) -> dict[str, str]:
        """What is wrong, by what was looked at."""

        found: dict[str, str] = {}

        def look() -> dict[str, str] | None:
            nonlocal found
            found = self._found(name)
            return found if set(found.values()) == {NONE} else None

        return until(look, PATIENCE) or found

    def _found(self, name: str) -> dict[str, str]:
        old, new = self._south, south(self._bench)
        up = north(self._bench)
        found = {
            "kernel logs": listed(unprovoked(name, self._sick(up))),
            "logs of the host's programs": listed(unprovoked(name, self._complaints())),
            "processes left": counted(new.processes - old.processes, {f"QEMU of {self._bench.guest.name}"}),
        }
        if new.serves == old.serves:
            found["descriptors left open"] = counted(new.descriptors - old.descriptors)
            if up.boot == self._north.boot and None not in (up.free, self._north.free):
                lost = (self._north.free or 0) - (up.free or 0)
                found["window memory lost"] = f"{lost} bytes" if lost > 0 else NONE
        return found

    def _sick(self, up: North) -> Iterator[str]:
        """The kernel that runs says it in its log, most of it on the console too; earlier ones there."""
        known = self._north.sick if up.boot == self._north.boot else ()
        yield from (line for line in up.sick if line not in known)
        yield from (line for log in consoles(self._bench) for line in self._new(log) if SICK.search(line))

    def _complaints(self) -> Iterator[str]:
        for log in programs(self._bench):
            usual = JUDGES.get(log.name, qemu_is_well)
            yield from (line for line in self._new(log) if line and not usual(line))

    def _new(self, log: Path) -> list[str]:
        with log.open("rb") as file:
            file.seek(self._read.get(log, 0))
            return [line.strip() for line in file.read().decode(errors="replace").splitlines()]


def vbusd_is_well(line: str) -> bool:
    return USUAL.match(line) is not None


def qemu_is_well(line: str) -> bool:
    return QEMU_SAYS.search(line) is None


def never(line: str) -> bool:
    return False


JUDGES = {"vbusd.log": vbusd_is_well, "libvirtd.out": never}


def consoles(bench: Bench) -> list[Path]:
    """Of the guest, and of those that a cell made of it."""
    return sorted(bench.guest.serial.parent.glob("*-serial.log"))


def programs(bench: Bench) -> list[Path]:
    """libvirtd's own log is full of what is no fault; what it says besides is none of that."""
    logs = [bench.bus.log, bench.host.logs / "libvirtd.out", *(bench.host.logs / "qemu").glob("*.log")]
    return [log for log in logs if log.exists()]


def north(bench: Bench) -> North:
    if not bench.guest.is_running():
        return North()
    boot, free, *sick = bench.guest(LOOK).splitlines()
    return North(boot, int(free) if free.isdecimal() else None, tuple(line.strip() for line in sick))


def south(bench: Bench) -> South:
    if not is_here(bench.host):
        return South(serves(bench), Counter(), Counter())
    # One that has just died is replaced at once.
    worker = until(lambda: bench.bus.status().worker, PATIENCE) or 0
    held = Counter(f"vbusd: {kind}" for kind in descriptors(bench.bus.pid))
    held.update(f"vbus-worker: {kind}" for kind in descriptors(worker))
    return South(serves(bench), held, Counter(processes(bench)))


def serves(bench: Bench) -> tuple[object, ...]:
    client = bench.bus.client
    return (
        bench.bus.status().connected,
        [(device.uuid, device.is_open) for device in client.devices(bench.bus.name)],
        [klass.name for klass in client.classes()],
    )


def descriptors(pid: int) -> Iterator[str]:
    """What kind each is, such as `socket`; without numbers, which are other ones next time."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield re.sub(r":\[\d+\]$", "", str(link.readlink()))


def processes(bench: Bench) -> Iterator[str]:
    """By name, those in the host's network, and those that write to vbusd's log: workers are in none."""
    network = link_of(Path(f"/proc/{bench.bus.pid}/ns/net"))
    is_private = network != link_of(Path("/proc/self/ns/net"))
    for process in Path("/proc").glob("[0-9]*"):
        ours = is_private and link_of(process / "ns/net") == network
        if ours or link_of(process / "fd/2") == str(bench.bus.log.resolve()):
            with suppress(OSError):
                yield name_of(process)


def name_of(process: Path) -> str:
    """QEMU says whose it is; libvirt starts it as `-name guest=NAME,...`."""
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    guest = next((word for word in words if word.startswith("guest=")), None)
    if guest is None:
        return (process / "comm").read_text().strip()
    return f"QEMU of {guest.removeprefix('guest=').partition(',')[0]}"


def link_of(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def unprovoked(name: str, lines: Iterable[str]) -> list[str]:
    """Each once, but for what the scenario is there to bring about."""
    kind = scenario.REGISTERED.get(name)
    provoked = re.compile(kind.provokes) if kind and kind.provokes else None
    return [line for line in dict.fromkeys(lines) if not (provoked and provoked.search(line))]


def listed(lines: list[str]) -> str:
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more or NONE


def counted(more: Counter[str], usual: Iterable[str] = ()) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(more.items()) if what not in usual) or NONE
