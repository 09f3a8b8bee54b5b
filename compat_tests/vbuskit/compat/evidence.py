# SPDX-License-Identifier: MIT
"""What is collected when a cell turns red: evidence to judge it by, and files for who looks into it.

Nothing in here makes a red cell any redder: what cannot be had says so in its place.
"""

from __future__ import annotations

import json
import os
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO

from vbuskit.base import sandbox
from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.places import make
from vbuskit.compat import blame, inside, speed
from vbuskit.compat.bench import Bench
from vbuskit.compat.blame import Evidence
from vbuskit.compat.cells import Blame, Cell, CellSkipped
from vbuskit.compat.guest import SICK
from vbuskit.compat.host import STAGE, is_here
from vbuskit.compat.scenario import scenarios
from vbuskit.compat.speed import GRANTED
from vbuskit.drivers import window

MOST = 256 << 10  # bytes of one file; the first and the last half of one that is longer
SERIAL = 64 << 10  # bytes of the console that are judged
INSTALL = "install"  # the scenario that brings our packages into a guest
SYSTEM_LOGS = Path("/var/log/libvirt")  # of a libvirtd that is not ours

LAST: dict[Path, int] = {}  # sizes of logs, when the last cell began or ended in this process


@dataclass(frozen=True, slots=True)
class Before:
    """How things stood when the cell began: what came later is its own."""

    oom_kills: int
    sizes: Mapping[Path, int]

    @classmethod
    def now(cls, bench: Bench | None) -> Before:
        """Without a bench, as the last one's logs were: the next one goes on in the same files."""
        if bench is not None:
            bring_console(bench)
            LAST.clear()
            LAST.update((path, size(path)) for path in logs(bench).values())
        return cls(oom_kills(), dict(LAST))


@contextmanager
def examined(
    cell: Cell, bench: Callable[[], Bench | None], *, installed: bool = False, granted: float = 1.0
) -> Iterator[None]:
    """Around a cell's body, inside `judged`: a red one has its blame, its evidence, its logs and `again`.

    bench:     the one that there is by then; None: it never came to one
    installed: our packages were in the guest before; they may be anyway when the cell's scenario needs them
    granted:   the factor of speed by which waits have been made longer, when not by `speed.unhurried`
    """
    before = Before.now(bench())
    try:
        yield
    except CellSkipped:
        raise
    except Exception as error:
        may_be = installed or installs(cell.name)
        examine(cell, bench(), error, before, installed=may_be, granted=max(granted, GRANTED.get()))
        raise
    finally:
        Before.now(bench())


def examine(
    cell: Cell,
    bench: Bench | None,
    error: BaseException,
    before: Before,
    *,
    installed: bool = True,
    granted: float = 1.0,
) -> None:
    cell.again = again(cell)
    try:
        evidence = look(bench, error, before, installed=installed, granted=granted)
        cell.blame, cell.evidence = blame.blame(evidence)
        if bench is not None:
            cell.logs += kept(bench, cell, before, is_awake=evidence.agent)
    except (VbuskitError, OSError) as failed:
        cell.blame = cell.blame or Blame.PRODUCT
        cell.evidence.append(f"not all could be collected: {failed}")


def again(cell: Cell) -> str:
    """The command that tries this cell, and what it needs, once more."""
    words = ["./vbuskit", "matrix", "run", "--guest", cell.guest]
    if any(kind.name == cell.name for kind in scenarios()):
        words += ["--only", cell.name]
    return shlex.join([*words, *(f"--{axis}={value}" for axis, value in sorted(cell.axes.items()))])


def installs(name: str) -> bool:
    """Whether our packages may be in the guest while the scenario of that name is tried on it."""
    needs = {kind.name: kind.needs for kind in scenarios()}
    return name == INSTALL or any(installs(each) for each in needs.get(name, ()))


# ---- Evidence ----


def look(
    bench: Bench | None, error: BaseException, before: Before, *, installed: bool, granted: float
) -> Evidence:
    """Of a cell that never came to a guest, only what is known of the machine."""
    rested = at_rest(bench, error)  # first: all the rest asks the guest for something
    machine = Evidence(
        error=error,
        installed=installed,
        answered=False,
        rested=rested,
        oom_kills=oom_kills() - before.oom_kills,
        room=room(Path(gettempdir())),
        load=os.getloadavg()[0],
        cpus=os.cpu_count() or 1,
        slow=speed.slowness(),
        granted=granted,
    )
    if bench is None:
        return machine
    if lost := bench.host.lost():
        return replace(machine, host=lost)
    guest = bench.guest
    bring_console(bench)
    paths = logs(bench)
    serial = newer(paths["serial.log"], before, SERIAL)
    return replace(
        machine,
        answered=guest.answered,
        agent=guest.is_awake(),
        state=guest.state(),
        serial=serial,
        sick=tuple(line for line in serial.splitlines() if SICK.search(line)),
        qemu=sandbox.end_of(guest.qemu),
        qemu_log=newer(paths["qemu.log"], before, SERIAL),
        libvirtd=bench.host.ended(),
        vbusd=bench.bus.ended(),
        vbusd_log=newer(paths["vbusd.log"], before, MOST),
        room=room(bench.places.out, STAGE, Path("/dev/shm")),
    )


def at_rest(bench: Bench | None, error: BaseException) -> bool | None:
    """Whether nothing was going on that could have brought what was waited for in vain."""
    late = next((each for each in blame.causes(error) if isinstance(each, TimedOut)), None)
    if late is None or late.rested is not None or bench is None:
        return late.rested if late else None
    return bench.guest.rests()


