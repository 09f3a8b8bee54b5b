# SPDX-License-Identifier: MIT
"""The profiles of this host and of a guest on it, as vbusd, libvirt and the kernel tell them now."""

from __future__ import annotations

import os
import re
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from vbuskit.base.errors import Blocked, Refused, UsageError, VbuskitError
from vbuskit.base.places import ROOT
from vbuskit.base.wait import patient
from vbuskit.drivers import host_abi as abi
from vbuskit.drivers.host import Bus, Device, Host
from vbuskit.drivers.host import DeviceClass as ClassThere
from vbuskit.drivers.host_abi import Backend, Connector
from vbuskit.migration.features import OFFLOAD_GROUPS
from vbuskit.migration.images import Reach, block_size
from vbuskit.migration.profile import (
    EMULATED,
    SCHEMA,
    DeviceClass,
    GuestBus,
    GuestDevice,
    GuestProfile,
    HostBus,
    HostProfile,
)

if TYPE_CHECKING:
    from vbuskit.base.virt import Connection, Domain
    from vbuskit.drivers.description import BusDescription

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
ARGUMENTS = f"{{{QEMU}}}commandline/{{{QEMU}}}arg"
MACHINE_ID = Path("/etc/machine-id")
OURS = UUID("5b1f6c0e-6f0c-4a53-9a57-8a0b6c1d7e42")  # whoever else derives from machine-id gets another one
BUSES = Path("/etc/vbuskit/buses")  # as `description` has it
INTERFACES = Path("/sys/class/net")
UNKNOWN = "unknown"
CONFIG, MTU = 3, 0x1  # venet_abi.h
IFF_TAP, IFF_MULTI_QUEUE = 0x2, 0x100  # linux/if_tun.h
USO, USO_SINCE = 0x40, (6, 2)  # worker: venet_tap.c
MODULES = ("vbus", "venet", "vblk")
ASK_DRIVERS = f"cd /sys/module && grep -s . {' '.join(f'{name}/version' for name in MODULES)} /dev/null"


# ---- Host ----


def capture_host(
    vbusd: Host, virt: Connection | None, images: Sequence[str] = (), rom: Path | None = None
) -> HostProfile:
    """`virt`: None where there is no libvirt; then nothing is known of QEMU, and no guest may come.

    `images`: asked for by name, besides those of buses, of what is written down and of storage pools.
    `rom`: the file that domains name as romfile.
    """
    devices = [device for bus in vbusd.buses() for device in devices_of(vbusd, bus)]
    classes = vbusd.classes()
    written = written_down()
    capabilities = virt.capabilities() if virt else None
    arch = architecture(capabilities)
    libvirt_release, qemu = virt.releases() if virt else (UNKNOWN, UNKNOWN)
    on_images = {each.name for each in classes if each.backend == Backend.IMAGE}
    named = [(each.klass, each.argument) for each in devices]
    named += [(each.klass, each.argument) for bus in written for each in bus.devices]
    disks = [argument for klass, argument in named if klass in on_images and argument]
    wires = {each.name for each in classes if each.backend in (Backend.TAP, Backend.SOCKET)}
    held = {each.argument: each.uuid for each in devices if each.klass in wires and each.argument}
    return HostProfile(
        schema=SCHEMA,
        identity=identity(capabilities),
        name=virt.hostname() if virt else socket.gethostname(),
        release=release(),
        captured=now(),
        arch=arch,
        qemu=qemu,
        libvirt=libvirt_release,
        bus=bridge(bar_of(rom) if rom else 0),
        machines=machines(capabilities, arch) if capabilities is not None else (),
        cpus=cpus(virt, capabilities, arch) if virt and capabilities is not None else (),
        classes=tuple(there(each, devices) for each in classes),
        masks=masks(devices, written),
        networks=tuple(sorted({*held, *free_taps()})),
        held=held,
        images=Reach().images([*disks, *images, *(in_pools(virt) if virt else ())]),
    )


def written_down() -> list[BusDescription]:
    if not BUSES.is_dir():
        return []
    from vbuskit.drivers import description

    return description.read_all(BUSES)


