# SPDX-License-Identifier: MIT
"""Rules about disks: the same image at both hosts, and never two who write it."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from vbuskit.migration.judgement import Finding, Side, require
from vbuskit.migration.profile import GuestDevice, GuestProfile, HostProfile, Image


def disks(guest: GuestProfile, host: HostProfile) -> Iterator[tuple[GuestDevice, Image | None]]:
    """A module's device, too, when what it stands on is an image there."""
    there = {image.path: image for image in host.images}
    for device in guest.devices:
        image = there.get(device.backend)
        if device.backend and (device.type == "vblk" or image):
            yield device, image


def images(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """Also of a device that is closed: the back end is the host's, and is opened without the guest."""
    for device, image in disks(guest, host):
        path = quote(device.backend)
        if not image:
            yield require(
                "disk-missing",
                Side.DESTINATION,
                device.backend,
                f"{host.name} does not reach this image",
                f"mount the storage that it lies on at the same path on {host.name}, and capture that again",
                of=device.uuid,
            )
            continue
        if not image.writable and not device.read_only:
            yield require(
                "disk-read-only",
                Side.DESTINATION,
                device.backend,
                f"the guest writes it, and {host.name} can only read it",
                f"on {host.name}: mount -o remount,rw its file system, or let vbusd's user write {path}",
                of=device.uuid,
            )
        if image.size < device.capacity:
            yield require(
                "disk-small",
                Side.DESTINATION,
                device.backend,
                f"it has {image.size} bytes on {host.name}, and the guest's disk {device.capacity}",
                f"on {host.name}: truncate -s {device.capacity} {path}, or see why it is not the same image",
                of=device.uuid,
            )


def writers(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    for device, image in disks(guest, host):
        if image and not image.shared:
            yield local(device, host)
        elif image and not device.read_only and image.lock != "ofd":
            yield unlocked(device, host, image)


def blocks(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """The guest compares, and its disk fails: also when they are smaller there."""
    for device, image in disks(guest, host):
        if image and device.block_size and image.block_size not in (0, device.block_size):
            yield require(
                "disk-block-size",
                Side.DESTINATION,
                device.backend,
                f"the guest's blocks have {device.block_size} bytes, and {host.name} reads it by "
                f"{image.block_size}",
                f"on {host.name}: losetup --find --show --sector-size {device.block_size} "
                f"{quote(device.backend)}, and name that loop device in the domain that goes there",
                f"when the domain itself says block_size={device.block_size}: say so of the image in the "
                "profile",
                of=device.uuid,
            )


def local(device: GuestDevice, host: HostProfile) -> Finding:
    """Storage is the administrator's: to share it touches no guest. A copy does, while the guest writes."""
    return require(
        "disk-local",
        Side.DESTINATION,
        device.backend,
        f"what {host.name} has at this path may be a file or a disk of its own, whatever is in it",
        "have both hosts mount one storage at this path (the source may export its own by NFSv4), or say "
        "shared in the profile when it is one and the same disk",
        "it is read-only: copy it, compare sha256sum of both, and say shared in the profile"
        if device.read_only
        else "shut the guest down, copy the image, and start the guest there",
        of=device.uuid,
    )


def unlocked(device: GuestDevice, host: HostProfile, image: Image) -> Finding:
    if image.lock == "none":
        return require(
            "disk-unlocked",
            Side.DESTINATION,
            device.backend,
            f"{host.name}'s mount has no locks, so nothing keeps a second writer out",
            f"on {host.name}: mount it by NFSv4, without nolock and local_lock",
            of=device.uuid,
        )
    return require(
        "disk-lock-local",
        Side.DESTINATION,
        device.backend,
        f"a lock that {host.name} takes on it is not seen by the source, nor the source's there",
        "serve it by storage that has locks (NFSv4), or activate it on one host at a time (lvchange "
        "--activate ey under lvmlockd) and say ofd in the profile",
        of=device.uuid,
    )
