# SPDX-License-Identifier: MIT
"""What a pool of hosts has in common, as if it were one host, and what keeps a guest within it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import and_, or_
from uuid import NAMESPACE_URL, UUID, uuid5

from vbuskit.migration.features import bit_name, each_bit, whole
from vbuskit.migration.profile import (
    EMULATED,
    SCHEMA,
    DeviceClass,
    Groups,
    GuestBus,
    GuestDevice,
    GuestProfile,
    HostBus,
    HostProfile,
    Image,
    Masks,
)
from vbuskit.migration.remedies import masks_offloads, version
from vbuskit.migration.rules_machine import OVERRIDE_SINCE

OURS = "https://vbuskit.invalid/gate/"
# Of CPU models that are known by age, the later is taken; others are known by their names alone.
CPUS = (
    *("qemu32", "qemu64", "kvm32", "kvm64", "x86-64-v2", "x86-64-v3", "x86-64-v4"),
    *("Conroe", "Penryn", "Nehalem", "Westmere", "SandyBridge", "IvyBridge", "Haswell-noTSX", "Haswell"),
    *("Broadwell-noTSX", "Broadwell", "Skylake-Client", "Skylake-Server", "Cascadelake-Server"),
    *("Icelake-Server", "SapphireRapids", "GraniteRapids"),
    *("Opteron_G3", "Opteron_G4", "Opteron_G5", "EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa"),
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """`host`: the largest common set. `lacking`: what they do not share, so that no guest runs on all."""

    host: HostProfile
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pin:
    """A mask that keeps what starts on `host` within the baseline; without `klass` it is the bus's own.

    `bits` are all that the mask has to have, `names` those that it takes from what the host offers now.
    device: the only one of the class that it is for, or None
    """

    host: str
    group: int
    bits: int
    names: tuple[str, ...]
    klass: str = ""
    device: UUID | None = None


def offered(host: HostProfile, there: DeviceClass, device: UUID | None = None) -> Groups:
    """Feature bits by group that a device of that class is offered, masks taken away."""
    of_type = host.mask.get(there.type, {})
    own = host.masks.get(device, {}) if device else {}
    rest = {
        group: bits & ~of_type.get(group, 0) & ~own.get(group, 0) for group, bits in there.groups.items()
    }
    return {group: whole(there.type, group, bits) for group, bits in rest.items()}


def masks_group(host: HostProfile, group: int) -> bool:
    """The worker of v0.1 masked nothing of group 0 (docs/decisions.md)."""
    return bool(group) or masks_offloads(host.release)


def newest(machines: Sequence[str]) -> str | None:
    """The machine type with the highest version; of two families q35 goes first."""
    return max(machines, key=lambda name: (generation(name), "q35" in name, name), default=None)


def newest_cpu(cpus: Sequence[str]) -> str | None:
    """One that runs under KVM goes before any that QEMU emulates."""

    def age(name: str) -> tuple[bool, int, str]:
        model = name.removeprefix(EMULATED)
        return name == model, CPUS.index(model) if model in CPUS else -1, name

    return max(cpus, key=age, default=None)


def generation(name: str) -> tuple[int, ...]:
    """The numbers at the end: pc-q35-10.0 is later than pc-q35-7.2."""
    found = re.search(r"\d+(\.\d+)*$", name, re.ASCII)
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def baseline(hosts: Sequence[HostProfile]) -> Baseline:
    """Of one host or more; in the order of the first one."""
    first, buses = hosts[0], [each.bus for each in hosts]
    bus = HostBus(
        version=min(each.version for each in buses),
        features=reduce(and_, (each.features for each in buses)),
        connectors=common([each.connectors for each in buses]),
        window_min=max(each.window_min for each in buses),
        window_max=min(each.window_max for each in buses),
        vectors_min=max(each.vectors_min for each in buses),
        vectors_max=min(each.vectors_max for each in buses),
        queues_max=min(each.queues_max for each in buses),
        rom=buses[0].rom if len({each.rom for each in buses}) == 1 else 0,
    )
    oldest = min(hosts, key=lambda each: version(each.release))
    found = HostProfile(
        schema=SCHEMA,
        identity=uuid5(NAMESPACE_URL, OURS + ",".join(sorted(str(each.identity) for each in hosts))),
        name=f"baseline of {len(hosts)}",
        release=oldest.release,
        captured=min(each.captured for each in hosts),
        arch=first.arch,
        qemu=min((each.qemu for each in hosts), key=version),
        libvirt=min((each.libvirt for each in hosts), key=version),
        bus=bus,
        machines=common([each.machines for each in hosts]),
        cpus=common([each.cpus for each in hosts]),
        classes=tuple(common_classes(hosts)),
        masks=all_masks(hosts),
        networks=common([each.networks for each in hosts]),
        images=tuple(common_images(hosts)),
    )
    return Baseline(found, tuple(lacking(hosts, found)))


def common(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shared = set(lists[0]).intersection(*lists[1:])
    return tuple(each for each in lists[0] if each in shared)


def common_classes(hosts: Sequence[HostProfile]) -> Iterator[DeviceClass]:
    tables = [{each.name: each for each in host.classes} for host in hosts]
    for first in hosts[0].classes:
        own = [table[first.name] for table in tables if first.name in table]
        if len(own) < len(hosts) or any(
            (each.type, each.version) != (first.type, first.version) for each in own
        ):
            continue
        bits = [offered(host, each) for host, each in zip(hosts, own, strict=True)]
        least = {group: reduce(and_, (each.get(group, 0) for each in bits)) for group in bits[0]}
        groups = {group: whole(first.type, group, left) for group, left in least.items()}
        yield DeviceClass(
            name=first.name,
            type=first.type,
            version=first.version,
            groups={group: left for group, left in groups.items() if left},
            limits={
                name: min(each.limits[name] for each in own)
                for name in first.limits
                if all(name in each.limits for each in own)
            },
        )


def all_masks(hosts: Sequence[HostProfile]) -> Masks:
    """Of single devices: what one host takes is not offered by all."""
    found: dict[UUID, dict[int, int]] = {}
    for host in hosts:
        for uuid, groups in host.masks.items():
            own = found.setdefault(uuid, {})
            for group, bits in groups.items():
                own[group] = own.get(group, 0) | bits
    return found


def common_images(hosts: Sequence[HostProfile]) -> Iterator[Image]:
    """Those that are shared and told alike by all."""
    for each in hosts[0].images:
        if each.shared and all(each in host.images for host in hosts[1:]):
            yield each


def lacking(hosts: Sequence[HostProfile], found: HostProfile) -> Iterator[str]:
    if len({each.arch for each in hosts}) > 1:
        yield f"architecture: {', '.join(sorted({each.arch for each in hosts}))}"
    if len({each.bus.version for each in hosts}) > 1:
        yield f"bridge version: {', '.join(map(str, sorted({each.bus.version for each in hosts})))}"
    if not found.machines:
        yield "machine type: none that all have"
    if not found.cpus:
        yield "CPU model: none that all have"
    if not found.bus.connectors:
        yield "connector: none that all have"
    for what, least, most in (
        ("window, MiB", found.bus.window_min, found.bus.window_max),
        ("vectors", found.bus.vectors_min, found.bus.vectors_max),
    ):
        if least > most:
            yield f"{what}: one needs {least}, another has at most {most}"


def consumer(host: HostProfile) -> GuestProfile:
    """A guest of the host that consumes all it offers, on its newest machine; without image and network.

    Its domain says master=on so that the host's libvirt hears it.
    """
    return GuestProfile(
        schema=host.schema,
        identity=uuid5(NAMESPACE_URL, f"{OURS}consumer/{host.identity}"),
        name=host.name,
        release=host.release,
        captured=host.captured,
        host=host.identity,
        arch=host.arch,
        machine=newest(host.machines) or "none",
        cpu=newest_cpu(host.cpus) or "none",
        bus=GuestBus(
            version=host.bus.version,
            features=host.bus.features,
            connector=host.bus.connectors[0] if host.bus.connectors else "none",
            window=host.bus.window_max,
            vectors=host.bus.vectors_max,
            queues=host.bus.queues_max,
            rom=host.bus.rom,
            master="global" if version(host.libvirt) < OVERRIDE_SINCE else "override",
        ),
        devices=tuple(
            GuestDevice(
                uuid=uuid5(NAMESPACE_URL, f"{OURS}class/{each.name}"),
                type=each.type,
                version=each.version,
                klass=each.name,
                is_open=True,
                active={group: bits for group, bits in offered(host, each).items() if bits},
                limits=each.limits,
            )
            for each in host.classes
        ),
    )


def pins(host: HostProfile, pool: HostProfile, guest: GuestProfile | None = None) -> Iterator[Pin]:
    """The masks for `host`: one a group if it takes nothing that another class keeps, else one a class.

    Of a guest of which a host masks single devices already: one a group of each device.
    """
    if guest and any(each.uuid in pool.masks for each in guest.devices):
        yield from device_pins(host, pool, guest)
        return
    keeps = {each.name: each for each in pool.classes}
    shared = [each for each in host.classes if each.name in keeps]
    for group in sorted({group for each in shared for group in each.groups}):
        taken: dict[str, int] = {}
        masked: dict[str, int] = {}
        for each in shared:
            bits = offered(host, each).get(group, 0) & ~keeps[each.name].groups.get(group, 0)
            taken[each.name] = bits
            masked[each.name] = bits | host.mask.get(each.type, {}).get(group, 0)
        own = {each.name: list(names(each, group, taken[each.name])) for each in shared if taken[each.name]}
        union = reduce(or_, masked.values())
        if own and not any(union & keeps[each.name].groups.get(group, 0) for each in shared):
            yield Pin(host.name, group, union, tuple(dict.fromkeys(chain(*own.values()))))
        else:
            yield from (Pin(host.name, group, masked[name], tuple(own[name]), name) for name in own)


def device_pins(host: HostProfile, pool: HostProfile, guest: GuestProfile) -> Iterator[Pin]:
    there, keeps = ({each.name: each for each in side.classes} for side in (host, pool))
    for device in guest.devices:
        if device.klass not in keeps:
            continue
        klass = there[device.klass]
        left = offered(pool, keeps[device.klass], device.uuid)
        for group, bits in offered(host, klass, device.uuid).items():
            if taken := bits & ~left.get(group, 0):
                before = host.mask.get(klass.type, {}).get(group, 0)
                before |= host.masks.get(device.uuid, {}).get(group, 0)
                own = tuple(names(klass, group, taken))
                yield Pin(host.name, group, taken | before, own, klass.name, device.uuid)


def names(there: DeviceClass, group: int, bits: int) -> Iterator[str]:
    return (bit_name(there.type, group, bit) for bit in each_bit(bits))
