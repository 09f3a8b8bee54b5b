# SPDX-License-Identifier: MIT
"""`vbuskit gate baseline HOST...`: what a pool has in common, and what keeps a guest within it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec

from vbuskit.base.errors import Exit, printable
from vbuskit.ci.gates.profiles import hosts_of
from vbuskit.migration.baseline import Baseline, Pin, baseline, newest, newest_cpu, pins
from vbuskit.migration.features import bit_name, each_bit
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile

ROMSIZE = 65536  # of the bridge's option ROM, where there is one: a later ROM fits, and so the bar stays
ALIAS = "shmem0"  # libvirt's name of the domain's first shared memory


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "hosts", nargs="+", type=Path, metavar="HOST", help="profiles, or folders of them (*.json)"
    )
    parser.add_argument(
        "--guest", type=Path, metavar="GUEST", help="name its bus and devices in the commands"
    )
    parser.add_argument("--json", action="store_true", help="the baseline as a host's profile, and the rest")


def main(options: argparse.Namespace) -> Exit:
    hosts = hosts_of(options.hosts)
    guest = guest_profile(options.guest) if options.guest else None
    found = baseline(hosts)
    if options.json:
        print(json.dumps(as_json(hosts, found, guest), indent=1))
    else:
        print("\n".join(lines(hosts, found, guest)))
    return Exit.REFUSED if found.lacking else Exit.OK


def as_json(hosts: Sequence[HostProfile], found: Baseline, guest: GuestProfile | None) -> dict[str, Any]:
    return {
        "baseline": json.loads(msgspec.json.encode(found.host)),
        "lacking": found.lacking,
        "commands": {each.name: list(commands(each, found.host, guest)) for each in hosts},
        "domain": "" if found.lacking else domain(found.host),
    }


def lines(hosts: Sequence[HostProfile], found: Baseline, guest: GuestProfile | None) -> Iterator[str]:
    for each in found.lacking:
        yield printable(f"no guest runs on all {len(hosts)}: {each}")
    yield from (printable(line) for line in told(found.host))
    for host in hosts:
        for command in commands(host, found.host, guest):
            yield printable(f"on {host.name}: {command}")
    if not found.lacking:
        yield "in the domain:"
        yield from (f"  {printable(line)}" for line in domain(found.host).splitlines())


def told(shared: HostProfile) -> Iterator[str]:
    bus = shared.bus
    yield f"machine types: {', '.join(shared.machines) or 'none'}"
    yield f"CPU models: {', '.join(shared.cpus) or 'none'}"
    yield f"window: {bus.window_min} to {bus.window_max} MiB"
    yield f"vectors: {bus.vectors_min} to {bus.vectors_max}; queues: {bus.queues_max} at most"
    for each in shared.classes:
        bits = [
            bit_name(each.type, group, bit) for group in each.groups for bit in each_bit(each.groups[group])
        ]
        most = [f"{name} {value} at most" for name, value in each.limits.items()]
        yield f"class {each.name}: {', '.join([*bits, *most]) or 'no feature bits'}"


def commands(host: HostProfile, shared: HostProfile, guest: GuestProfile | None) -> Iterator[str]:
    """For the shell; a pin of one class is a line for each of the guest's devices of that class."""
    bus = quote(guest.bus.name or guest.name) if guest else "BUS"
    for pin in pins(host, shared):
        for device in targets(pin, guest):
            where = f" --device {device}" if device else ""
            comment = printable(", ".join(pin.names))
            yield f"vbuskit host mask {bus} {pin.group} {pin.bits:#x}{where}  # {comment}"


def targets(pin: Pin, guest: GuestProfile | None) -> list[str]:
    if not pin.klass:
        return [""]
    if guest is None:
        return [quote(f"UUID-of-{pin.klass}")]
    return [str(each.uuid) for each in guest.devices if each.klass == pin.klass]


def domain(shared: HostProfile) -> str:
    """What a domain's XML has to say; the ROM's size only where it has a ROM."""
    arch, machine = (quoteattr(printable(each)) for each in (shared.arch, newest(shared.machines) or ""))
    cpu = printable(newest_cpu(shared.cpus) or "").translate({ord("&"): "&amp;", ord("<"): "&lt;"})
    return f"""\
<os><type arch={arch} machine={machine}>hvm</type></os>
<cpu mode='custom' match='exact'><model fallback='forbid'>{cpu}</model></cpu>
<qemu:override xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <qemu:device alias='{ALIAS}'><qemu:frontend>
    <qemu:property name='romsize' type='unsigned' value='{ROMSIZE}'/>
  </qemu:frontend></qemu:device>
</qemu:override>"""
