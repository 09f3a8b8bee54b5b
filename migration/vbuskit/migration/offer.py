# SPDX-License-Identifier: MIT
"""What a tree's own vbusd and worker offer, asked of the running programs.

Bits are a class's own, whatever the kernel below can do: vbusd refuses to mask one that the class does not
have. Limits are those that a guest is told, and this process is one for a while.
"""

from __future__ import annotations

import json
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from vbuskit.base.errors import Blocked
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.client import Call, Client, ClientError
from vbuskit.drivers.host import DeviceClass as HostClass
from vbuskit.drivers.host import Host, RequestRefused, serving
from vbuskit.drivers.host_abi import Backend, Connector, Result
from vbuskit.drivers.window import member, number
from vbuskit.drivers.wire import recorded
from vbuskit.migration.profile import SCHEMA, DeviceClass, HostBus
from vbuskit.migration.release import Release
from vbuskit.migration.saved import saved

BUS, DEVICE = "vm", UUID(int=1)
SECONDS = 60.0  # a busy machine
TAP, MAC = "gate0", "52:54:00:00:00:01"
COUNTS = range(512)  # that MiB, vectors and queues are tried with
MTUS = range(1 << 16, 0, -1)
GROUPS = range(32)
# What follows is run in a network of its own that has the interface.
IN_A_NETWORK = ("unshare", "--net", "sh", "-c", f'ip tuntap add {TAP} mode tap && exec "$@"', "sh")


def offer(run: Runner, tree: Path = ROOT, *, defect: str = "none") -> Release:
    """Builds the tree's host programs, and asks them. Blocked without root: a tap needs a network."""
    with tempfile.TemporaryDirectory(prefix="vbuskit-gate.") as scratch:
        places = Places.from_environment(None if tree == ROOT else Path(scratch, "out"))
        built = host_programs(run, replace(places, tree=tree), defect=defect)
        with asking(run, built["vbusd"].path, built["libvbus_client.so"].path, Path(scratch)) as desk:
            return Release(
                schema=SCHEMA,
                release=(tree / "VERSION").read_text().strip(),
                bus=desk.bridge(),
                classes=tuple(desk.device_class(each) for each in desk.host.classes()),
                wire=tuple(recorded(tree / "drivers/include")),
                saved=tuple(saved(run, tree)),
            )


def text(release: Release) -> str:
    words = msgspec.to_builtins(release, str_keys=True)
    del words["unknown"]  # it is what a reader makes of other fields
    return f"{json.dumps(words, indent=1)}\n"


@contextmanager
def asking(run: Runner, vbusd: Path, library: Path, folder: Path) -> Iterator[Desk]:
    if run.attempt([*IN_A_NETWORK, "true"]).code:
        raise Blocked("offer: no network namespace with a tap here", hint="run it as root, with iproute2")
    admin, log = folder / "admin", folder / "log"
    with serving(run, vbusd, admin, output=log, through=IN_A_NETWORK), Host(admin) as host:
        yield Desk(host, library, folder)


