# SPDX-License-Identifier: MIT
"""The administrator's side of vbusd: add and remove buses and devices, mask features, read what is."""

from __future__ import annotations

import ctypes
import itertools
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import UUID

from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.drivers import host_abi as abi
from vbuskit.drivers.host_abi import Backend, Connector, EventKind, Op, Result

if TYPE_CHECKING:
    from vbuskit.base.run import Process, Runner

DEFAULT_SOCKET = Path("/run/vbuskit/vbusd.sock")
ANSWER_SECONDS = 10.0
START_TRIES, START_PAUSE = 500, 0.01
SERIAL_LEN = 20  # it needs no NUL
STATE_OPEN = 2  # enum vbus_state


class VbusdSilent(Blocked):
    """No vbusd answers there, or no longer."""


class RequestRefused(Refused):
    """vbusd said no; `result` says of what kind, the text says why."""

    def __init__(self, text: str, result: Result) -> None:
        super().__init__(f"vbusd: {text}")
        self.result = result


@dataclass(frozen=True, slots=True)
class Bus:
    """One guest's bus. `counters` are totals; `queues`: counters and settings of each queue that has any.

    restarts:  workers that died; handovers: that made room as planned; takeovers: that outlived their vbusd
    lost:      sessions that ended because vbusd and its worker were gone at once
    held:      it has no worker before `start`
    sandbox:   names of the layers that its worker has
    """

    name: str
    path: Path
    connector: Connector
    window_mib: int
    vectors: int
    devices: int
    connected: bool
    negotiated: bool
    confirmed: bool
    worker: int
    restarts: int
    takeovers: int
    lost: int
    held: bool
    sessions: int
    handovers: int
    epoch: int
    nonce: int
    counters: Mapping[str, int]
    queues: Mapping[int, Mapping[str, int]]
    sandbox: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Feature bits of one group: supported less masked, picked by the guest, masked by the administrator."""

    offered: int
    active: int
    masked: int


@dataclass(frozen=True, slots=True)
class Device:
    """One device; rx and tx in `counters` are the guest's. `running`: link up, or rings shared.

    `rings` in use, a card's in pairs; a worker of 0.1 says 1 for any number.

    `mtu` in bytes; 0: it is no card. `block_size` in bytes; 0: as the image has it, or it is no disk.
    """

    uuid: UUID
    klass: str
    argument: str
    mac: str
    is_open: bool
    link: bool
    running: bool
    rings: int
    mtu: int
    read_only: bool
    block_size: int
    serial: str
    groups: Mapping[int, Group]
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Event:
    """One change; `uuid` of a device, or None. What `group`, `value`, `text` mean: enum vbusd_event_kind."""

    kind: EventKind
    bus: str
    uuid: UUID | None
    group: int
    value: int
    text: str


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """What devices can be of; `path` is the module's, none when the class is built in.

    groups: feature bits by group, before any mask; None: this vbusd is too old to tell
    limits: what a device has at most: `pairs`, `queues`, `mtu` (bytes), `segments`; a module tells none
    """

    name: str
    type: str
    version: int
    backend: Backend
    path: Path | None
    devices: int
    groups: Mapping[int, int] | None
    limits: Mapping[str, int]


class Host:
    """A connection to one vbusd."""

    def __init__(self, path: Path = DEFAULT_SOCKET) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise VbusdSilent(
                f"{path}: no vbusd answers ({error.strerror or error})",
                hint="start one: systemctl start vbusd, or of a checkout: ./vbuskit host up",
            ) from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_bus(
        self,
        name: str,
        path: Path,
        *,
        connector: Connector = Connector.IVSHMEM,
        window_mib: int = 16,
        vectors: int = 8,
        held: bool = False,
    ) -> str:
        """From here on QEMU may connect to the socket, or a process to the folder, `path`.

        `held`: nobody serves it before `start`, and nothing is opened; returns the ticket of the move
        that brings its guest. Devices are added before QEMU connects. Without it: the empty word.
        """
        flags = abi.HELD if held else 0
        message = request(
            Op.BUS_ADD, name, argument=str(path), window_mib=window_mib, vectors=vectors, flags=flags
        )
        message.connector = connector
        return self._answer(message)[0]

    def release(self, bus: str, ticket: str) -> str:
        """Have the bus held; the receipt says that nothing writes to its images here any more.

        Its worker ends what it began and syncs; RequestRefused when that fails or takes more than 5 s:
        then the bus is served on. The receipt is given once; after a lost answer the same ticket gets it
        if nobody can have it.
        """
        return self._answer(request(Op.RELEASE, bus, argument=ticket))[0]

    def start(self, bus: str, receipt: str, *, fenced: bool = False) -> None:
        """Have a held bus served, under a new epoch. `fenced`: without a receipt, at the caller's word."""
        flags = abi.FENCED if fenced else 0
        self._ask(request(Op.START, bus, argument=receipt, flags=flags))

    def remove_bus(self, name: str) -> None:
        self._ask(request(Op.BUS_REMOVE, name))

    def add_device(
        self,
        bus: str,
        uuid: UUID,
        klass: str,
        *,
        mac: str = "",
        argument: str = "",
        mtu: int = 0,
        read_only: bool = False,
        block_size: int = 0,
        serial: str = "",
        link: bool = True,
        mask: Mapping[int, int] | None = None,
    ) -> None:
        """A network card has a `mac`; `argument` is an interface, a socket or an image, as the class has it.

        `mtu` of a card in bytes; 0: 1500. `block_size` in bytes; 0: 512, or what the block device has.
        `serial`: up to 20 letters. `mask`: bits by group that are never offered.
        """
        self._ask(
            request(
                Op.DEVICE_ADD,
                bus,
                uuid=uuid,
                klass=klass,
                mac=mac,
                argument=argument,
                flags=(abi.READ_ONLY if read_only else 0) | (0 if link else abi.LINK_DOWN),
                mask=mask,
                mtu=mtu,
                block_size=block_size,
                serial=serial,
            )
        )

    def remove_device(self, bus: str, uuid: UUID) -> None:
        self._ask(request(Op.DEVICE_REMOVE, bus, uuid=uuid))

    def mask(self, bus: str, group: int, bits: int, *, uuid: UUID | None = None) -> None:
        """Replace what is masked in a group, from the next open on; without `uuid`: of all devices."""
        flags = 0 if uuid else abi.ALL_DEVICES
        self._ask(request(Op.MASK, bus, uuid=uuid, mask={group: bits}, flags=flags))

    def link(self, bus: str, uuid: UUID, *, up: bool) -> None:
        self._ask(request(Op.LINK, bus, uuid=uuid, flags=0 if up else abi.LINK_DOWN))

    def renew(self, bus: str) -> None:
        """Have the worker replaced, as planned, by a fresh one: of the program that is on disk now."""
        self._ask(request(Op.RENEW, bus))

    def end(self) -> None:
        """End vbusd with all its buses and workers; a SIGTERM would leave them to the next one."""
        self._ask(request(Op.END, ""))

    def add_class(self, module: Path) -> None:
        """Take a shared object that exports a class, which has its name in it."""
        self._ask(request(Op.CLASS_ADD, "", argument=str(module)))

    def remove_class(self, name: str) -> None:
        """Refused as BUSY while a device uses it."""
        self._ask(request(Op.CLASS_REMOVE, "", klass=name))

    def classes(self) -> list[DeviceClass]:
        return [class_of(raw) for raw in self._all(Op.CLASS_STATUS, "")]

    def resize(self, bus: str, uuid: UUID) -> None:
        """The disk's image has another size by now: tell the guest."""
        self._ask(request(Op.RESIZE, bus, uuid=uuid))

    def buses(self) -> list[Bus]:
        return [bus_of(abi.BusStatus.from_buffer_copy(raw)) for raw in self._all(Op.BUS_STATUS, "")]

    def bus(self, name: str) -> Bus:
        for bus in self.buses():
            if bus.name == name:
                return bus
        raise RequestRefused(f"bus {name}: is not there", Result.NO_ENTRY)

    def devices(self, bus: str) -> list[Device]:
        return [
            device_of(abi.DeviceStatus.from_buffer_copy(raw)) for raw in self._all(Op.DEVICE_STATUS, bus)
        ]

    def device(self, bus: str, uuid: UUID) -> Device:
        for device in self.devices(bus):
            if device.uuid == uuid:
                return device
        raise RequestRefused(f"bus {bus}: device {uuid} is not there", Result.NO_ENTRY)

    def events(self, *, seconds: float | None = None) -> Iterator[Event]:
        """What changes from this call on; this connection is of no other use then.

        Ends with vbusd; also when the reader was so slow that vbusd dropped it. TimeoutError when nothing
        changes for so many `seconds`.
        """
        self._ask(request(Op.WATCH, ""))
        self._socket.settimeout(seconds)
        return iter(self._event, None)

    def exchange(self, message: bytes) -> bytes:
        """One message and its answer, empty when vbusd has ended: for who speaks for somebody else."""
        try:
            self._socket.send(message)
            return self._socket.recv(1 << 16)
        except OSError as error:
            raise VbusdSilent(f"vbusd: no answer ({error.strerror or error})") from error

    def _event(self) -> Event | None:
        raw = self._socket.recv(1 << 16)
        return event_of(abi.EventMessage.from_buffer_copy(raw)) if raw else None

    def _all(self, op: Op, bus: str) -> Iterator[bytes]:
        """One entry after another, until vbusd says that there is none of this index."""
        for index in itertools.count():
            try:
                yield self._ask(request(op, bus, index=index))
            except RequestRefused as error:
                if error.result == Result.NO_ENTRY:
                    return
                raise

    def _ask(self, message: abi.Request) -> bytes:
        """Send one request; return what follows the reply's head."""
        return self._answer(message)[1]

    def _answer(self, message: abi.Request) -> tuple[str, bytes]:
        """Send one request; return the reply's text and what follows it."""
        raw = self.exchange(bytes(message))
        size = len(bytes(abi.Reply()))
        if len(raw) < size:
            raise VbusdSilent("vbusd: has ended", hint="its log says why")
        reply = abi.Reply.from_buffer_copy(raw)
        if reply.result != Result.OK:
            raise RequestRefused(reply.text.decode(errors="replace"), Result(reply.result))
        return reply.text.decode(), raw[size:]


