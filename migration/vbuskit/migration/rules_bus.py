# SPDX-License-Identifier: MIT
"""Rules about the bridge: its wire, its sizes, its option ROM, and what connects it."""

from __future__ import annotations

from collections.abc import Iterator

from vbuskit.migration.features import each_bit
from vbuskit.migration.judgement import Finding, Side, refuse, require
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.remedies import update


def bridge(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """To a guest of one wire another one is no bus at all; a bit of the bridge is picked for good."""
    if guest.bus.version != host.bus.version:
        yield refuse(
            "bus-version",
            Side.DESTINATION,
            f"bridge version {guest.bus.version}",
            f"{host.name} serves version {host.bus.version}, and the guest's driver would not find its bus",
            update(guest, host),
        )
    for bit in each_bit(guest.bus.features & ~host.bus.features):
        yield refuse(
            "bus-feature",
            Side.DESTINATION,
            f"bridge bit {bit:#x}",
            f"the guest picked it in NEGOTIATE, and {host.name} does not offer it",
            update(guest, host),
        )


def sizes(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """Window and vectors are the PCI device's: they cannot change under a running guest."""
    bus, there = guest.bus, host.bus
    for rule, subject, value, least, most in (
        ("window-size", "window of {} MiB", bus.window, there.window_min, there.window_max),
        ("vectors", "{} vectors", bus.vectors, there.vectors_min, there.vectors_max),
        ("queues", "{} queues", bus.queues, 0, there.queues_max),
    ):
        if not least <= value <= most:
            yield refuse(
                rule,
                Side.DESTINATION,
                subject.format(value),
                f"{host.name} has {least} to {most}, and a running guest's bridge keeps its own",
                update(guest, host),
            )


def rom(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """A ROM is a block of memory that moves along: both sides need one, of one size.

    What the domain says moves along as well; below that size QEMU takes any file.
    """
    mine, there = guest.bus.rom, host.bus.rom
    fits = 0 < there <= mine if guest.bus.romsize else there == mine
    if mine and not fits:
        what = f"{host.name}'s would get {there} bytes" if there else f"{host.name} has none"
        yield require(
            "rom-size" if there else "rom-missing",
            Side.DESTINATION,
            f"option ROM of {mine} bytes",
            f"{what}, and QEMU loads it only into as many as it had",
            f"copy the file that the domain names as romfile to {host.name}, say romsize={mine} in its "
            f"<qemu:override>, and capture {host.name} with --rom FILE",
        )


def connector(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    name = guest.bus.connector
    if name == "file":
        yield refuse(
            "connector",
            Side.GUEST,
            name,
            "a process has its window open as a file: no QEMU, nothing that could be moved",
            f"end the process, and start it on {host.name}",
        )
    elif name not in host.bus.connectors:
        yield refuse(
            "connector",
            Side.DESTINATION,
            name,
            f"{host.name} has no such connector (there: {', '.join(host.bus.connectors) or 'none'})",
            update(guest, host),
        )