def identity(capabilities: ET.Element | None) -> UUID:
    """libvirt's, or one that is derived from the machine's, which systemd wants kept to itself."""
    told = capabilities.findtext("host/uuid") if capabilities is not None else None
    if told:
        return UUID(told)
    import hmac

    try:
        machine = UUID(MACHINE_ID.read_text().strip())
    except (OSError, ValueError) as error:
        raise Blocked(
            f"{MACHINE_ID}: gives this host no identity", hint="systemd-machine-id-setup makes one"
        ) from error
    return UUID(bytes=hmac.digest(machine.bytes, OURS.bytes, "sha256")[:16], version=4)


def architecture(capabilities: ET.Element | None) -> str:
    told = capabilities.findtext("host/cpu/arch") if capabilities is not None else None
    return told or os.uname().machine


def bridge(rom: int) -> HostBus:
    """That of this release; its features are those that NEGOTIATE offers, which are none."""
    return HostBus(
        version=abi.BUS_VERSION,
        connectors=tuple(each.name.lower() for each in Connector),
        window_min=abi.WINDOW_MIB[0],
        window_max=abi.WINDOW_MIB[1],
        vectors_min=abi.VECTORS[0],
        vectors_max=abi.VECTORS[1],
        queues_max=abi.QUEUES,
        rom=rom,
    )


def machines(capabilities: ET.Element, arch: str) -> tuple[str, ...]:
    """By the names that mean one machine for good: `q35` is another one in each QEMU."""
    found = capabilities.iterfind(f"guest/arch[@name='{arch}']//machine")
    return tuple(sorted({each.get("canonical") or each.text or UNKNOWN for each in found}))


def cpus(virt: Connection, capabilities: ET.Element, arch: str) -> tuple[str, ...]:
    """Models that QEMU can run here; what it can only emulate is no choice for a guest under KVM."""
    found = set()
    for kind, before in (("kvm", ""), ("qemu", EMULATED)):
        if capabilities.find(f"guest/arch[@name='{arch}']/domain[@type='{kind}']") is not None:
            usable = virt.domain_capabilities(arch, kind).iterfind("cpu/mode/model[@usable='yes']")
            found |= {f"{before}{each.text}" for each in usable}
    return tuple(sorted(found))


def there(klass: ClassThere, devices: Iterable[Device]) -> DeviceClass:
    """A class as this host has it: Linux before 6.2 has taps without USO, unless a device here has it."""
    groups = dict(told(klass).groups or {})
    if klass.backend == Backend.TAP and linux() < USO_SINCE:
        for group in {group for _, group in OFFLOAD_GROUPS} & groups.keys():
            seen = [
                each.groups[group] for each in devices if each.klass == klass.name and group in each.groups
            ]
            if not any((each.offered | each.active | each.masked) & USO for each in seen):
                groups[group] &= ~USO
    return DeviceClass(
        name=klass.name, type=klass.type, version=klass.version, groups=groups, limits=dict(klass.limits)
    )


def told(klass: ClassThere) -> ClassThere:
    if klass.groups is None:
        raise Blocked(
            f"vbusd: does not tell the features of class {klass.name}: it is of an older release",
            hint="upgrade vbusd here, and capture again",
        )
    return klass


def linux() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def masks(devices: Iterable[Device], written: Iterable[BusDescription]) -> dict[UUID, dict[int, int]]:
    """Of the devices that are here, and of those that are written down: what a device comes to is masked."""
    found: dict[UUID, dict[int, int]] = {}
    for device in devices:
        for group, bits in device.groups.items():
            mask(found, device.uuid, group, bits.masked)
    for bus in written:
        for one in bus.devices:
            for group, masked in [*bus.mask.items(), *one.mask.items()]:
                mask(found, one.uuid, group, masked)
    return found


def mask(found: dict[UUID, dict[int, int]], uuid: UUID, group: int, bits: int) -> None:
    if bits:
        groups = found.setdefault(uuid, {})
        groups[group] = groups.get(group, 0) | bits


def free_taps() -> Iterator[str]:
    """Those that vbusd can open and that are up: no tun, of one queue, and without a carrier, as they get
    one from the program that has them.
    """
    for path in INTERFACES.glob("*/tun_flags"):
        with suppress(OSError, ValueError):  # gone by now, or down
            kind = int(path.read_text(), 16) & (IFF_TAP | IFF_MULTI_QUEUE)
            if kind == IFF_TAP and path.with_name("carrier").read_text().strip() == "0":
                yield path.parent.name


