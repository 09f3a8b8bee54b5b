# SPDX-License-Identifier: MIT
"""A bus as it is written down: in a TOML file, or in a libvirt domain's <metadata>.

Nothing that an administrator set up lives in memory alone: what is described here is there again after a
restart of the machine, and travels with the domain when it migrates. docs/host.md has both formats.
"""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.places import make
from vbuskit.drivers.host import Device, Host
from vbuskit.drivers.host_abi import Connector

NAMESPACE = "https://vbuskit.invalid/xmlns/bus/1"  # a name, not an address: RFC 2606
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
FOLDER = Path("/etc/vbuskit/buses")
SOCKETS = Path("/run/vbus")
DEFAULT_MTU = 1500  # bytes; what vbusd takes for 0
BACKENDS = ("tap", "stream", "image")  # the word says what a device stands on; vbusd calls it the argument

ET.register_namespace("vbus", NAMESPACE)
ET.register_namespace("qemu", QEMU)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDescription:
    """One device. `argument` is an interface, a stream socket or an image, as its class has it."""

    uuid: UUID
    klass: str
    argument: str = ""
    mac: str = ""
    mtu: int = 0
    link: bool = True
    read_only: bool = False
    block_size: int = 0
    serial: str = ""
    mask: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, words: Mapping[str, Any], where: str) -> Self:
        """From TOML's or XML's words, numbers and truths as text or as such. Raises UsageError."""
        left = dict(words)
        if "uuid" not in left or "class" not in left:
            raise UsageError(f"{where}: a device needs uuid and class")
        uuid = uuid_of(left.pop("uuid"), where)
        stands_on = [(name, str(left.pop(name))) for name in BACKENDS if name in left]
        if len(stands_on) > 1:
            raise UsageError(f"{where}: {' and '.join(n for n, _ in stands_on)} exclude each other")
        found = cls(
            uuid=uuid,
            klass=str(left.pop("class")),
            argument=stands_on[0][1] if stands_on else "",
            mac=str(left.pop("mac", mac_of(uuid))),
            mtu=number(left.pop("mtu", 0), f"{where}: mtu"),
            link=truth(left.pop("link", True), f"{where}: link"),
            read_only=truth(left.pop("read_only", False), f"{where}: read_only"),
            block_size=number(left.pop("block_size", 0), f"{where}: block_size"),
            serial=str(left.pop("serial", "")),
            mask=masks(left.pop("mask", {}), where),
        )
        nothing_left(left, where)
        return found

    @classmethod
    def seen(cls, device: Device) -> Self:
        """The same words for a device that is there."""
        return cls(
            uuid=device.uuid,
            klass=device.klass,
            argument=device.argument,
            mac=device.mac,
            mtu=0 if device.mtu == DEFAULT_MTU else device.mtu,
            link=device.link,
            read_only=device.read_only,
            block_size=device.block_size,
            serial=device.serial,
            mask={gid: group.masked for gid, group in device.groups.items() if group.masked},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BusDescription:
    """One guest's bus. window: MiB; vectors: doorbells each way; mask: feature bits of every device.

    socket: that QEMU connects to, or the folder of the connector `file`.
    """

    name: str
    socket: Path
    connector: Connector = Connector.IVSHMEM
    window: int = 16
    vectors: int = 8
    mask: Mapping[int, int] = field(default_factory=dict)
    devices: tuple[DeviceDescription, ...] = ()

    @classmethod
    def of(
        cls,
        words: Mapping[str, Any],
        devices: Iterator[Mapping[str, Any]],
        name: str,
        where: str,
        connector: Connector = Connector.IVSHMEM,
    ) -> Self:
        left = dict(words)
        name = str(left.pop("name", name))
        found = cls(
            name=name,
            socket=Path(str(left.pop("socket", place_of(name, connector)))),
            connector=connector,
            window=number(left.pop("window", 16), f"{where}: window"),
            vectors=number(left.pop("vectors", 8), f"{where}: vectors"),
            mask=masks(left.pop("mask", {}), where),
            devices=tuple(DeviceDescription.of(d, f"{where}: device {n}") for n, d in enumerate(devices, 1)),
        )
        nothing_left(left, where)
        uuids = [device.uuid for device in found.devices]
        if len(set(uuids)) != len(uuids):
            raise UsageError(f"{where}: two devices have one uuid")
        return found

    @classmethod
    def seen(cls, host: Host, name: str) -> Self:
        """A bus that is there, as it would be written down."""
        bus = host.bus(name)
        return cls(
            name=bus.name,
            socket=bus.path,
            connector=bus.connector,
            window=bus.window_mib,
            vectors=bus.vectors,
            devices=tuple(DeviceDescription.seen(device) for device in host.devices(name)),
        )


# ---- TOML ----


def read(path: Path) -> BusDescription:
    """One file: a table [bus], tables [[device]]; the file gives the bus its name. Raises UsageError."""
    try:
        words = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is no TOML ({error})") from error
    bus, devices = words.pop("bus", {}), words.pop("device", [])
    nothing_left(words, str(path))
    if not isinstance(bus, dict) or not isinstance(devices, list):
        raise UsageError(f"{path}: needs a table [bus] and tables [[device]]")
    connector = connector_of(bus.pop("connector", "ivshmem"), f"{path}: connector")
    return BusDescription.of(bus, iter(devices), path.stem, str(path), connector)


def read_all(folder: Path = FOLDER) -> list[BusDescription]:
    """Every *.toml of a folder, by name; none when the folder is not there."""
    return [read(path) for path in sorted(folder.glob("*.toml"))]


# ---- libvirt ----


def in_domain(xml: str) -> BusDescription | None:
    """What a domain's <metadata> says of its bus, or None. Raises UsageError for words that are wrong."""
    try:
        domain = ET.fromstring(xml)
    except ET.ParseError as error:
        raise UsageError(f"domain: is no XML ({error})") from error
    name = domain.findtext("name", "")
    found = domain.find(f"metadata/{{{NAMESPACE}}}bus")
    if found is None:
        return None
    devices = (
        {**device.attrib, "mask": masked(device)} for device in found.findall(f"{{{NAMESPACE}}}device")
    )
    return BusDescription.of({**found.attrib, "mask": masked(found)}, devices, name, f"domain {name}")


def masked(element: ET.Element) -> dict[str, str]:
    found = element.findall(f"{{{NAMESPACE}}}mask")
    return {mask.get("group", ""): mask.get("bits", "") for mask in found}


def domain_xml(bus: BusDescription) -> str:
    """What to put into a domain: its metadata, the device, and the override that lets it migrate.

    libvirt drops role='master' for doorbell devices; without master=on QEMU refuses to migrate the guest.
    """
    if bus.connector is not Connector.IVSHMEM:
        raise UsageError(f"bus {bus.name}: QEMU cannot connect to a folder", hint="connector = 'ivshmem'")
    described = ET.Element(f"{{{NAMESPACE}}}bus", name=bus.name, socket=str(bus.socket))
    described.set("window", str(bus.window))
    described.set("vectors", str(bus.vectors))
    for gid, bits in bus.mask.items():
        ET.SubElement(described, f"{{{NAMESPACE}}}mask", group=str(gid), bits=hex(bits))
    for device in bus.devices:
        add_device(described, device)

    shmem = ET.Element("shmem", name=f"vbus-{bus.name}", role="master")
    ET.SubElement(shmem, "model", type="ivshmem-doorbell")
    ET.SubElement(shmem, "server", path=str(bus.socket))
    ET.SubElement(shmem, "msi", vectors=str(bus.vectors), ioeventfd="on")
    ET.SubElement(shmem, "alias", name="ua-vbus")

    override = ET.Element(f"{{{QEMU}}}override")
    device_override = ET.SubElement(override, f"{{{QEMU}}}device", alias="ua-vbus")
    frontend = ET.SubElement(device_override, f"{{{QEMU}}}frontend")
    ET.SubElement(frontend, f"{{{QEMU}}}property", name="master", type="string", value="on")

    metadata, devices = ET.Element("metadata"), ET.Element("devices")
    metadata.append(described)
    devices.append(shmem)
    parts = (metadata, devices, override)
    for part in parts:
        ET.indent(part)
    return "\n".join(ET.tostring(part, encoding="unicode") for part in parts)


def add_device(bus: ET.Element, device: DeviceDescription) -> None:
    words = {"uuid": str(device.uuid), "class": device.klass, "mac": device.mac, "serial": device.serial}
    words["mtu"] = str(device.mtu or "")
    words["link"] = "" if device.link else "off"
    words["read_only"] = "on" if device.read_only else ""
    words["block_size"] = str(device.block_size or "")
    words[backend_word(device)] = device.argument
    element = ET.SubElement(
        bus, f"{{{NAMESPACE}}}device", {name: value for name, value in words.items() if value}
    )
    for gid, bits in device.mask.items():
        ET.SubElement(element, f"{{{NAMESPACE}}}mask", group=str(gid), bits=hex(bits))


def backend_word(device: DeviceDescription) -> str:
    """The word that a class's argument goes by."""
    return {"venet-tap": "tap", "venet-passt": "stream"}.get(device.klass, "image")


# ---- Making it so ----


def create(host: Host, bus: BusDescription) -> None:
    """The bus and its devices, whole or not at all. Raises what vbusd refuses."""
    add_bus(host, bus)
    try:
        for gid, bits in bus.mask.items():
            host.mask(bus.name, gid, bits)
        for device in bus.devices:
            add(host, bus.name, device)
    except BaseException:
        host.remove_bus(bus.name)
        raise


def add_bus(host: Host, bus: BusDescription) -> None:
    """The bus alone; the folder of the connector `file` is made when it is not there."""
    if bus.connector is Connector.FILE:
        make(bus.socket)
    host.add_bus(bus.name, bus.socket, connector=bus.connector, window_mib=bus.window, vectors=bus.vectors)


def prepare(host: Host, bus: BusDescription) -> None:
    """A guest is about to start: its bus as it is described now. Refused while another QEMU is on it."""
    for there in host.buses():
        if there.name == bus.name:
            if there.connected:
                raise Refused(
                    f"bus {bus.name}: a QEMU is connected to it", hint="is the guest running already?"
                )
            host.remove_bus(bus.name)
    create(host, bus)


def release(host: Host, bus: BusDescription) -> None:
    """The guest is gone, and its bus with it."""
    if any(there.name == bus.name for there in host.buses()):
        host.remove_bus(bus.name)


def add(host: Host, bus: str, device: DeviceDescription) -> None:
    host.add_device(
        bus,
        device.uuid,
        device.klass,
        mac=device.mac,
        argument=device.argument,
        mtu=device.mtu,
        read_only=device.read_only,
        block_size=device.block_size,
        serial=device.serial,
        link=device.link,
        mask=device.mask,
    )


# ---- Words ----


def uuid_of(text: object, where: str) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise UsageError(f"{where}: uuid {text!r} is no UUID") from None


def connector_of(word: object, where: str) -> Connector:
    try:
        return Connector[str(word).upper()]
    except KeyError:
        raise UsageError(f"{where}: {word!r} is neither ivshmem nor file") from None


def place_of(name: str, connector: Connector) -> Path:
    """Where the other side connects when no place is given."""
    return SOCKETS / (name if connector is Connector.FILE else f"{name}.sock")


def mac_of(uuid: UUID) -> str:
    """The address that goes with a device's name when none is given: QEMU's prefix, the UUID's end."""
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *uuid.bytes[-3:]))


def number(value: object, where: str) -> int:
    """A whole number, also as text in any of C's bases."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", value):
        return int(value, 0) if value.lower().startswith("0x") else int(value)
    raise UsageError(f"{where}: {value!r} is no number")


def truth(value: object, where: str) -> bool:
    words = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise UsageError(f"{where}: {value!r} is neither on nor off")


def masks(value: object, where: str) -> dict[int, int]:
    """{group: bits}."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: mask is no table of group = bits")
    return {
        number(gid, f"{where}: mask group"): number(bits, f"{where}: mask bits")
        for gid, bits in value.items()
    }


def nothing_left(words: Mapping[str, object], where: str) -> None:
    if words:
        raise UsageError(f"{where}: {', '.join(sorted(map(str, words)))}: not a word that is known there")