def room(*folders: Path) -> dict[str, int]:
    """Free bytes, by folder."""
    free = {}
    for folder in folders:
        if folder.is_dir():
            seen = os.statvfs(folder)
            free[str(folder)] = seen.f_bavail * seen.f_frsize
    return free


def oom_kills() -> int:
    """Of this kernel since it runs; 0 for one that does not count them."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


# ---- Files ----


def logs(bench: Bench) -> dict[str, Path]:
    """What the host side writes anyway, by the name that it is kept under."""
    host = bench.host.logs
    qemu = Path("qemu") / f"{bench.guest.name}.log"
    return {
        "serial.log": console(bench),
        "qemu.log": next((top / qemu for top in (host, SYSTEM_LOGS) if (top / qemu).is_file()), host / qemu),
        "libvirtd.log": host / "libvirtd.log",
        "vbusd.log": bench.bus.log,
    }


def console(bench: Bench) -> Path:
    """The guest's; of one behind ssh, where it is brought to."""
    serial = bench.guest.serial
    return serial if is_here(bench.host) else bench.host.logs / serial.name


def bring_console(bench: Bench) -> None:
    """As it is now; there is none before the guest's first boot."""
    if not is_here(bench.host) and not bench.host.lost():
        with suppress(VbuskitError):
            bench.host.fetch(console(bench))


def kept(bench: Bench, cell: Cell, before: Before, *, is_awake: bool) -> list[Path]:
    """out/logs/GUEST/CELL-NUMBER/: all that there is, each file bounded; the paths."""
    folder = fresh(bench.places.out / "logs" / cell.guest, cell.name)
    written = []
    for name, text in pieces(bench, before, is_awake=is_awake):
        if text:
            (folder / name).write_bytes(bounded(text.encode(errors="replace")))
            written.append(folder / name)
    return written


def fresh(top: Path, name: str) -> Path:
    number = 1
    while (top / f"{name}-{number}").exists():
        number += 1
    return make(top / f"{name}-{number}")


def pieces(bench: Bench, before: Before, *, is_awake: bool) -> Iterator[tuple[str, str]]:
    """(file name, text). What asks nobody comes first: asking may take long."""
    for name, path in logs(bench).items():
        yield name, whole(path, before)
    yield "host.txt", host_facts()
    for name, said in (
        ("vbus-status.json", lambda: status(bench)),
        ("window.txt", lambda: window_of(bench)),
        ("domain.xml", lambda: without_secrets(bench.guest.domain.xml())),
    ):
        yield name, attempted(said)
    if is_awake:
        yield from inside.answers(bench.guest.execute)


def attempted(say: Callable[[], str]) -> str:
    try:
        return say()
    except (VbuskitError, OSError) as error:
        return f"{error}\n"


def status(bench: Bench) -> str:
    """What `vbus-control status --json` says."""
    name = bench.bus.name
    found = {
        **asdict(bench.bus.status()),
        "devices": [asdict(each) for each in bench.bus.client.devices(name)],
    }
    return json.dumps(found, indent=1, default=str) + "\n"


def window_of(bench: Bench) -> str:
    if not is_here(bench.host):
        return "the window is on another machine\n"
    processes = [bench.guest.qemu]
    if bench.bus.ended() is None:
        processes.append(bench.bus.status().worker)
    with window.mapped(window.memory_of(filter(None, processes))) as raw:
        return window.dump(raw)


def without_secrets(xml: ET.Element) -> str:
    """libvirt leaves passwords out unless it is asked for them; names of secrets go as well."""
    for parent in xml.iter():
        for child in [each for each in parent if each.tag in ("secret", "auth")]:
            parent.remove(child)
        parent.attrib.pop("passwd", None)
    return ET.tostring(xml, encoding="unicode") + "\n"


def host_facts() -> str:
    """How the machine is: load, pressure, memory, room, and its busiest programs by name."""
    files = [
        *map(Path, ("/proc/loadavg", "/proc/uptime", "/proc/meminfo")),
        *Path("/proc/pressure").glob("*"),
    ]
    parts = [f"{file}:\n{attempted(file.read_text)}" for file in files]
    free = room(Path("/"), STAGE, Path("/dev/shm"), Path(gettempdir()))
    parts.append("".join(f"{size >> 20} MiB free in {folder}\n" for folder, size in free.items()))
    return "\n".join(parts)


def newer(path: Path, before: Before, most: int) -> str:
    """What a log has had since the cell began, at most so many bytes of its end; all when it was cut."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start, end = of_cell(file, path, before)
        file.seek(max(start, end - most))
        return file.read(most).decode(errors="replace")


def whole(path: Path, before: Before) -> str:
    """Likewise, and of more than MOST bytes the first and the last half; a byte of no text is `?`."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start, end = of_cell(file, path, before)
        file.seek(start)
        raw = file.read(MOST)
        if end - start > MOST:
            half = (MOST - 64) // 2  # with the line between them it is no longer than a file may be
            file.seek(end - half)
            said = f"\n... {end - start - 2 * half} bytes left out ...\n".encode()
            raw = raw[:half] + said + file.read(half)
        return raw.decode(errors="surrogateescape").encode(errors="replace").decode()


def of_cell(file: BinaryIO, path: Path, before: Before) -> tuple[int, int]:
    """Where what a log has had since the cell began starts, and where it ends."""
    end = file.seek(0, os.SEEK_END)
    start = before.sizes.get(path, 0)
    return (start if start <= end else 0), end


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def bounded(raw: bytes) -> bytes:
    if len(raw) <= MOST:
        return raw
    half = MOST // 2
    return raw[:half] + f"\n... {len(raw) - MOST} bytes left out ...\n".encode() + raw[-half:]