def in_pools(virt: Connection) -> Iterator[str]:
    """Files of the storage pools that are folders; volumes of the others are asked for by name."""
    for pool in virt.pools():
        folder = pool.findtext("target/path") if pool.get("type") in ("dir", "fs", "netfs") else None
        with suppress(OSError):  # gone, or not for us to see
            yield from [entry.path for entry in os.scandir(folder) if entry.is_file()] if folder else ()


# ---- Guest ----


def capture_guest(vbusd: Host, virt: Connection, name: str, *, agent: bool = True) -> GuestProfile:
    """Raises Blocked or Refused in one line when there is no such guest, or nothing to tell of it yet.

    `agent`: ask the guest for its drivers' versions; one that cannot tell has none.
    """
    domain = virt.find(name)
    if domain is None:
        known = ", ".join(sorted(virt.running())) or "none runs"
        raise UsageError(f"{name}: libvirt at {virt.uri} has no such guest", hint=f"there are: {known}")
    if not domain.is_running():
        raise Blocked(f"{name}: is {domain.state()}", hint="start it, and capture it then")
    xml = domain.xml()
    bus, shmem = bus_of(vbusd, xml, name)
    if not bus.negotiated:
        raise Blocked(
            f"{name}: its driver has not negotiated with bus {bus.name} yet",
            hint="start the guest with its drivers, and capture it then",
        )
    devices = devices_of(vbusd, bus)
    classes = {each.name: told(each) for each in vbusd.classes()}
    capabilities = virt.capabilities()
    bar, pinned = rom(xml, shmem)
    machine = xml.find("os/type")
    return GuestProfile(
        schema=SCHEMA,
        identity=UUID(domain.uuid),
        name=name,
        release=release(),
        captured=now(),
        host=identity(capabilities),
        host_name=virt.hostname(),
        arch=machine.get("arch", UNKNOWN) if machine is not None else UNKNOWN,
        machine=canonical(capabilities, machine),
        cpu=cpu(xml),
        bus=GuestBus(
            version=abi.BUS_VERSION,
            name=bus.name,
            connector=bus.connector.name.lower(),
            window=bus.window_mib,
            vectors=bus.vectors,
            queues=registered(bus),
            rom=bar,
            romsize=pinned,
            master=master(xml),
        ),
        drivers=drivers(domain) if agent else {},
        devices=tuple(device(each, classes[each.klass]) for each in devices),
    )


def bus_of(vbusd: Host, xml: ET.Element, name: str) -> tuple[Bus, ET.Element]:
    """The one that the guest's QEMU connects to, and the device with which it does."""
    there = {path(shmem): shmem for shmem in xml.iterfind("devices/shmem")}
    found = [(bus, there[str(bus.path)]) for bus in vbusd.buses() if str(bus.path) in there]
    if not found:
        raise Refused(
            f"{name}: has no device that is connected to a bus of this vbusd",
            hint="a guest without a bus needs no gate; `vbuskit host domxml` gives one what it lacks",
        )
    if len(found) > 1:
        raise Refused(
            f"{name}: is on the buses {' and '.join(bus.name for bus, _ in found)}, and a profile has one",
            hint="put its devices on one bus",
        )
    return found[0]


def devices_of(vbusd: Host, before: Bus) -> list[Device]:
    """All of them: they are asked for one by one, and a bus that is gone has none."""
    found = vbusd.devices(before.name)
    after = [bus.devices for bus in vbusd.buses() if bus.name == before.name]
    if after != [before.devices] or len(found) != before.devices:
        raise Blocked(f"bus {before.name}: changed while it was looked at", hint="capture it again")
    return found


def path(shmem: ET.Element) -> str:
    server = shmem.find("server")
    return server.get("path", "") if server is not None else ""


def canonical(capabilities: ET.Element, machine: ET.Element | None) -> str:
    """A guest that runs has it already."""
    name = machine.get("machine", UNKNOWN) if machine is not None else UNKNOWN
    alias = next((each for each in capabilities.iterfind("guest/arch//machine") if each.text == name), None)
    return (alias.get("canonical") if alias is not None else None) or name


