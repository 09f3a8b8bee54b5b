# SPDX-License-Identifier: MIT
"""What `vbuskit host` prints: buses and devices as lines for people, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from vbuskit.drivers.host import Bus, Device, Event


def as_json(bus: Bus, devices: list[Device]) -> dict[str, object]:
    words = {**dataclasses.asdict(bus), "connector": bus.connector.name.lower()}
    return {**words, "devices": [dataclasses.asdict(device) for device in devices]}


def table(bus: Bus, devices: list[Device]) -> list[str]:
    guest = "confirmed" if bus.confirmed else "negotiated" if bus.negotiated else "silent"
    qemu = f"QEMU session {bus.sessions}" if bus.connected else "no QEMU"
    worker = "held: none before it is started" if bus.held else bus.worker
    lines = [
        f"bus {bus.name}: {qemu}, guest {guest}, {bus.window_mib} MiB, {bus.vectors} vectors, {bus.path}",
        f"  epoch {bus.epoch:016x}  worker {worker}",
        f"  restarts {bus.restarts}  handovers {bus.handovers}  takeovers {bus.takeovers}  lost {bus.lost}",
        f"  sandbox: {' '.join(bus.sandbox) or 'none'}",
        "  " + "  ".join(f"{name} {value}" for name, value in bus.counters.items()),
    ]
    for queue, counters in bus.queues.items():
        lines.append(f"  queue {queue}: " + "  ".join(f"{name} {value}" for name, value in counters.items()))
    for device in devices:
        lines += device_lines(device)
    return lines


def device_lines(device: Device) -> list[str]:
    state = "open, link up" if device.running else "open" if device.is_open else "closed"
    cable = "" if device.link else ", cable pulled"
    counters = "  ".join(f"{name} {value}" for name, value in device.counters.items())
    groups = [
        f"    group {gid}: offered {group.offered:#x}  active {group.active:#x}  masked {group.masked:#x}"
        for gid, group in device.groups.items()
    ]
    head = f"  device {device.uuid} {device.klass} {device.argument}".rstrip()
    return [f"{head}: {state}{cable}, {device.mac}", *groups, f"    {counters}"]


def feature_lines(bus: str, devices: list[Device]) -> Iterator[str]:
    """One line a group: what the host offers, what the guest consumes, what is masked."""
    for device in devices:
        for gid, group in device.groups.items():
            consumed = f"{group.active:#x}" if device.is_open else "-"
            yield (
                f"{bus} {device.uuid} {device.klass} group {gid}: "
                f"offered {group.offered:#x}  consumed {consumed}  masked {group.masked:#x}"
            )


def rates(before: Device, now: Device, seconds: float) -> dict[str, float]:
    """Counters as increments a second; a counter that went back (another device by now) counts from 0."""
    return {
        name: max(0, value - before.counters.get(name, 0)) / seconds for name, value in now.counters.items()
    }


def event_line(event: Event) -> str:
    """One JSON object: event, bus, and of uuid, group, value, text those that mean something."""
    words = dataclasses.asdict(event) | {"kind": event.kind.name.lower(), "uuid": str(event.uuid or "")}
    return json.dumps({"event": words.pop("kind")} | {name: value for name, value in words.items() if value})
