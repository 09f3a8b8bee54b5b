# SPDX-License-Identifier: MIT
"""The domain XML: what every guest must have, and what must never be in it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.errors import UsageError
from vbuskit.compat.domain import (
    BUS,
    I440FX,
    MACHINE,
    PORT,
    QEMU,
    TYPES,
    Firmware,
    Hardware,
    Nic,
    bus_device,
    domain_xml,
    has_kvm,
    medium,
    moved,
)


def hardware(
    name: str = "debian",
    memory: int = 512,
    bus: Path | None = None,
    kvm: bool = False,
    disk: Path | None = Path("/x/<&>.qcow2"),
    root: str = "/dev/vda",
    resume: str = "",
    crash: int = 0,
    nic: Nic | None = None,
    init: str = "",
    raw: tuple[Path, ...] = (),
    firmware: Firmware | None = None,
    pluggable: bool = False,
) -> Hardware:
    return Hardware(
        name=name,
        memory=memory,
        bus=bus,
        kvm=kvm,
        disk=disk,
        root=root,
        resume=resume,
        crash=crash,
        nic=nic,
        init=init,
        raw=raw,
        firmware=firmware,
        pluggable=pluggable,
        kernel=Path("/x/vmlinuz"),
        initrd=Path("/x/initrd"),
        serial=Path("/x/serial.log"),
    )


def test_a_console_for_somebody_is_logged_too() -> None:
    plain = domain_xml(hardware()).find("devices/serial")
    seat = domain_xml(replace(hardware(), console=Path("/run/x"))).find("devices/serial")
    assert plain is not None and plain.get("type") == "file"
    assert seat is not None and seat.find("source[@path='/run/x'][@mode='bind']") is not None
    assert seat.find("log[@file='/x/serial.log']") is not None


def test_a_guest_of_arm_is_a_virt_machine_with_its_own_console_and_without_what_is_a_pcs() -> None:
    root = domain_xml(replace(hardware(), arch="arm64"))
    kind = root.find("os/type")
    assert kind is not None and (kind.get("arch"), kind.get("machine")) == ("aarch64", "virt-7.2")
    assert root.findtext("devices/emulator") == "/usr/bin/qemu-system-aarch64"
    assert "console=ttyAMA0" in (root.findtext("os/cmdline") or "").split()
    assert root.find("features/acpi") is None and root.findtext("cpu/model") == "cortex-a57"


def test_never_only_one_possible_vcpu() -> None:
    vcpu = domain_xml(hardware()).find("vcpu")
    assert vcpu is not None
    assert (vcpu.text, vcpu.get("current")) == ("2", "1")


@pytest.mark.parametrize(("init", "words"), [("", []), ("/sbin/init", ["init=/sbin/init"])])
def test_the_kernel_is_told_of_an_init_only_when_there_is_another(init: str, words: list[str]) -> None:
    said = (domain_xml(hardware(init=init)).findtext("os/cmdline") or "").split()
    assert [word for word in said if word.startswith("init=")] == words


def test_the_machine_is_written_out_in_full() -> None:
    kind = domain_xml(hardware()).find("os/type")
    assert kind is not None
    assert kind.get("machine") == "pc-q35-7.2"


@pytest.mark.parametrize(("kvm", "kind"), [(False, "qemu"), (True, "kvm")])
def test_kvm_only_when_asked(kvm: bool, kind: str) -> None:
    assert domain_xml(hardware(kvm=kvm)).get("type") == kind


def test_no_network_no_graphics_no_usb() -> None:
    xml = domain_xml(hardware())
    assert not xml.findall("devices/interface") + xml.findall("devices/graphics")
    assert xml.find("devices/controller[@type='usb'][@model='none']") is not None


def test_a_card_beside_the_bus_is_virtio_without_vhost() -> None:
    (card,) = domain_xml(hardware(nic=Nic())).findall("devices/interface")
    model, driver = card.find("model"), card.find("driver")
    assert model is not None
    assert driver is not None
    assert (model.get("type"), driver.get("name")) == ("virtio", "qemu")


def test_raw_images_follow_the_guests_own_disk_and_pass_the_page_cache_by() -> None:
    xml = domain_xml(hardware(raw=(Path("/a"), Path("/b"))))
    assert [target.get("dev") for target in xml.findall("devices/disk[@device='disk']/target")] == [
        "vda",
        "vdb",
        "vdc",
    ]
    drivers = xml.findall("devices/disk[@device='disk']/driver")[1:]
    assert [(one.get("cache"), one.get("io")) for one in drivers] == [("none", "io_uring")] * 2


def test_doorbell_devices_are_master_by_a_global_option() -> None:
    words = [arg.get("value") for arg in domain_xml(hardware()).iter(f"{{{QEMU}}}arg")]
    assert words[:2] == ["-global", "ivshmem-doorbell.master=on"]


def test_a_port_reserves_room_for_a_window_that_comes_later() -> None:
    words = [arg.get("value") or "" for arg in domain_xml(hardware()).iter(f"{{{QEMU}}}arg")]
    (size,) = (word.partition("=")[2] for word in words if word.startswith("pcie-root-port.pref64-reserve="))
    assert int(size.removesuffix("M")) >= 16


def test_all_ports_are_listed_by_rising_number_for_a_restored_guest_has_them_in_that_order() -> None:
    ports = domain_xml(hardware()).findall("devices/controller[@model='pcie-root-port']")
    assert [port.get("index") for port in ports] == [str(number) for number in range(1, PORT + 1)]


def test_a_bus_that_can_be_unplugged_is_behind_the_last_port_and_its_bridge_is_named_so() -> None:
    description = hardware(bus=Path("/run/vbus/s"), pluggable=True)
    place = domain_xml(description).find(f"devices/shmem[@name='{BUS}']/address")
    assert place is not None
    assert (int(place.get("bus", ""), 16), int(place.get("slot", ""), 16)) == (PORT, 0)
    assert description.bridge == f"0000:{PORT:02x}:00.0"
    assert replace(description, pluggable=False).bridge == "0000:00:10.0"


def test_a_saved_guest_moves_to_other_paths_and_to_nothing_else() -> None:
    here = hardware(bus=Path("/run/vbus/s"), nic=Nic())
    there = replace(
        here,
        disk=Path("/y/disk"),
        kernel=Path("/y/k"),
        initrd=Path("/y/i"),
        serial=Path("/y/log"),
        bus=Path("/y/s"),
    )
    saved = domain_xml(here)
    assert ET.tostring(moved(saved, there)) == ET.tostring(domain_xml(there))
    assert ET.tostring(saved) == ET.tostring(domain_xml(here))


def test_every_device_that_shares_memory_can_be_saved() -> None:
    shared = domain_xml(replace(hardware(bus=Path("/s")), stranger=True)).findall("devices/shmem")
    assert [device.get("role") for device in shared] == ["master", "master"]


def test_the_bus_is_on_the_root_bus_and_only_when_there_is_one() -> None:
    assert domain_xml(hardware()).find("devices/shmem") is None
    device = domain_xml(hardware(bus=Path("/run/vbus/s"))).find("devices/shmem")
    assert device is not None
    address, server = device.find("address"), device.find("server")
    assert address is not None
    assert server is not None
    assert address.get("bus") == "0x00"
    assert server.get("path") == "/run/vbus/s"


def test_the_number_of_vectors_is_the_one_asked_for() -> None:
    msi = bus_device(Path("/s"), 4).find("msi")
    assert msi is not None
    assert msi.get("vectors") == "4"


def test_a_guest_may_have_no_disk_but_those_on_its_bus() -> None:
    assert len(domain_xml(hardware()).findall("devices/disk[@device='disk']")) == 1
    assert not domain_xml(hardware(disk=None)).findall("devices/disk[@device='disk']")


def test_the_kernel_is_told_where_its_root_is() -> None:
    root = "/dev/disk/by-label/guest"
    words = (domain_xml(hardware(root=root)).findtext("os/cmdline") or "").split()
    assert [word for word in words if word.startswith("root=")] == [f"root={root}"]


@pytest.mark.parametrize("resume", ["", "/dev/vdb"])
def test_the_initrd_is_told_of_a_guest_that_hibernated_only_when_there_may_be_one(resume: str) -> None:
    words = (domain_xml(hardware(resume=resume)).findtext("os/cmdline") or "").split()
    told = [word.partition("=")[2] for word in words if word.startswith("resume=")]
    assert told == [resume] * bool(resume)


@pytest.mark.parametrize(("crash", "words"), [(0, []), (256, ["crashkernel=256M"])])
def test_memory_is_kept_for_a_crash_kernel_only_where_one_is_to_start(crash: int, words: list[str]) -> None:
    told = (domain_xml(hardware(crash=crash)).findtext("os/cmdline") or "").split()
    assert [word for word in told if word.startswith("crashkernel")] == words


def test_an_empty_drive_has_no_source() -> None:
    assert medium(None).find("source") is None
    assert medium(Path("/x.iso")).find("source") is not None


@pytest.mark.parametrize("name", ["", "9x", "a b", "a<b", "x" * 40])
def test_a_name_that_cannot_be_a_guests_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        hardware(name=name)


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="64 MiB"):
        hardware(memory=64)


@pytest.mark.parametrize(
    ("flags", "there", "works"),
    [
        ("fpu vmx sse", True, True),
        ("fpu svm", True, True),
        ("fpu sse", True, False),
        ("fpu vmx", False, False),
        ("fpu vmxoff", True, False),
    ],
)
def test_kvm_is_judged_by_the_processors_flag(flags: str, there: bool, works: bool, tmp_path: Path) -> None:
    cpuinfo, device = tmp_path / "cpuinfo", tmp_path / "kvm"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nvmx flags\t: vnmi\n")
    if there:
        device.touch()
    assert has_kvm(cpuinfo, device) is works


def test_with_secure_boot_the_firmware_finds_the_kernel_and_nobody_else_may_write_its_variables() -> None:
    started_by = Firmware(code=Path("/x/code.fd"), variables=Path("/x/variables.fd"), system=Path("/x/esp"))
    xml = domain_xml(hardware(firmware=started_by))
    assert [element.tag for element in xml.findall("os/*")] == ["type", "loader", "nvram"]
    loader, smm = xml.find("os/loader"), xml.find("features/smm")
    assert loader is not None
    assert smm is not None
    assert (loader.get("secure"), loader.get("readonly"), smm.get("state")) == ("yes", "yes", "on")


def test_the_firmware_boots_from_its_own_partition_which_cannot_be_written() -> None:
    started_by = Firmware(code=Path("/x/code.fd"), variables=Path("/x/variables.fd"), system=Path("/x/esp"))
    disks = domain_xml(hardware(firmware=started_by)).findall("devices/disk[@device='disk']")
    assert [disk.find("boot") is not None for disk in disks] == [False, True]
    assert disks[1].find("readonly") is not None


@pytest.mark.parametrize("name", TYPES)
def test_a_pc_of_another_type_is_the_same_but_for_its_name(name: str) -> None:
    xml = domain_xml(replace(hardware(bus=Path("/run/vbus/s")), type=name))
    usual = domain_xml(hardware(bus=Path("/run/vbus/s")))
    system = xml.find("os/type")
    assert system is not None and system.get("machine") == TYPES[name]
    if name != I440FX:
        system.set("machine", MACHINE)
        assert ET.tostring(xml) == ET.tostring(usual)


def test_i440fx_has_no_root_ports_and_its_bus_is_where_it_always_is() -> None:
    xml = domain_xml(replace(hardware(bus=Path("/run/vbus/s")), type=I440FX))
    assert xml.find("devices/controller[@model='pcie-root-port']") is None
    assert "pcie-root-port" not in ET.tostring(xml, encoding="unicode")
    place = xml.find("devices/shmem/address")
    assert place is not None and (place.get("bus"), place.get("slot")) == ("0x00", "0x10")


def test_a_machine_type_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="q36: is no machine type"):
        replace(hardware(), type="q36")