def request(
    op: Op,
    bus: str,
    *,
    uuid: UUID | None = None,
    mac: str = "",
    klass: str = "",
    argument: str = "",
    window_mib: int = 0,
    vectors: int = 0,
    mask: Mapping[int, int] | None = None,
    flags: int = 0,
    index: int = 0,
    mtu: int = 0,
    block_size: int = 0,
    serial: str = "",
) -> abi.Request:
    """A request whose words fit their fields; what they mean is for vbusd to judge."""
    message = abi.Request(
        version=abi.VERSION,
        op=op,
        flags=flags,
        index=index,
        window_mib=word("window", window_mib),
        vectors=word("vectors", vectors),
        bus=field("bus", bus, 32),
        klass=field("class", klass, 24),
        argument=field("argument", argument, 108),
        mtu=word("mtu", mtu),
        block_size=word("block size", block_size),
        serial=field("serial", serial, SERIAL_LEN + 1),
    )
    for slot, (gid, bits) in enumerate((mask or {}).items()):
        if slot == abi.GROUPS:
            raise UsageError(f"mask: {len(mask or {})} groups", hint=f"at most {abi.GROUPS}")
        message.mask[slot] = abi.Mask(gid=word("group", gid), bits=word("bits", bits))
    if uuid:
        message.uuid[:] = uuid.bytes
    if mac:
        message.mac[:6] = mac_bytes(mac)
    return message


