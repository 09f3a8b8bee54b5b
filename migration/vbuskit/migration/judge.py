# SPDX-License-Identifier: MIT
"""What a guest consumes, held against what a host offers. Pure; each rule is a function of rules_*.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vbuskit.migration import (
    rules_bus,
    rules_devices,
    rules_disks,
    rules_features,
    rules_machine,
    rules_profile,
)
from vbuskit.migration.judgement import Finding, Judgement
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.unknown import unknown_fields

Rule = Callable[[GuestProfile, HostProfile], Iterator[Finding]]

ALWAYS: tuple[Rule, ...] = (
    rules_machine.arch,
    rules_machine.machine,
    rules_machine.cpu,
    rules_bus.bridge,
    rules_bus.sizes,
    rules_devices.classes,
    rules_features.features,
    rules_devices.limits,
    rules_devices.backends,
    rules_disks.images,
)
# What stays may have a local disk, the host's own CPU, a ROM, and a connector that cannot move.
MOVING: tuple[Rule, ...] = (
    unknown_fields,
    rules_machine.pinned,
    rules_machine.libvirt,
    rules_bus.connector,
    rules_bus.rom,
    rules_disks.blocks,
    rules_disks.writers,
)
# No other host's: of the guest's own, or only told.
INFORMING: tuple[Rule, ...] = (rules_profile.same_host, rules_profile.drivers)
RULES: tuple[Rule, ...] = (*ALWAYS, *MOVING)  # what decides about a move


def judge(guest: GuestProfile, host: HostProfile) -> Judgement:
    """Whether the guest may move to the host, with every reason against it."""
    rules = ALWAYS if rules_profile.is_same_host(guest, host) else RULES
    found = (finding for rule in (*rules, *INFORMING) for finding in rule(guest, host))
    return Judgement(guest.name, host.name, tuple(found))
