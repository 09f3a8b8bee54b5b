# SPDX-License-Identifier: MIT
"""What is in a bus's window, without what passes through it: headers, calls, signals, rings, indices.

No byte of a buffer is shown, and of a call's data only where regions lie (docs/support.md).
Offsets come from drivers/include/wire.txt, which a test compares with the headers.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from vbuskit.base.errors import VbuskitError
from vbuskit.drivers.client import Call, Code
from vbuskit.drivers.wire import INCLUDE, TABLE

MEMORY = "/memfd:vbus-window"  # as vbusd names it
SHOWN = 32  # descriptors and completions of a ring, and rings of a window, at most; the newest
RINGS = 256

FIELD = re.compile(r"struct (\w+)\.(\w+): [\w ]+ at (\d+), (\d+) bytes")
CONSTANT = re.compile(r"(\w+) = (\d+)")
SIZE = re.compile(r"struct (\w+): (\d+) bytes")

Bytes = bytes | mmap.mmap


@cache
def wire() -> tuple[dict[str, int], dict[str, dict[str, tuple[int, int]]]]:
    """(constants and sizes of structures, {structure: {field: (offset, bytes)}})."""
    text = (INCLUDE / TABLE).read_text()
    numbers = {name: int(value) for name, value in (*CONSTANT.findall(text), *SIZE.findall(text))}
    fields: dict[str, dict[str, tuple[int, int]]] = {}
    for struct, field, offset, size in FIELD.findall(text):
        fields.setdefault(struct, {})[field] = (int(offset), int(size))
    return numbers, fields


def number(name: str) -> int:
    return wire()[0][name]


def member(raw: Bytes, base: int, struct: str, field: str) -> int:
    offset, size = wire()[1][struct][field]
    return int.from_bytes(raw[base + offset : base + offset + size], "little")


def dump(raw: Bytes) -> str:
    """The window as text; anything may stand in it, a guest wrote it."""
    return "\n".join(lines(raw)) + "\n"


def lines(raw: Bytes) -> Iterator[str]:
    if len(raw) < number("VBUS_POOL"):
        raise VbuskitError(f"window: {len(raw)} bytes are less than its tables take")
    yield from header(raw, "VBUS_HOST_HEADER", "vbus_host_header")
    yield from header(raw, "VBUS_GUEST_HEADER", "vbus_guest_header")
    for slot in range(number("VBUS_CALL_SLOTS")):
        yield from call(raw, slot)
    for side in ("NORTH", "SOUTH"):
        yield from signals(raw, side)
    found = list(rings(raw))
    for at in found[:RINGS]:
        yield from ring(raw, at)
    if len(found) > RINGS:
        yield f"{len(found) - RINGS} more rings are left out"


def header(raw: Bytes, place: str, struct: str) -> Iterator[str]:
    values = [f"{field} {member(raw, number(place), struct, field):#x}" for field in wire()[1][struct]]
    yield f"{struct}: {', '.join(values)}"


def call(raw: Bytes, slot: int) -> Iterator[str]:
    """What was called and what came of it; of the data only which region lies where."""
    size = number("vbus_call_request")
    north, south = number("VBUS_CALLS_NORTH") + slot * size, number("VBUS_CALLS_SOUTH") + slot * size
    asked = member(raw, north, "vbus_call_request", "seq")
    answered = member(raw, south, "vbus_call_reply", "seq")
    if not asked and not answered:
        return
    func = member(raw, north, "vbus_call_request", "func")
    status = member(raw, south, "vbus_call_reply", "status")
    state = f"answered {named(Code, status)}" if asked == answered else f"not answered, last {answered}"
    epoch, nonce = (member(raw, north, "vbus_call_request", name) for name in ("epoch", "nonce"))
    yield f"call {slot}: {asked} {named(Call, func)}, {state}, epoch {epoch:#x}, nonce {nonce:#x}"
    if func == Call.DEVSHM:
        data = north + wire()[1]["vbus_call_request"]["data"][0]
        fields = wire()[1]["vbus_devshm_request"]
        yield "  " + ", ".join(f"{f} {member(raw, data, 'vbus_devshm_request', f):#x}" for f in fields)


def named(kind: type[Call] | type[Code], value: int) -> str:
    return kind(value).name if value in set(kind) else str(value)


def signals(raw: Bytes, side: str) -> Iterator[str]:
    base = number(f"VBUS_SIGNALS_{side}")
    page = wire()[1]["shm_signal_page"]
    for field, width in (("summary", 4), ("awake", 4), ("enabled", 1), ("sequence", 4)):
        offset, size = page[field]
        words = [
            int.from_bytes(raw[at : at + width], "little")
            for at in range(base + offset, base + offset + size, width)
        ]
        told = " ".join(f"{index}:{word:#x}" for index, word in enumerate(words) if word)
        yield f"signals of the {side.lower()}, {field}: {told or 'all 0'}"


def rings(raw: Bytes) -> Iterator[int]:
    """Pages of the pool that begin as the north's part of a ring; it may be one that is no longer shared."""
    for at in range(number("VBUS_POOL"), len(raw), number("VBUS_PAGE_SIZE")):
        if member(raw, at, "ioq_north", "magic") != number("IOQ_MAGIC"):
            continue
        count = member(raw, at, "ioq_north", "count")
        is_power = 0 < count <= number("IOQ_COUNT_MAX") and not count & (count - 1)
        if is_power and at + 2 * part(count) <= len(raw):
            yield at


def part(count: int) -> int:
    """Bytes of either part, in whole pages: the south's is allocated after the north's."""
    page = number("VBUS_PAGE_SIZE")
    size = number("ioq_north") + count * number("ioq_desc")
    return -(-size // page) * page


def ring(raw: Bytes, north: int) -> Iterator[str]:
    """Indices, and what is between them: where buffers lie and how long they are, never what is in them."""
    count, valid = (member(raw, north, "ioq_north", field) for field in ("count", "valid"))
    south = north + part(count)
    inuse = member(raw, south, "ioq_south", "inuse")
    under_way = (valid - inuse) & 0xFFFFFFFF
    if under_way > count:
        yield f"ring at {north:#x}: {count} slots, valid {valid:#x}; its south's part is not behind it"
        under_way = min(count, valid)
    else:
        yield f"ring at {north:#x}: {count} slots, valid {valid:#x}, inuse {inuse:#x}, {under_way} under way"
    for index in range(max(valid - min(under_way, SHOWN), 0), valid):
        at = north + number("ioq_north") + (index % count) * number("ioq_desc")
        addr, length, name = (member(raw, at, "ioq_desc", field) for field in ("addr", "len", "id"))
        yield f"  descriptor {index:#x}: addr {addr:#x}, len {length}, id {name}"


def memory_of(processes: Iterable[int]) -> Path:
    """Where a process has a window mapped or open: the first that has just one. Raises VbuskitError."""
    for pid in processes:
        with suppress(OSError):
            links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if is_window(link)]
            if len({link.stat().st_ino for link in links}) == 1:
                return links[0]
    raise VbuskitError(
        "window: no process has it", hint="neither a worker nor QEMU runs, or this is not root"
    )


def is_window(link: Path) -> bool:
    with suppress(OSError):
        return str(link.readlink()).startswith(MEMORY)
    return False


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Read-only: nobody's index moves because somebody looks."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        yield raw
