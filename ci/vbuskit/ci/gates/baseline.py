# SPDX-License-Identifier: MIT
"""`vbuskit gate baseline HOST...`: what a pool has in common, and what keeps a guest within it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec

from vbuskit.base.errors import Exit, printable
from vbuskit.ci.gates.profiles import hosts_of
from vbuskit.drivers.description import QEMU
from vbuskit.migration.baseline import Baseline, Pin, baseline, masks_group, newest, newest_cpu, pins
from vbuskit.migration.features import bit_name, each_bit
from vbuskit.migration.profile import EMULATED, GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile
from vbuskit.migration.remedies import MANY, version
from vbuskit.migration.rules_machine import OVERRIDE_SINCE

ROMSIZE = 65536  # least, where the ROMs of a pool differ: a later one fits, and so the bar stays
ALIAS = "ua-vbus"  # of the bridge, as `vbuskit host domxml` has it


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
        "domain": "" if found.lacking else domain(found.host, romsize(hosts)),
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
        yield from (f"  {printable(line)}" for line in domain(found.host, romsize(hosts)).splitlines())


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
    for pin in pins(host, shared, guest):
        heeded = masks_group(host, pin.group)
        but = "" if heeded else f"; vbuskit {host.release} does not heed it: start the guest elsewhere"
        for device in targets(pin, guest):
            where = f" --device {device}" if device else ""
            comment = printable(f"{', '.join(pin.names)}{but}")
            yield f"vbuskit host mask {bus} {pin.group} {pin.bits:#x}{where}  # {comment}"
    yield from rings(host, shared)


def rings(host: HostProfile, shared: HostProfile) -> Iterator[str]:
    """Comments: a guest that starts there takes more than all have, unless a mask leaves it one."""
    keeps = {each.name: each.limits for each in shared.classes}
    for each in host.classes:
        for name, (group, bit) in MANY.items():
            least, most = keeps.get(each.name, {}).get(name), each.limits.get(name, 0)
            if least is not None and most > least:
                yield printable(
                    f"# class {each.name} has {most} {name}, and all have {least}: no mask makes it that; "
                    f"a mask of {bit_name(each.type, group, bit)} leaves 1"
                )


def targets(pin: Pin, guest: GuestProfile | None) -> list[str]:
    if pin.device:
        return [str(pin.device)]
    if not pin.klass:
        return [""]
    if guest is None:
        return [quote(f"UUID-of-{pin.klass}")]
    return [str(each.uuid) for each in guest.devices if each.klass == pin.klass]


def romsize(hosts: Sequence[HostProfile]) -> int:
    """Of the bar of the option ROM: the one that all have, else one that each ROM fits in; 0: none."""
    sizes = [each.bus.rom for each in hosts]
    if not all(sizes) or len(set(sizes)) == 1:
        return min(sizes)
    return 1 << (max(ROMSIZE, *sizes) - 1).bit_length()


def domain(shared: HostProfile, rom: int) -> str:
    """What a domain's XML has to say, in words that every libvirt of the pool hears."""
    arch, machine = (quoteattr(printable(each)) for each in (shared.arch, newest(shared.machines) or ""))
    told = printable(newest_cpu(shared.cpus) or "")
    cpu = escape(told.removeprefix(EMULATED))
    emulated = "<!-- in <domain type='qemu'> -->\n" if told.startswith(EMULATED) else ""
    words = {"master": ("string", "on")} | ({"romsize": ("unsigned", str(rom))} if rom else {})
    return f"""\
{emulated}<os><type arch={arch} machine={machine}>hvm</type></os>
<cpu mode='custom' match='exact'><model fallback='forbid'>{cpu}</model></cpu>
{bridge(shared, words)}"""


def bridge(shared: HostProfile, words: Mapping[str, tuple[str, str]]) -> str:
    """Properties of the bridge's device: an older libvirt passes over <qemu:override> without a word."""
    if version(shared.libvirt) < OVERRIDE_SINCE:
        of_all = "\n".join(
            f"  <qemu:arg value='-global'/><qemu:arg value='ivshmem-doorbell.{name}={value}'/>"
            for name, (_, value) in words.items()
        )
        return f"<qemu:commandline xmlns:qemu='{QEMU}'>\n{of_all}\n</qemu:commandline>"
    properties = "\n".join(
        f"    <qemu:property name='{name}' type='{kind}' value='{value}'/>"
        for name, (kind, value) in words.items()
    )
    return f"""\
<qemu:override xmlns:qemu='{QEMU}'>
  <qemu:device alias='{ALIAS}'><qemu:frontend>
{properties}
  </qemu:frontend></qemu:device>
</qemu:override>"""
