# SPDX-License-Identifier: MIT
"""The dracut module by itself: its functions, with stand-ins for dracut's, on a machine of plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner

MODULE = ROOT / "initrd/dracut/90vbus/module-setup.sh"
# As dracut's dracut-init.sh has them: what each was called with, and whether hostonly was set.
STAND_INS = """\
instmods() { echo "instmods $* hostonly=$hostonly"; return "${instmods_code-0}"; }
inst_rules() { echo "inst_rules $*"; }
derror() { echo "derror $*"; }
kernel=6.1.0-56-cloud-amd64
"""
BY_ITSELF, NOT_BY_ITSELF = 0, 255  # what check() says, dracut.modules(7)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """/sys of a machine without a bus: one PCI device, a NIC of virtio."""
    pci_device(tmp_path, "0000:00:03.0", "0x1000", 1 << 12)
    return tmp_path


def pci_device(machine: Path, slot: str, number: str, size: int, vendor: str = "0x1af4") -> None:
    """As sysfs shows it; BAR 0 and BAR 2 are there, BAR 2 has `size` bytes, none for 0."""
    folder = machine / "sys/bus/pci/devices" / slot
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{number}\n")
    start = 0xFE000000 if size else 0
    bars = [(0xFEBF0000, 0xFEBF00FF), (0, 0), (start, start + size - 1 if size else 0), (0, 0)]
    (folder / "resource").write_text("".join(f"{a:#018x} {b:#018x} {0x40200:#018x}\n" for a, b in bars))


def called(machine: Path, line: str) -> Finished:
    """A line of bash after module-setup.sh was read, as dracut reads it; /sys is the machine's."""
    script = machine / "module-setup.sh"
    script.write_text(MODULE.read_text().replace("/sys/", f"{machine}/sys/"))
    done = Runner().attempt(["bash", "-c", f"{STAND_INS}. {script}\n{line}"])
    assert done.err == ""
    return done


def test_an_image_for_any_machine_has_the_bus(machine: Path) -> None:
    assert called(machine, "hostonly='' check").code == BY_ITSELF


def test_an_image_for_a_machine_without_a_bus_has_it_only_when_asked_for(machine: Path) -> None:
    assert called(machine, "hostonly=1 check").code == NOT_BY_ITSELF
    assert called(machine, "hostonly='' mount_needs=1 check").code == NOT_BY_ITSELF


@pytest.mark.parametrize("size", [1 << 20, 16 << 20, 256 << 20])
def test_an_image_for_a_machine_with_a_bridge_has_it(machine: Path, size: int) -> None:
    pci_device(machine, "0000:00:05.0", "0x1110", size)
    assert called(machine, "hostonly=1 check").code == BY_ITSELF


@pytest.mark.parametrize(
    ("number", "size", "vendor"),
    [
        ("0x1110", 1 << 19, "0x1af4"),
        ("0x1110", 512 << 20, "0x1af4"),
        ("0x1110", 0, "0x1af4"),
        ("0x1111", 1 << 20, "0x1af4"),
        ("0x1110", 1 << 20, "0x8086"),
    ],
)
def test_what_cannot_be_our_window_is_none(machine: Path, number: str, size: int, vendor: str) -> None:
    pci_device(machine, "0000:00:05.0", number, size, vendor)
    assert called(machine, "hostonly=1 check").code == NOT_BY_ITSELF


def test_the_sizes_are_those_that_the_driver_takes() -> None:
    header = (ROOT / "drivers/include/vbus_abi.h").read_text()
    assert "#define VBUS_WINDOW_MIN\t\t(1u << 20)\n#define VBUS_WINDOW_MAX\t\t(256u << 20)\n" in header
    assert ">= 1 << 20 && end - start + 1 <= 256 << 20" in MODULE.read_text()


def test_a_loaded_bus_is_a_bus(machine: Path) -> None:
    (machine / "sys/bus/vbus").mkdir()
    assert called(machine, "hostonly=1 check").code == BY_ITSELF


def test_a_machine_without_pci_has_no_bus(tmp_path: Path) -> None:
    assert called(tmp_path, "hostonly=1 check").code == NOT_BY_ITSELF


def test_all_three_modules_go_in_whatever_is_loaded_today(machine: Path) -> None:
    said = called(machine, "hostonly=1; installkernel; echo $hostonly")
    assert said.out == "instmods -c -s vbus vblk venet hostonly=\n1\n"


def test_a_kernel_without_our_modules_is_named_and_still_gets_its_image(machine: Path) -> None:
    said = called(machine, "instmods_code=1; installkernel")
    assert said.code == 0
    assert said.out.splitlines()[1:] == [
        "derror vbus: kernel 6.1.0-56-cloud-amd64 lacks vbus, vblk or venet:"
        " with this image it reaches no disk on the bus",
        "derror vbus: next: install our modules for 6.1.0-56-cloud-amd64,"
        " then: dracut --force --kver 6.1.0-56-cloud-amd64",
    ]


def test_every_rule_goes_in_and_udev_before_it(machine: Path) -> None:
    rules = sorted(path.name for path in (ROOT / "initrd/udev").iterdir())
    assert called(machine, "install").out == f"inst_rules {' '.join(rules)}\n"
    assert called(machine, "depends").out == "udev-rules\n"