@dataclass(frozen=True, slots=True)
class Desk:
    """A vbusd that serves nobody else, and a folder of its own."""

    host: Host
    library: Path
    folder: Path

    def bridge(self) -> HostBus:
        """Adds BUS, with as many vectors as there may be."""
        nowhere = self.folder / "nowhere" / "bus"  # so that none is added by being tried
        add = partial(self.host.add_bus, "try", nowhere)
        windows = [size for size in COUNTS if refusal(add, window_mib=size) is not Result.RANGE]
        vectors = [count for count in COUNTS if refusal(add, vectors=count) is not Result.RANGE]
        known = [each for each in Connector if refusal(add, connector=each) is not Result.UNKNOWN]
        (self.folder / BUS).mkdir(mode=0o700)
        self.host.add_bus(BUS, self.folder / BUS, connector=Connector.FILE, vectors=vectors[-1])
        version, offered, queues = self.negotiated()
        return HostBus(
            version=version,
            features=offered,
            connectors=tuple(each.name.lower() for each in known),
            window_min=windows[0],
            window_max=windows[-1],
            vectors_min=vectors[0],
            vectors_max=vectors[-1],
            queues_max=queues,
        )

    def guest(self) -> Client:
        """After the one before, whose session ends first."""

        def joined() -> Client | None:
            with suppress(ClientError):
                return Client(self.library, self.folder / BUS)
            return None

        found = until(joined, SECONDS)
        if found is None:
            raise Blocked(f"offer: no session on {self.folder / BUS} in {SECONDS:.0f} s", hint="try again")
        return found

    def negotiated(self) -> tuple[int, int, int]:
        """The bridge's version and bits as a guest is told, and how many queues it may register."""
        with self.guest() as guest:
            guest.negotiate()
            hello = struct.pack("<IIQ", number("VBUS_VERSION"), 0, (1 << 64) - 1)
            reply = guest.call(Call.NEGOTIATE, hello)
            version, offered = (
                member(reply, 0, "vbus_negotiate_reply", name) for name in ("version", "offered")
            )
            return version, offered, next(count for count in reversed(COUNTS) if registers(guest, count))

    def device_class(self, klass: HostClass) -> DeviceClass:
        """Of one device, there for as long as it takes."""
        with ExitStack() as stack:
            back_end = BACK_ENDS[klass.backend](stack, self.folder)
            add = partial(self.host.add_device, BUS, DEVICE, klass.name, mac=MAC, argument=back_end)
            add()
            stack.callback(self.host.remove_device, BUS, DEVICE)
            groups = {group: bits for group in GROUPS if (bits := bits_of(add, group))}
            limits = LIMITS[klass.type](self, klass, groups, add) if klass.type in LIMITS else {}
        return DeviceClass(
            name=klass.name, type=klass.type, version=klass.version, groups=groups, limits=limits
        )

    def venet(self, klass: HostClass, groups: Groups, add: Ask) -> dict[str, int]:
        mtu = next(size for size in MTUS if refusal(add, mtu=size) is not Result.RANGE)
        with self.guest() as guest:
            handle = self.opened(guest, klass, groups)
            pairs = int.from_bytes(guest.device_call(handle, number("VENET_FUNC_PAIRSQUERY")), "little")
        return {"mtu": mtu, "pairs": pairs}

    def vblk(self, klass: HostClass, groups: Groups, _: Ask) -> dict[str, int]:
        with self.guest() as guest:
            handle = self.opened(guest, klass, groups)
            told = guest.device_call(handle, number("VBLK_FUNC_QUERY"))
        return {
            name: member(told, 0, "vblk_query_reply", field)
            for name, field in (("queues", "queues"), ("segments", "segments_max"))
        }

    def opened(self, guest: Client, klass: HostClass, groups: Groups) -> int:
        """The device's handle, with all that its class has negotiated."""
        guest.negotiate()
        handle = guest.open(DEVICE, klass.version)
        for group, bits in groups.items():
            guest.device_call(handle, number("VBUS_FUNC_NEGCAP"), struct.pack("<II", group, bits))
        return handle


Groups = Mapping[int, int]
Ask = Callable[..., object]
LIMITS: Mapping[str, Callable[[Desk, HostClass, Groups, Ask], dict[str, int]]] = {
    "venet": Desk.venet,
    "vblk": Desk.vblk,
}


def refusal(ask: Ask, **words: object) -> Result:
    try:
        ask(**words)
    except RequestRefused as error:
        return error.result
    return Result.OK


def bits_of(add: Ask, group: int) -> int:
    """Of the class of a device that is there: a bit that it has is refused for that reason, later."""
    tried = (1 << bit for bit in range(32))
    return sum(bit for bit in tried if refusal(add, mask={group: bit}) is not Result.UNKNOWN)


def registers(guest: Client, count: int) -> bool:
    try:
        guest.call(Call.QREG, struct.pack("<II32x", count, 0))
    except ClientError:
        return False
    return True


# ---- Back ends ----


def peer(stack: ExitStack, folder: Path) -> str:
    """Somebody who listens where passt would."""
    path = folder / "peer"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    stack.callback(path.unlink)
    listener.bind(str(path))
    listener.listen()
    return str(path)


def image(_: ExitStack, folder: Path) -> str:
    path = folder / "image"
    path.write_bytes(bytes(1 << 20))
    return str(path)


BACK_ENDS: Mapping[Backend, Callable[[ExitStack, Path], str]] = {
    Backend.NONE: lambda _stack, _folder: "",
    Backend.TAP: lambda _stack, _folder: TAP,
    Backend.SOCKET: peer,
    Backend.IMAGE: image,
}
