# SPDX-License-Identifier: MIT
"""What the gate is told of guest and host is what both sides say, and the guest may stay where it is."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.drivers.host_abi import QUEUES
from vbuskit.migration.capture import capture_guest, capture_host
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.profile import EMULATED, GuestProfile, HostProfile
from vbuskit.migration.reading import parse
from vbuskit.migration.writing import canonical

MODULES = ("vblk", "vbus", "venet")


class Profile(Scenario):
    name = "profile"
    title = "the gate's profiles of guest and host are true, and the guest may stay"
    order = 25
    needs = ("negotiate",)
    not_on = (("host=0.1", "a vbusd of 0.1 does not tell what its classes have"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        host, guest = captured(bench)
        there = {device.uuid: device for device in guest.devices}
        cell.compare("devices", expected=sorted(card.uuid for card in bench.bus.cards), seen=sorted(there))
        for card in bench.bus.cards:
            device = there[card.uuid]
            north = bench.bus.features_in(bench.guest, card).active
            in_force = {group: bits for group, bits in north.items() if bits}
            cell.compare(f"{card.name}: bits in force", expected=in_force, seen=device.active)
            cell.compare(f"{card.name}: MAC address", expected=card.mac, seen=device.mac)
        queues = guest.bus.queues
        cell.check("event queues", expected="some", seen=queues, holds=0 < queues <= QUEUES)
        cell.compare("machine", expected=bench.guest.hardware.machine.name, seen=guest.machine)
        model = bench.guest.hardware.machine.cpu
        cpu = model if bench.guest.hardware.kvm else f"{EMULATED}{model}"
        cell.compare("CPU model", expected=cpu, seen=guest.cpu)
        cell.compare("CPU model, as the host has it", expected=True, seen=cpu in host.cpus)
        cell.compare("drivers", expected=dict.fromkeys(MODULES, bench.version), seen=guest.drivers)
        judgement = judge(guest, host)
        against = [str(each) for each in judgement.findings if each.verdict is not Verdict.YES]
        cell.compare("findings against its own host", expected=[], seen=against)
        cell.compare("verdict", expected=str(Verdict.YES), seen=str(judgement.verdict))


def captured(bench: Bench) -> tuple[HostProfile, GuestProfile]:
    """As whoever reads the two files has them."""
    host = capture_host(bench.bus.client, bench.host.connection)
    guest = capture_guest(bench.bus.client, bench.host.connection, bench.guest.name)
    return (
        parse(canonical(host), HostProfile, "host"),
        parse(canonical(guest), GuestProfile, "guest"),
    )