def cpu(xml: ET.Element) -> str:
    """A model, or the mode when libvirt names none: `host-passthrough`, `maximum`."""
    found = xml.find("cpu")
    if found is None:
        return "default"
    before = EMULATED if xml.get("type") == "qemu" else ""
    model = found.findtext("model")
    return f"{before}{model}" if model else found.get("mode") or "default"


def master(xml: ET.Element) -> Literal["override", "global"]:
    """Which of the two ways to say master=on; without any, QEMU says at the source that it cannot move."""
    words = (each.get("value", "") for each in xml.iterfind(ARGUMENTS))
    return "global" if any("ivshmem-doorbell.master=on" in word for word in words) else "override"


def rom(xml: ET.Element, shmem: ET.Element) -> tuple[int, bool]:
    """Bytes of the ROM's bar, and whether the domain says them: romsize without a romfile makes none."""
    words = dict(rom_words(xml, shmem))
    file, size = words.get("romfile"), words.get("romsize", "")
    if not file:
        return 0, False
    return (int(size), True) if size.isdecimal() else (bar_of(Path(file)), False)


def rom_words(xml: ET.Element, shmem: ET.Element) -> Iterator[tuple[str, str]]:
    """Of -global in <qemu:commandline> and, which wins, of <qemu:override>."""
    for each in xml.iterfind(ARGUMENTS):
        if found := re.fullmatch(r"ivshmem-doorbell\.(rom\w+)=(.+)", each.get("value", "")):
            yield found[1], found[2]
    alias = shmem.find("alias")
    name = alias.get("name") if alias is not None else None
    of = f"{{{QEMU}}}override/{{{QEMU}}}device[@alias='{name}']/{{{QEMU}}}frontend/{{{QEMU}}}property"
    yield from ((each.get("name", ""), each.get("value", "")) for each in xml.iterfind(of))


def bar_of(file: Path) -> int:
    """Bytes of the bar that QEMU makes of a ROM's file when nobody says a romsize: a power of two."""
    try:
        size = file.stat().st_size
    except OSError as error:
        raise Blocked(
            f"{file}: {error.strerror}: a ROM's size is not known", hint="pin romsize, or put the file back"
        ) from error
    return 1 << (size - 1).bit_length() if size else 0


def registered(bus: Bus) -> int:
    """Event queues from 0 to the last one that something is bound to."""
    return max((number + 1 for number, words in bus.queues.items() if words["signals"]), default=0)


def device(there: Device, klass: ClassThere) -> GuestDevice:
    is_net = klass.backend != Backend.IMAGE and there.mtu > 0
    on_image = klass.backend == Backend.IMAGE
    active = {group: bits.active for group, bits in there.groups.items() if bits.active}
    limits = {"queues" if on_image else "pairs": there.rings}
    if is_net:
        limits["mtu"] = there.mtu if active.get(CONFIG, 0) & MTU else abi.MTU_USUAL
    if on_image:
        limits["segments"] = klass.limits.get("segments", 0)
    block = (there.block_size or block_size(there.argument)) if on_image else 0
    image = Reach().image(there.argument) if on_image else None
    return GuestDevice(
        uuid=there.uuid,
        type=klass.type,
        version=klass.version,
        klass=there.klass,
        is_open=there.is_open,
        active=active,
        limits={name: value for name, value in limits.items() if value},
        backend=there.argument,
        mac=there.mac if is_net else "",
        read_only=there.read_only,
        block_size=block,
        capacity=image.size - image.size % (block or 1) if image else 0,
        serial=there.serial,
    )


class Hurried:
    """A guest's agent that has two seconds for each answer."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def agent(self, command: str, seconds: int) -> str:
        return self._domain.agent(command, int(patient(2)))


def drivers(domain: Domain) -> dict[str, str]:
    """What the guest says that it has loaded; nothing when it says nothing, or what is no version."""
    from vbuskit.base.agent import Agent

    try:
        said = Agent(domain.name, Hurried(domain)).execute(ASK_DRIVERS, seconds=2).out
    except VbuskitError:
        return {}
    found = (re.fullmatch(r"(\w+)/version:([\w.+~-]{1,64})", line) for line in said.splitlines())
    return {each[1]: each[2] for each in found if each and each[1] in MODULES}


# ---- Both ----


def release() -> str:
    return (ROOT / "VERSION").read_text().strip()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
