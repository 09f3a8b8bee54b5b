# SPDX-License-Identifier: MIT
"""A guest's domain XML, from a checked description; nothing is pasted, libvirt gets a tree."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase

from vbuskit.base.errors import UsageError

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
ET.register_namespace("qemu", QEMU)

# What a PC is plugged into, by the word of the axis; in full: an alias would be another machine elsewhere.
Q35, I440FX = "q35", "i440fx"
TYPES = {
    Q35: "pc-q35-7.2",
    "pc-q35-6.2": "pc-q35-6.2",
    "pc-q35-5.2": "pc-q35-5.2",
    I440FX: "pc-i440fx-7.2",
}
MACHINE = TYPES[Q35]
EMULATOR = Path("/usr/bin/qemu-system-x86_64")
BUS = "vbus0"  # its name among the guest's shared memories
BUS_SLOT, STRANGER_SLOT, PORT_SLOT = 0x10, 0x11, 0x12  # on the root bus
# The port where a bus comes and goes while the guest runs, the last of as many; libvirt puts the other
# devices behind the first ones.
PORT = 8
RESERVED = "32M"  # behind each port, for a window of 16 MiB
# norandmaps: TCG keeps translated code by its virtual address; with every process at the same one, a
# program starts four times as fast.
# no_timer_check: as on KVM; on a busy machine the kernel may miss its timer when it looks for it, and panic.
CMDLINE = (
    "rw console=ttyS0 net.ifnames=0 norandmaps no_timer_check systemd.show_status=no loglevel=5"
    # On a busy machine a service may take minutes; who waits for the guest is the one to give it up.
    " systemd.default_timeout_start_sec=900"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What guests of one architecture are plugged into; `arch` as libvirt calls it.

    console: the serial port's name in the guest
    """

    arch: str
    name: str
    emulator: Path
    cpu: str
    console: str
    features: tuple[str, ...]