def word(what: str, value: int) -> int:
    if not 0 <= value < 1 << 32:
        raise UsageError(f"{what}: {value} is no number of 32 bits")
    return value


def field(what: str, text: str, size: int) -> bytes:
    raw = text.encode()
    if len(raw) >= size or b"\0" in raw:
        raise UsageError(f"{what}: {text[:40]!r} is too long", hint=f"at most {size - 1} bytes")
    return raw


def mac_bytes(mac: str) -> bytes:
    parts = mac.split(":")
    try:
        raw = bytes(int(part, 16) for part in parts)
    except ValueError:
        raw = b""
    if len(raw) != 6:
        raise UsageError(f"mac: {mac!r} is no Ethernet address", hint="like 52:54:00:12:34:56")
    return raw


def numbers(raw: ctypes.Structure) -> dict[str, int]:
    """The plain numbers among the fields."""
    values = {name: getattr(raw, name) for name, *_ in raw._fields_}
    return {name: value for name, value in values.items() if isinstance(value, int)}


def bus_of(raw: abi.BusStatus) -> Bus:
    counted = [numbers(queue) for queue in raw.counters.queue]
    queues = enumerate(numbers(setting) | counts for setting, counts in zip(raw.queue, counted, strict=True))
    totals = {name: sum(counts[name] for counts in counted) for name in counted[0]}
    return Bus(
        name=raw.name.decode(),
        path=Path(raw.path.decode()),
        connector=Connector(raw.connector),
        window_mib=raw.window_mib,
        vectors=raw.vectors,
        devices=raw.devices,
        connected=bool(raw.connected),
        negotiated=bool(raw.negotiated),
        confirmed=bool(raw.confirmed),
        worker=raw.worker,
        restarts=raw.restarts,
        takeovers=raw.takeovers,
        lost=raw.lost,
        held=bool(raw.held),
        sessions=raw.sessions,
        handovers=raw.handovers,
        epoch=raw.epoch,
        nonce=raw.nonce,
        counters=numbers(raw.counters) | totals,
        queues={number: queue for number, queue in queues if any(queue.values())},
        sandbox=tuple(word for bit, word in enumerate(abi.SANDBOX) if raw.sandbox >> bit & 1),
    )


