# SPDX-License-Identifier: MIT
"""Rules about devices: their class, what they have at most, and what they stand on."""

from __future__ import annotations

from collections.abc import Iterator

from vbuskit.migration.judgement import Finding, Side, refuse, require
from vbuskit.migration.profile import GuestDevice, GuestProfile, HostProfile
from vbuskit.migration.remedies import add_class, is_socket, lower, network, update

# What every class of a type has: a host that tells no limit has these.
LEAST = {"mtu": 1500, "pairs": 1, "queues": 1}


def classes(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    there = {each.name: each for each in host.classes}
    for device in guest.devices:
        found = there.get(device.klass)
        if not found:
            yield refuse(
                "class-missing",
                Side.DESTINATION,
                f"class {device.klass}",
                f"{host.name} has no such class, and the device would not be there",
                add_class(guest, device, host),
                of=device.uuid,
            )
        elif found.type != device.type:
            yield refuse(
                "class-type",
                Side.DESTINATION,
                f"class {device.klass}",
                f"it is of type {found.type} on {host.name}, and the guest's driver is for {device.type}",
                add_class(guest, device, host),
                of=device.uuid,
            )
        elif found.version != device.version:
            yield refuse(
                "class-version",
                Side.DESTINATION,
                f"{device.type} version {device.version}",
                f"class {device.klass} of {host.name} has version {found.version}, and refuses to open it",
                add_class(guest, device, host),
                of=device.uuid,
            )


def limits(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """A device that is closed asks anew, and takes what it gets."""
    there = {each.name: each for each in host.classes}
    for device in guest.devices:
        found = there.get(device.klass)
        if device.is_open and found:
            for name, value in device.limits.items():
                yield from limit(guest, device, host, name, value, found.limits.get(name))


def limit(
    guest: GuestProfile, device: GuestDevice, host: HostProfile, name: str, value: int, most: int | None
) -> Iterator[Finding]:
    subject = f"{device.type} {name} {value}"
    if most is None and value > LEAST.get(name, 0):
        yield require(
            "limit-unknown",
            Side.DESTINATION,
            subject,
            f"{host.name} does not tell what class {device.klass} has at most",
            f"capture {host.name} again, with a vbusd that tells it",
            of=device.uuid,
        )
    elif most is not None and value > most:
        yield refuse(
            "limit-low",
            Side.DESTINATION,
            subject,
            f"the guest counts on it, and class {device.klass} of {host.name} has {most} at most",
            update(guest, host),
            lower(guest, device, name, most),
            of=device.uuid,
        )


def backends(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """Interfaces and sockets; images have rules of their own. No back end is told: it needs none."""
    for device in guest.devices:
        if not device.backend or device.type == "vblk":
            continue
        if device.backend in host.networks:
            yield from held(device, host)
        elif device.type == "venet":
            yield missing(device, host)
        elif all(image.path != device.backend for image in host.images):
            yield require(
                "backend-unknown",
                Side.DESTINATION,
                device.backend,
                f"{host.name} tells of no such interface, socket or image, on which a {device.type} stands",
                f"make it on {host.name}, and capture that again",
                of=device.uuid,
            )


def held(device: GuestDevice, host: HostProfile) -> Iterator[Finding]:
    """It may be the guest's own, made before the guest comes."""
    holder = host.held.get(device.backend, device.uuid)
    if holder != device.uuid:
        yield require(
            "network-missing",
            Side.DESTINATION,
            device.backend,
            f"device {holder} of {host.name} has it open, and it serves one",
            f"remove that device on {host.name}, or give it another one, and capture {host.name} again",
            "name another one in the domain that goes there (virsh migrate --xml)",
            of=device.uuid,
        )


def missing(device: GuestDevice, host: HostProfile) -> Finding:
    """A tap is no more than a name: vbusd makes one, but only its administrator knows where it leads."""
    return require(
        "network-missing",
        Side.DESTINATION,
        device.backend,
        f"nobody listens there on {host.name}, and vbusd makes no such device"
        if is_socket(device)
        else f"{host.name} has no such tap that is up and free, and the one that vbusd makes is down and in "
        "no bridge",
        network(device, host),
        of=device.uuid,
    )
