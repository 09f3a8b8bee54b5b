# SPDX-License-Identifier: MIT
"""Rules about the virtual machine: architecture, machine type, CPU, and the libvirt that starts it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vbuskit.migration.judgement import Finding, Side, refuse, require
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.remedies import version

OVERRIDE_SINCE = (8, 2)  # libvirt that knows <qemu:override>; an older one passes over it
ALIASES = ("pc", "q35", "virt", "ubuntu", "ubuntu-q35")
UNPINNED = {
    "host-passthrough": "it is the CPU of the guest's host, and profiles say nothing of that",
    "host-model": "libvirt made it of the guest's host, and another version reads it differently",
    "maximum": "QEMU loads it whatever it is, and the CPU changes under the running guest",
}
UNPINNED |= {"host": UNPINNED["host-passthrough"], "max": UNPINNED["maximum"]}
QEMU_DEFAULT = {"x86_64": "qemu64"}  # when a domain names no CPU
PIN_CPU = "name a CPU model that all hosts have (mode custom, such as qemu64), and start the guest again"


def arch(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if guest.arch != host.arch:
        yield refuse(
            "arch",
            Side.DESTINATION,
            guest.arch,
            f"{host.name} is {host.arch}, and no running guest changes its architecture",
            f"move it to a host that is {guest.arch}",
        )


def machine(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if guest.machine in host.machines or guest.machine in ALIASES:
        return
    needs, has = upstream(guest.machine), version(host.qemu)
    if needs and has and has < needs:
        wanted = ".".join(map(str, needs))
        yield refuse(
            "qemu-old",
            Side.DESTINATION,
            guest.machine,
            f"QEMU {host.qemu} of {host.name} is older than this machine type",
            f"update QEMU on {host.name} to {wanted} or later",
            *(restart(guest, host)),
        )
    else:
        yield refuse(
            "machine-unknown",
            Side.DESTINATION,
            guest.machine,
            f"QEMU {host.qemu} of {host.name} has no such machine type",
            f"move it to a host whose QEMU has {guest.machine}",
            *(restart(guest, host)),
        )


def restart(guest: GuestProfile, host: HostProfile) -> tuple[str, ...]:
    """The newest machine type of this family that is there, for a guest that may be shut down."""
    family = guest.machine.rpartition("-")[0]
    there = [each for each in host.machines if each.rpartition("-")[0] == family]
    if not there:
        return ()
    newest = max(there, key=lambda each: (upstream(each), each))
    return (f"shut the guest down and start it as {newest} on {host.name}",)


def cpu(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    model = QEMU_DEFAULT.get(guest.arch, "") if guest.cpu == "default" else guest.cpu
    if model not in host.cpus and model not in UNPINNED:
        yield refuse(
            "cpu-missing",
            Side.DESTINATION,
            guest.cpu,
            f"QEMU {host.qemu} of {host.name} cannot run this CPU model there",
            f"move it to a host that runs {guest.cpu}",
            PIN_CPU,
        )


def pinned(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """What has another meaning on another host cannot be compared."""
    if guest.machine in ALIASES:
        yield refuse(
            "machine-alias",
            Side.GUEST,
            guest.machine,
            f"it stands for the newest machine type of each QEMU, and {host.name}'s may be another one",
            "write the machine type out in the domain (pc-q35-7.2), and start the guest again",
        )
    if guest.cpu in UNPINNED:
        yield refuse("cpu-unpinned", Side.GUEST, guest.cpu, UNPINNED[guest.cpu], PIN_CPU)


def libvirt(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """Without master=on QEMU refuses the bridge: "Migration is disabled when using feature 'peer mode'"."""
    if guest.bus.connector != "ivshmem" or guest.bus.master == "global":
        return
    if version(host.libvirt) < OVERRIDE_SINCE:
        yield require(
            "libvirt-old",
            Side.DESTINATION,
            f"libvirt {host.libvirt}",
            f"{host.name} passes over <qemu:override>, so that the bridge there has no master=on",
            "give virsh migrate --xml a domain that says -global ivshmem-doorbell.master=on in "
            "<qemu:commandline>, and capture the guest again",
            f"update libvirt on {host.name} to 8.2 or later",
        )


def upstream(machine: str) -> tuple[int, ...]:
    """The release of QEMU that has it first: (7, 2) of pc-q35-7.2; none of a distribution's own."""
    found = re.fullmatch(r"(?:pc-q35|pc-i440fx|virt)-(\d+)\.(\d+)", machine)
    return tuple(map(int, found.groups())) if found else ()
