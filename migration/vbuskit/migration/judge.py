# SPDX-License-Identifier: MIT
"""The rules: what a guest consumes, held against what a host offers. Pure, and each rule is a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vbuskit.migration.features import bit_name, each_bit, whole
from vbuskit.migration.judgement import Finding, Judgement, Side, Verdict
from vbuskit.migration.profile import DeviceClass, GuestDevice, GuestProfile, HostProfile
from vbuskit.migration.unknown import unknown_fields

Rule = Callable[[GuestProfile, HostProfile], Iterator[Finding]]


def judge(guest: GuestProfile, host: HostProfile) -> Judgement:
    """Whether the guest may move to the host, with every reason against it."""
    found = [finding for rule in RULES for finding in rule(guest, host)]
    return Judgement(guest.name, host.name, tuple(found))


def machine(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if guest.machine not in host.machines:
        yield Finding(
            "machine-unknown",
            Verdict.NO,
            Side.DESTINATION,
            guest.machine,
            f"QEMU {host.qemu} of {host.name} has no such machine type",
            (f"update QEMU of {host.name}",),
        )


def features(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """A guest that is re-opened asks for the very bits that it had."""
    classes = {each.name: each for each in host.classes}
    for device in guest.devices:
        if device.klass in classes:
            yield from lost_bits(device, classes[device.klass], host)


def lost_bits(device: GuestDevice, there: DeviceClass, host: HostProfile) -> Iterator[Finding]:
    for group, active in device.active.items():
        has = there.groups.get(group, 0)
        mask = host.mask.get(device.type, {}).get(group, 0) | host.masks.get(device.uuid, {}).get(group, 0)
        offered = whole(device.type, group, has & ~mask)
        for bit in each_bit(active & ~offered):
            name = bit_name(device.type, group, bit)
            if has & bit:
                yield Finding(
                    "feature-masked",
                    Verdict.IF,
                    Side.DESTINATION,
                    name,
                    f"the guest uses it, and {host.name} masks it",
                    (f"take it out of the mask on {host.name}",),
                    device.uuid,
                )
            else:
                yield Finding(
                    "feature-missing",
                    Verdict.NO,
                    Side.DESTINATION,
                    name,
                    f"the guest uses it, and class {there.name} of {host.name} does not have it",
                    (f"update vbuskit on {host.name}", "mask it at the source, and have the guest re-open"),
                    device.uuid,
                )


RULES: tuple[Rule, ...] = (unknown_fields, machine, features)
