# SPDX-License-Identifier: MIT
"""`vbuskit host`: start vbusd, tell it what to serve, see what it does."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from vbuskit.base.errors import Exit, Refused, UsageError
from vbuskit.base.places import Places, make
from vbuskit.base.run import Runner
from vbuskit.ci.hosttext import as_json, event_line, feature_lines, rates, table
from vbuskit.ci.hostwords import arguments
from vbuskit.drivers import description, proxy
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.description import BusDescription, DeviceDescription
from vbuskit.drivers.host import Device, Host

__all__ = ["arguments", "main"]


def main(options: argparse.Namespace) -> Exit:
    if options.verb == "up":
        up(options)
    if options.verb == "hook":
        hook(options)
        return Exit.OK
    if options.verb == "proxy":
        proxy.serve(options.socket, sys.stdin, sys.stdout)
        return Exit.OK
    if options.verb == "domxml" and options.bus.endswith(".toml"):
        print(description.domain_xml(description.read(Path(options.bus))))
        return Exit.OK
    with Host(options.socket) as host:
        VERBS[options.verb](host, options)
    return Exit.OK


def up(options: argparse.Namespace) -> None:
    """Hand the process over to vbusd: its lines go where ours would."""
    places = Places.from_environment()
    if not (places.tree / "drivers").is_dir():
        raise UsageError("up: needs a checkout to build vbusd", hint="systemctl start vbusd")
    program = host_programs(Runner(), places)["vbusd"].path
    make(options.socket.parent, mode=0o755)
    words = [str(program), "--socket", str(options.socket.absolute())]
    for name in ("qemu_user", "control_user", "worker_users"):
        if value := getattr(options, name):
            words += [f"--{name.replace('_', '-')}", value]
    if options.require_sandbox:
        words.append("--require-sandbox")
    os.execv(program, words)


def add(host: Host, options: argparse.Namespace) -> None:
    of_bus = options.qemu is not None or options.connector is not None
    if of_bus == (options.device is not None):
        raise UsageError("add: needs --qemu or --connector (a bus), or --device (a device of it)")
    if of_bus:
        connector = description.connector_of(options.connector or "ivshmem", "add: connector")
        place = options.qemu or description.place_of(options.bus, connector)
        bus = BusDescription(
            name=options.bus,
            socket=place.absolute(),
            connector=connector,
            window=options.window,
            vectors=options.vectors,
        )
        description.add_bus(host, bus)
    else:
        device = DeviceDescription(
            uuid=uuid(options.device),
            klass=options.klass,
            argument=options.argument or "",
            mac=options.mac or description.mac_of(uuid(options.device)),
            mtu=options.mtu,
            read_only=options.read_only,
            block_size=options.block_size,
            serial=options.serial,
        )
        description.add(host, options.bus, device)


def remove(host: Host, options: argparse.Namespace) -> None:
    if options.device:
        host.remove_device(options.bus, uuid(options.device))
    else:
        host.remove_bus(options.bus)


def mask(host: Host, options: argparse.Namespace) -> None:
    device = uuid(options.device) if options.device else None
    host.mask(options.bus, options.group, options.bits, uuid=device)


def change(host: Host, options: argparse.Namespace) -> None:
    """Every word is judged before the first one acts."""
    for word in options.words:
        if word not in SETTINGS:
            raise UsageError(f"set: {word!r} is not known", hint=f"there are: {', '.join(SETTINGS)}")
    for word in options.words:
        SETTINGS[word](host, options.bus, uuid(options.device))


def status(host: Host, options: argparse.Namespace) -> None:
    everything = [(bus, host.devices(bus.name)) for bus in host.buses()]
    if options.json:
        print(json.dumps([as_json(bus, devices) for bus, devices in everything], indent=2, default=str))
        return
    for bus, devices in everything:
        print("\n".join(table(bus, devices)))


def features(host: Host, options: argparse.Namespace) -> None:
    for bus in [host.bus(options.bus)] if options.bus else host.buses():
        for line in feature_lines(bus.name, host.devices(bus.name)):
            print(line)


def top(host: Host, options: argparse.Namespace) -> None:
    if options.seconds <= 0:
        raise UsageError(f"top: {options.seconds} seconds are no pause")
    before, then = devices(host), time.monotonic()
    looks = 0
    while not options.count or looks < options.count:
        time.sleep(options.seconds)
        now, at = devices(host), time.monotonic()
        for key, device in now.items():
            seen = rates(before.get(key, device), device, at - then)
            moving = "  ".join(f"{name} {value:.0f}/s" for name, value in seen.items() if value)
            print(f"{key[0]} {device.uuid} {device.klass}: {moving or 'idle'}")
        sys.stdout.flush()
        before, then, looks = now, at, looks + 1


def devices(host: Host) -> dict[tuple[str, UUID], Device]:
    return {(bus.name, device.uuid): device for bus in host.buses() for device in host.devices(bus.name)}


def events(host: Host, options: argparse.Namespace) -> None:
    for number, event in enumerate(host.events(), 1):
        print(event_line(event), flush=True)
        if number == options.count:
            return


def renew(host: Host, options: argparse.Namespace) -> None:
    host.renew(options.bus)


def down(host: Host, options: argparse.Namespace) -> None:
    guests = [bus.name for bus in host.buses() if bus.connected]
    if options.unless_connected and guests:
        raise Refused(f"down: guests use {', '.join(guests)}", hint="end these guests, or migrate them")
    host.end()


def classes(host: Host, options: argparse.Namespace) -> None:
    if options.add:
        host.add_class(options.add.absolute())
    if options.remove:
        host.remove_class(options.remove)
    if not options.add and not options.remove:
        for klass in host.classes():
            where = klass.path or "built in"
            told = " ".join(f"{gid}:{bits:#x}" for gid, bits in sorted((klass.groups or {}).items()))
            limits = "".join(f", {name} {most}" for name, most in klass.limits.items())
            print(f"{klass.name}: {klass.type} {klass.version}, {klass.devices} devices, {where}{limits}")
            print(f"  features {told or 'none' if klass.groups is not None else 'not told: vbusd is older'}")


def load(host: Host, options: argparse.Namespace) -> None:
    written = [description.read(path) for path in options.files] or description.read_all()
    there = {bus.name for bus in host.buses()}
    for bus in written:
        if bus.name not in there:
            description.create(host, bus)


def domxml(host: Host, options: argparse.Namespace) -> None:
    print(description.domain_xml(BusDescription.seen(host, options.bus)))


def hook(options: argparse.Namespace) -> None:
    """libvirt.org/hooks.html: standard error reaches who starts the guest; standard output stays empty."""
    act = HOOKS.get(tuple(options.words[1:3]))
    bus = description.in_domain(sys.stdin.read()) if act else None
    if act and bus:
        with Host(options.socket) as host:
            act(host, bus)


SETTINGS: dict[str, Callable[[Host, str, UUID], None]] = {
    "link=up": lambda host, bus, device: host.link(bus, device, up=True),
    "link=down": lambda host, bus, device: host.link(bus, device, up=False),
    "size=again": lambda host, bus, device: host.resize(bus, device),
}

HOOKS = {("prepare", "begin"): description.prepare, ("release", "end"): description.release}

VERBS: dict[str, Callable[[Host, argparse.Namespace], None]] = {
    "add": add,
    "remove": remove,
    "mask": mask,
    "set": change,
    "status": status,
    "features": features,
    "top": top,
    "load": load,
    "events": events,
    "renew": renew,
    "down": down,
    "classes": classes,
    "domxml": domxml,
}


def uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"device {text!r}: is no UUID") from None