def event_of(raw: abi.EventMessage) -> Event:
    uuid = bytes(raw.uuid)
    return Event(
        kind=EventKind(raw.kind),
        bus=raw.bus.decode(),
        uuid=UUID(bytes=uuid) if any(uuid) else None,
        group=raw.group,
        value=raw.value,
        text=raw.text.decode(),
    )


def device_of(raw: abi.DeviceStatus) -> Device:
    return Device(
        uuid=UUID(bytes=bytes(raw.uuid)),
        klass=raw.klass.decode(),
        argument=raw.argument.decode(),
        mac=":".join(f"{byte:02x}" for byte in bytes(raw.mac)[:6]),
        is_open=raw.state == STATE_OPEN,
        link=bool(raw.link),
        running=bool(raw.running),
        rings=raw.running,
        mtu=raw.mtu,
        read_only=bool(raw.flags & abi.READ_ONLY),
        block_size=raw.block_size,
        serial=raw.serial.decode(),
        groups={g.gid: Group(g.offered, g.active, g.masked) for g in raw.group[: raw.groups]},
        counters=numbers(raw.counters),
    )


def class_of(said: bytes) -> DeviceClass:
    """One of 0.1 ends before the features."""
    raw = abi.ClassStatus.from_buffer_copy(said.ljust(ctypes.sizeof(abi.ClassStatus), b"\0"))
    rings = "queues" if raw.segments else "pairs"
    limits = {rings: raw.rings, "mtu": raw.mtu, "segments": raw.segments}
    groups = {each.gid: each.bits for each in raw.feature if each.bits}
    return DeviceClass(
        name=raw.name.decode(),
        type=raw.type.decode(),
        version=raw.version,
        backend=Backend(raw.backend),
        path=Path(raw.path.decode()) if raw.path else None,
        devices=raw.devices,
        groups=groups if len(said) > abi.ClassStatus.feature.offset else None,
        limits={name: value for name, value in limits.items() if value},
    )


@contextmanager
def serving(
    run: Runner,
    vbusd: Path,
    path: Path,
    *,
    output: Path,
    qemu_user: str = "",
    control_user: str = "",
    through: Sequence[str] = (),
) -> Iterator[Process]:
    """A vbusd in the background, answering when the block starts and ended with it.

    `through`: words of a program that sets something up and becomes vbusd, as `env` and `unshare` do.
    """
    words: list[str | Path] = [*through, vbusd, "--socket", path]
    if qemu_user:
        words += ["--qemu-user", qemu_user]
    if control_user:
        words += ["--control-user", control_user]
    with run.start(words, output=output) as process:
        await_answer(process, path, output)
        try:
            yield process
        finally:
            end_all(process, path)


def end_all(process: Process, path: Path) -> None:
    """Nothing that it served is left when this returns; one that is dead already has left that as it was."""
    with suppress(Blocked), Host(path) as host:
        host.end()
        process.wait(ANSWER_SECONDS)


def await_answer(process: Process, path: Path, output: Path) -> None:
    """Until it answers; what it says at its end is the error."""
    for _ in range(START_TRIES):
        try:
            with Host(path) as host:
                host.buses()
            return
        except Blocked:
            if process.poll() is not None:
                last = output.read_text(errors="replace").strip().splitlines()[-1:]
                raise VbusdSilent(last[0] if last else "vbusd: ended at once") from None
        time.sleep(START_PAUSE)
    raise VbusdSilent(f"{path}: vbusd does not answer", hint=f"its log: {output}")