# By Debian's name of the architecture. ACPI without firmware is a PC's.
MACHINES = {
    "amd64": Machine(
        arch="x86_64",
        name=MACHINE,
        emulator=EMULATOR,
        cpu="qemu64",
        console="ttyS0",
        features=("acpi", "apic"),
    ),
    "arm64": Machine(
        arch="aarch64",
        name="virt-7.2",
        emulator=Path("/usr/bin/qemu-system-aarch64"),
        cpu="cortex-a57",
        console="ttyAMA0",
        features=(),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A virtio-net on a tap of the host, which libvirt makes and gives `host_address`; offloads are on.

    QEMU moves its frames: vhost would need a module, and a device that few machines of a CI have.
    """

    name: str = "virtio"
    tap: str = "virtiotap"
    mac: str = "02:76:69:72:74:01"
    host_address: str = "10.78.1.1"
    guest_address: str = "10.78.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """UEFI with Secure Boot: its boot loader, and no longer QEMU, finds the kernel.

    code:      OVMF, as the host's package has it
    variables: a copy of its own, with the keys that it trusts and shim's list of more
    system:    a folder; QEMU shows it to the guest as a FAT that cannot be written, its EFI system partition
    """

    code: Path
    variables: Path
    system: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a guest is plugged together from.

    disk:    qcow2 that becomes /dev/vda, or None: no disk but those on the bus
    cpus:    there at boot, of two; the second one waits until somebody brings it online
    init:    what its kernel starts; empty: what its distribution has for that
    root:    where the initrd finds the root file system, as the kernel's command line names it
    resume:  where it looks for a guest that hibernated, likewise; or nothing
    memory:  MiB
    crash:   of these, what its kernel keeps for the one that is started when it crashes
    bus:     the UNIX socket where vbusd waits for QEMU's ivshmem-doorbell, or None: no bus
    pluggable: that bus is behind the port from which it can be unplugged, and not on the root bus
    vectors: MSI-X vectors of the bus
    stranger: another ivshmem device beside the bus, with memory that is no window; drivers leave it alone
    nic:     a card that is not on the bus
    raw:     raw images that become /dev/vdb and so on, past the host's page cache
    firmware: another one than SeaBIOS
    console: a UNIX socket that QEMU makes; who connects sits at the guest's serial console
    arch:    of MACHINES
    type:    of TYPES, for a PC
    """

    name: str
    disk: Path | None
    kernel: Path
    initrd: Path
    serial: Path
    cpus: int = 1
    init: str = ""
    root: str = "/dev/vda"
    resume: str = ""
    memory: int = 512
    crash: int = 0
    bus: Path | None = None
    pluggable: bool = False
    vectors: int = 8
    stranger: bool = False
    kvm: bool = False
    nic: Nic | None = None
    raw: tuple[Path, ...] = ()
    firmware: Firmware | None = None
    console: Path | None = None
    arch: str = "amd64"
    type: str = Q35

    @property
    def machine(self) -> Machine:
        usual = MACHINES[self.arch]
        return usual if self.type == Q35 else replace(usual, name=TYPES[self.type])

    @property
    def has_ports(self) -> bool:
        """Where a bus can be plugged in while the guest runs; i440fx has PCI, and no PCI Express."""
        return self.type != I440FX

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", self.name):
            raise UsageError(f"{self.name!r}: a guest's name is a-z, 0-9 and -, at most 32 of them")
        if self.type not in TYPES:
            raise UsageError(f"{self.type}: is no machine type", hint=f"there are: {', '.join(TYPES)}")
        if self.memory < 128:
            raise UsageError(f"{self.name}: {self.memory} MiB are too little, 128 is the least")

    @property
    def bridge(self) -> str:
        """The PCI address of the bus, as the guest's kernel writes it."""
        return f"0000:{PORT:02x}:00.0" if self.pluggable else f"0000:00:{BUS_SLOT:02x}.0"


def has_kvm(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> bool:
    """Whether KVM would work: the processor says so. A /dev/kvm without the flag hangs its guests."""
    flags = re.search(r"^flags\s*:.*\b(vmx|svm)\b", cpuinfo.read_text(), re.MULTILINE)
    return flags is not None and device.exists()


def domain_xml(hardware: Hardware) -> ET.Element:
    root = ET.Element("domain", type="kvm" if hardware.kvm else "qemu")
    add(root, "name", hardware.name)
    add(root, "genid")  # another number after a restore, and Linux, from 5.18 on, draws other random numbers
    add(root, "memory", str(hardware.memory), unit="MiB")
    # Two possible, one present: with one possible vCPU, QEMU's TCG leaves the guest's barriers out.
    add(root, "vcpu", "2", placement="static", current=str(hardware.cpus))
    boot(root, hardware)
    features = add(root, "features")
    for feature in hardware.machine.features:
        add(features, feature)
    if hardware.firmware is not None:
        add(features, "smm", state="on")  # only code in there may write what Secure Boot believes
    cpu = add(root, "cpu", mode="custom", match="exact", check="none")
    add(cpu, "model", hardware.machine.cpu, fallback="forbid")
    add(root, "clock", offset="utc")
    add(root, "on_crash", "destroy")
    devices = add(root, "devices")
    add(devices, "emulator", str(hardware.machine.emulator))
    if hardware.disk is not None:
        disk(devices, hardware.disk)
    for number, image in enumerate(hardware.raw, 1):
        raw_disk(devices, image, f"vd{ascii_lowercase[number]}")
    if hardware.firmware is not None:
        system_partition(devices, hardware.firmware.system)
    if hardware.nic is not None:
        interface(devices, hardware.nic)
    drive(devices)
    console(devices, hardware.serial, hardware.console)
    agent(devices)
    add(devices, "controller", type="usb", model="none")
    add(devices, "memballoon", model="none")
    if hardware.bus is not None:
        devices.append(bus_device(hardware.bus, hardware.vectors, pluggable=hardware.pluggable))
    if hardware.stranger:
        devices.append(stranger())
    if hardware.has_ports:
        ports(devices)
    options(root, hardware)
    return root


def moved(saved: ET.Element, hardware: Hardware) -> ET.Element:
    """The XML of a guest that was saved, as libvirt has completed it, with the paths of this hardware.

    Nothing else may differ: the guest has seen the rest, and so libvirt refuses it.
    """
    root = deepcopy(saved)
    for place, text in (("os/kernel", hardware.kernel), ("os/initrd", hardware.initrd)):
        for element in root.iterfind(place):
            element.text = str(text)
    for place, attribute, path in (
        ("devices/disk[@device='disk']/source", "file", hardware.disk),
        ("devices/serial/source", "path", hardware.serial),
        ("devices/console/source", "path", hardware.serial),
        (f"devices/shmem[@name='{BUS}']/server", "path", hardware.bus),
    ):
        for element in root.iterfind(place):
            element.set(attribute, str(path))
    return root


def boot(root: ET.Element, hardware: Hardware) -> None:
    system = add(root, "os")
    add(system, "type", "hvm", arch=hardware.machine.arch, machine=hardware.machine.name)
    if hardware.firmware is not None:
        code = str(hardware.firmware.code)
        add(system, "loader", code, readonly="yes", secure="yes", type="pflash")
        add(system, "nvram", str(hardware.firmware.variables))
        return
    add(system, "kernel", str(hardware.kernel))
    add(system, "initrd", str(hardware.initrd))
    add(system, "cmdline", command_line(hardware))


def command_line(hardware: Hardware) -> str:
    """The kernel's, whoever loads it."""
    waiting = " maxcpus=1" if hardware.cpus > 1 else ""
    init = f" init={hardware.init}" if hardware.init else ""
    resume = f" resume={hardware.resume}" if hardware.resume else ""
    crash = f" crashkernel={hardware.crash}M" if hardware.crash else ""
    always = CMDLINE.replace("ttyS0", hardware.machine.console)
    return f"root={hardware.root} {always}{waiting}{init}{resume}{crash}"


def disk(devices: ET.Element, path: Path) -> None:
    """The throw-away overlay: nobody needs it after a crash of the host, so nothing waits for a flush."""
    element = add(devices, "disk", type="file", device="disk")
    add(element, "driver", name="qemu", type="qcow2", cache="unsafe")
    add(element, "source", file=str(path))
    add(element, "target", dev="vda", bus="virtio")


def raw_disk(devices: ET.Element, path: Path, name: str) -> None:
    """As a worker has an image: O_DIRECT, io_uring, and a cache that the guest may flush."""
    element = add(devices, "disk", type="file", device="disk")
    add(element, "driver", name="qemu", type="raw", cache="none", io="io_uring", discard="unmap")
    add(element, "source", file=str(path))
    add(element, "target", dev=name, bus="virtio")


def system_partition(devices: ET.Element, folder: Path) -> None:
    """After the others, whose names it leaves alone; the firmware looks nowhere else."""
    element = add(devices, "disk", type="dir", device="disk")
    add(element, "driver", name="qemu", type="fat")
    add(element, "source", dir=str(folder))
    add(element, "target", dev="vdz", bus="virtio")
    add(element, "readonly")
    add(element, "boot", order="1")


def interface(devices: ET.Element, nic: Nic) -> None:
    element = add(devices, "interface", type="ethernet")
    add(element, "mac", address=nic.mac)
    source = add(element, "source")
    add(source, "ip", address=nic.host_address, family="ipv4", prefix="24")
    add(element, "target", dev=nic.tap)
    add(element, "model", type="virtio")
    add(element, "driver", name="qemu")
    add(element, "rom", enabled="no")  # nobody boots from it, and its file is another package's


def drive(devices: ET.Element) -> None:
    """An empty CD drive on virtio-scsi: the cloud kernel has no driver for the machine's own AHCI."""
    add(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    devices.append(medium(None))


def medium(iso: Path | None) -> ET.Element:
    """The CD drive with that disc in it, or with none."""
    element = ET.Element("disk", type="file", device="cdrom")
    add(element, "driver", name="qemu", type="raw")
    if iso is not None:
        add(element, "source", file=str(iso))
    add(element, "target", dev="sda", bus="scsi")
    add(element, "readonly")
    return element


def console(devices: ET.Element, log: Path, socket: Path | None) -> None:
    """What the guest prints is appended to `log`, and is shown to whoever has connected to `socket`."""
    element = add(devices, "serial", type="file" if socket is None else "unix")
    if socket is None:
        add(element, "source", path=str(log), append="on")
    else:
        add(element, "source", mode="bind", path=str(socket))
        add(element, "log", file=str(log), append="on")
    add(element, "target", port="0")


def agent(devices: ET.Element) -> None:
    element = add(devices, "channel", type="unix")
    add(element, "target", type="virtio", name="org.qemu.guest_agent.0")


def bus_device(server: Path, vectors: int = 8, *, pluggable: bool = False) -> ET.Element:
    """The bus as stock QEMU has it; on the root bus, as behind a bridge its BAR2 may find no room."""
    element = ET.Element("shmem", name=BUS, role="master")
    add(element, "model", type="ivshmem-doorbell")
    add(element, "server", path=str(server))
    add(element, "msi", vectors=str(vectors), ioeventfd="on")
    if pluggable:
        address(element, slot=0, bus=PORT)
    else:
        address(element, BUS_SLOT)
    return element


def stranger() -> ET.Element:
    """1 MiB of zeros behind the same PCI id: what an ivshmem device of somebody else looks like."""
    element = ET.Element("shmem", name="stranger", role="master")  # or no guest that has it can be saved
    add(element, "model", type="ivshmem-plain")
    add(element, "size", "1", unit="M")
    address(element, STRANGER_SLOT)
    return element


def ports(devices: ET.Element) -> None:
    """Where a bus is plugged in, as the root bus takes nothing while the guest runs; and those before it.

    All of them, by rising number: left to itself, libvirt makes them in another order when it restores a
    guest, QEMU then counts them differently from the guest's ACPI tables, and no plug is ever seen.
    """
    for number in range(1, PORT):
        add(devices, "controller", type="pci", index=str(number), model="pcie-root-port")
    last = add(devices, "controller", type="pci", index=str(PORT), model="pcie-root-port")
    address(last, PORT_SLOT)


def address(element: ET.Element, slot: int, bus: int = 0) -> None:
    place = {"domain": "0x0000", "bus": f"{bus:#04x}", "slot": f"{slot:#04x}", "function": "0x0"}
    add(element, "address", type="pci", **place)


def options(root: ET.Element, hardware: Hardware) -> None:
    """What libvirt 9.0 has no word for.

    It drops role='master' on its way to a doorbell device, and then refuses to move or save it; and
    firmware leaves a port that is empty 1 MiB.
    """
    line = ET.SubElement(root, f"{{{QEMU}}}commandline")
    room = [f"pcie-root-port.pref64-reserve={RESERVED}"] if hardware.has_ports else []
    for option in ("ivshmem-doorbell.master=on", *room):
        for word in ("-global", option):
            ET.SubElement(line, f"{{{QEMU}}}arg", value=word)


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
