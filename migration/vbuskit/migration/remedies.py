# SPDX-License-Identifier: MIT
"""Remedies that several rules have, as words to type."""

from __future__ import annotations

import re
from shlex import quote

from vbuskit.migration.profile import GuestDevice, GuestProfile, HostProfile


def update(guest: GuestProfile, host: HostProfile) -> str:
    """The guest's release tells what the guest's host has."""
    mine, there = version(guest.release), version(host.release)
    if there > mine:
        return f"move it to a host that has vbuskit {guest.release}, not {host.release}"
    if there == mine:
        return f"update vbuskit on {host.name} to a release later than {host.release}"
    return f"update vbuskit on {host.name} to {guest.release} or later"


def version(text: str) -> tuple[int, ...]:
    """(7, 2, 22) of 7.2.22; none of what does not begin with numbers."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def unmask(guest: GuestProfile, device: GuestDevice, host: HostProfile, group: int) -> str:
    """Of what is masked that which this guest does not use may stay so."""
    used = device.active.get(group, 0)
    bus = quote(guest.bus.name or guest.name)
    commands = []
    if of_all := host.mask.get(device.type, {}).get(group, 0):
        commands.append(f"vbuskit host mask {bus} {group} {of_all & ~used:#x}")
    if of_one := host.masks.get(device.uuid, {}).get(group, 0):
        commands.append(f"vbuskit host mask {bus} {group} {of_one & ~used:#x} --device {device.uuid}")
    all_of_it = " (without --device, too, when it is the bus that masks)" if of_one else ""
    return f"on {host.name}: {' && '.join(commands)}{all_of_it}"


def reopen(guest: GuestProfile, device: GuestDevice, group: int, bits: int) -> str:
    """The guest does without, before it moves; what the source masks of it, its profile does not say."""
    bus = quote(guest.bus.name or guest.name)
    where = "at the source" if group or masks_offloads(guest.release) else THIRD_HOST
    return (
        f"{where}: vbuskit host mask {bus} {group} {bits:#x} --device {device.uuid}, then have the "
        f"guest re-open it: reload {device.type} in the guest, or vbuskit host remove {bus} "
        f"--device {device.uuid} and add it again; a mask replaces the one before, so add "
        "what is masked there"
    )


MASKS_OFFLOADS = (0, 2)  # the first release whose worker masks feature group 0 (docs/decisions.md)
THIRD_HOST = (
    "on a third host, of vbuskit 0.2 or later, to which it moves first (`vbuskit gate plan GUEST SOURCE "
    "DESTINATION --through HOST...` finds one)"
)


def masks_offloads(release: str) -> bool:
    return (version(release) or MASKS_OFFLOADS) >= MASKS_OFFLOADS


BUILT_IN = ("venet-loopback", "venet-tap", "venet-passt", "vblk-file")


def add_class(guest: GuestProfile, device: GuestDevice, host: HostProfile) -> str:
    if device.klass in BUILT_IN:
        return update(guest, host)
    return f"on {host.name}: vbuskit host classes --add MODULE, the module that {guest.name}'s host has"


def lower(guest: GuestProfile, device: GuestDevice, name: str, most: int) -> str:
    """The guest makes do with less."""
    if name == "mtu":
        return f"in the guest: ip link set dev CARD mtu {most}"
    if name in MANY:
        return reopen(guest, device, *MANY[name])
    return f"have the guest's driver of {device.type} use {most}, and capture the guest again"


MANY = {"pairs": (3, 0x2), "queues": (3, 0x2)}  # the group and bit without which there is one


def network(device: GuestDevice, host: HostProfile) -> str:
    """A tap of one queue: vbusd opens no other."""
    name = quote(device.backend)
    if is_socket(device):
        return f"on {host.name}: passt --socket {name}"
    return (
        f"on {host.name}: ip tuntap add dev {name} mode tap && ip link set dev {name} master BRIDGE up, or, "
        "when something there does so with whatever vbusd makes, add the name to networks in the profile"
    )


def is_socket(device: GuestDevice) -> bool:
    return device.backend.startswith("/")
