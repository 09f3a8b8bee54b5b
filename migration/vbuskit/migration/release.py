# SPDX-License-Identifier: MIT
"""What a release offers whoever runs it where, and which guests of one release another would strand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from msgspec import Struct, field

from vbuskit.migration.features import bit_name, each_bit, whole
from vbuskit.migration.profile import DeviceClass, HostBus, Name, Schema, Unknown
from vbuskit.migration.rules_devices import LEAST


class Release(Struct, frozen=True, kw_only=True, tag_field="kind", tag="release"):
    """A release, as a vbusd and a worker of it say themselves (offer.py).

    wire:  lines of drivers/include/wire.txt: how a guest's window is laid out, which moves with it
    saved: the same of what one vbusd leaves to the next one of this host
    """

    schema: Schema
    release: Name
    bus: HostBus
    classes: tuple[DeviceClass, ...] = ()
    wire: tuple[Name, ...] = ()
    saved: tuple[Name, ...] = ()
    unknown: Unknown = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loss:
    """What guests of one release may use and another one does not give them.

    subject: `venet-tap: venet sg.tso6`, `bridge: window_max`; was, now: what each release has of it
    guests:  those that cannot go there
    bits:    (class, group, bits) of a mask that keeps guests from using it; None: no mask does
    """

    subject: str
    was: str
    now: str
    guests: str
    bits: tuple[str, int, int] | None = None

    def __str__(self) -> str:
        return f"{self.subject}: {self.was} -> {self.now}: {self.guests}"


def losses(old: Release, new: Release) -> Iterator[Loss]:
    """What guests of `old`, each of which may use all that it offers, would miss on `new`."""
    yield from bridge_losses(old.bus, new.bus)
    there = {each.name: each for each in new.classes}
    for klass in old.classes:
        if klass.name in there:
            yield from class_losses(klass, there[klass.name])
        else:
            yield Loss(klass.name, "offered", "gone", f"guests with a {klass.name}")
    for path in old.unknown:
        yield Loss(path, "there", "not understood", "any: a newer vbuskit wrote this profile, ask that one")


FLOORS = ("window_min", "vectors_min")
CEILINGS = ("window_max", "vectors_max", "queues_max")


def bridge_losses(old: HostBus, new: HostBus) -> Iterator[Loss]:
    if old.version != new.version:
        yield Loss("bridge: version", str(old.version), str(new.version), "all guests")
    for bit in each_bit(old.features & ~new.features):
        yield Loss(f"bridge: bit {bit:#x}", "offered", "gone", "guests whose bus uses it")
    for name in old.connectors:
        if name not in new.connectors:
            yield Loss(f"bridge: connector {name}", "offered", "gone", f"guests that come by {name}")
    if old.rom and old.rom != new.rom:
        yield Loss(
            "bridge: rom", str(old.rom), str(new.rom), f"guests with an option ROM of {old.rom} bytes"
        )
    for name in (*FLOORS, *CEILINGS):
        was, now = getattr(old, name), getattr(new, name)
        if name in FLOORS and now > was:
            yield Loss(f"bridge: {name}", str(was), str(now), f"guests with less than {now}")
        if name in CEILINGS and now < was:
            yield Loss(f"bridge: {name}", str(was), str(now), f"guests with more than {now}")


def class_losses(old: DeviceClass, new: DeviceClass) -> Iterator[Loss]:
    whose = f"guests with a {old.name}"
    for word in ("type", "version"):
        was, now = getattr(old, word), getattr(new, word)
        if was != now:
            yield Loss(f"{old.name}: {word}", str(was), str(now), whose)
    for group, bits in old.groups.items():
        has = whole(new.type, group, new.groups.get(group, 0))
        for bit in each_bit(whole(old.type, group, bits) & ~has):
            name = bit_name(old.type, group, bit)
            yield Loss(
                f"{old.name}: {name}", "offered", "gone", f"{whose} that use it", (old.name, group, bit)
            )
    told = {name: most for name, most in LEAST.items() if name in new.limits}
    for name, most in {**told, **old.limits}.items():
        if name not in new.limits:
            yield Loss(f"{old.name}: {name}", str(most), "not told", f"{whose} that count on it")
        elif new.limits[name] < most:
            least = new.limits[name]
            yield Loss(f"{old.name}: {name}", str(most), str(least), f"{whose} and more than {least} {name}")


def masks(missed: Iterable[Loss]) -> Mapping[tuple[str, int], int]:
    """{(class, group): bits} that keep guests from all of it that a mask can keep them from."""
    found: dict[tuple[str, int], int] = {}
    for each in missed:
        if each.bits:
            klass, group, bit = each.bits
            found[klass, group] = found.get((klass, group), 0) | bit
    return found
