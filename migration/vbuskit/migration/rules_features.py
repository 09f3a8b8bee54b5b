# SPDX-License-Identifier: MIT
"""The rule of features: a guest that is re-opened asks for the very bits that it had."""

from __future__ import annotations

from collections.abc import Iterator

from vbuskit.migration.features import bit_name, each_bit, needs, whole
from vbuskit.migration.judgement import Finding, Side, refuse, require
from vbuskit.migration.profile import DeviceClass, GuestDevice, GuestProfile, HostProfile
from vbuskit.migration.remedies import reopen, unmask, update


def features(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """A device that is closed negotiates anew."""
    classes = {each.name: each for each in host.classes}
    for device in guest.devices:
        there = classes.get(device.klass)
        if device.is_open and there and there.type == device.type:
            for group, active in device.active.items():
                yield from lost(guest, device, there, host, group, active)


def lost(
    guest: GuestProfile, device: GuestDevice, there: DeviceClass, host: HostProfile, group: int, active: int
) -> Iterator[Finding]:
    has = there.groups.get(group, 0)
    masks = (host.mask.get(device.type, {}), host.masks.get(device.uuid, {}))
    offered = has & ~(masks[0].get(group, 0) | masks[1].get(group, 0))
    gone = active & ~whole(device.type, group, active & offered)
    unmasked = whole(device.type, group, active & has)
    for bit in each_bit(gone):
        cause = bit if not offered & bit else needs(device.type, group, bit) & active & ~offered
        if cause != bit:
            rule, why = "feature-depends", because(device.type, group, cause)
        elif has & bit:
            rule, why = "feature-masked", f"{host.name} masks it"
        else:
            rule, why = "feature-missing", f"class {there.name} of {host.name} does not have it"
        there_is = (has if cause == bit else unmasked) & bit
        yield (require if there_is else refuse)(
            rule,
            Side.DESTINATION,
            bit_name(device.type, group, bit),
            f"the guest uses it, and {why}",
            unmask(guest, device, host, group) if there_is else update(guest, host),
            reopen(guest, device, group, gone),
            of=device.uuid,
        )


def because(kind: str, group: int, cause: int) -> str:
    if not cause:
        return "no host offers it without the bits that it needs: capture the guest again"
    names = " and ".join(bit_name(kind, group, bit) for bit in each_bit(cause))
    return f"it falls with {names}"
