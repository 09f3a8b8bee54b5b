# SPDX-License-Identifier: MIT
"""`bench net`: TCP between guest and host over venet-tap and over virtio-net, both on a tap, offloads on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vbuskit.base.errors import VbuskitError
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card
from vbuskit.compat.domain import Nic
from vbuskit.compat.guestbench import (
    BUS_LINES,
    SECONDS,
    VBUS,
    VIRTIO,
    Amount,
    Counters,
    Machine,
    Moved,
    Side,
    Trial,
    compared,
    virtio_lines,
)
from vbuskit.compat.traffic import bring_up
from vbuskit.drivers.figures import Result

PORT = 5201
PATIENCE = 20.0  # seconds
COUNTED = ("rx_packets", "tx_packets")
LEFT_OUT = {
    "vhost": "QEMU moves virtio's frames itself: vhost-net is a module of the host's kernel",
    "copies": "nobody counts them; docs/performance.md says how many there are by design",
}


@dataclass(frozen=True, slots=True)
class NetSide(Side):
    """A card: frames are counted at its tap, where both kinds have the same counter.

    lines: of /proc/interrupts, as a pattern
    """

    name: str
    machine: Machine
    card: Card | Nic
    interface: str
    lines: str

    def look(self) -> Counters:
        bench = self.machine.bench
        files = [f"/sys/class/net/{self.card.tap}/statistics/{name}" for name in COUNTED]
        frames = sum(map(int, bench.run(bench.host.command(["cat", *files])).split()))
        return self.machine.counters(self.lines, doorbells=self.doorbells(), units=frames)

    def doorbells(self) -> int:
        if isinstance(self.card, Card):
            return self.machine.doorbells()
        return kicks(self.machine.bench.guest(f"ethtool -S {self.interface}"))


def kicks(statistics: str) -> int:
    """Of all queues: `ethtool -S` of a virtio-net."""
    return sum(int(count) for count in re.findall(r"queue_\d+_kicks: (\d+)", statistics))


def bench_net(bench: Bench, amount: Amount) -> Result:
    machine, nic, card = Machine.of(bench), bench.guest.hardware.nic, bench.bus.net
    if nic is None:
        raise RuntimeError(f"{bench.guest.name} has no card but those on its bus")
    name, other = bring_up(bench, card), bring_up(bench, nic)
    sides = (
        NetSide(VBUS, machine, card, name, BUS_LINES),
        NetSide(VIRTIO, machine, nic, other, virtio_lines(bench, f"/sys/class/net/{other}")),
    )
    trials: list[Trial[NetSide]] = [
        Trial("net", "TCP to the host", "frame", "MB/s", lambda side: tcp(side, amount.net_mib), True),
        Trial(
            "net", "TCP to the guest", "frame", "MB/s", lambda side: tcp(side, amount.net_mib, "-R"), True
        ),
    ]
    with server(bench, card), server(bench, nic):
        return compared(sides, trials, amount.pairs, LEFT_OUT)


def tcp(side: NetSide, mib: int, *words: str) -> Moved:
    """One connection, `mib` MiB; what the receiver got, and when."""
    address = side.card.host_address
    command = ["iperf3", "--json", "-c", address, "-p", str(PORT), "-n", f"{mib}M", *words]
    return received(side.machine.bench.guest(["/usr/bin/env", *command], SECONDS))


def received(said: str) -> Moved:
    """From iperf3's JSON."""
    whole = json.loads(said)
    if "error" in whole:
        raise VbuskitError(f"iperf3: {whole['error']}")
    end = whole["end"]["sum_received"]
    return Moved(int(end["bytes"]), float(end["seconds"]))


@contextmanager
def server(bench: Bench, card: Card | Nic) -> Iterator[None]:
    """The host's end, for as many connections as come, one after the other."""
    log = bench.places.work("logs") / f"iperf3-{card.name}.log"
    command = ["iperf3", "--server", "--forceflush", "--bind", card.host_address, "--port", str(PORT)]
    with bench.run.start(bench.host.command(command), output=log) as process:

        def listens() -> bool:
            if process.poll() is not None:
                raise VbuskitError("bench: the host's iperf3 ended at once", hint=f"see {log}")
            return "listening" in log.read_text()

        if not until(listens, PATIENCE):
            raise VbuskitError("bench: the host's iperf3 does not listen", hint=f"see {log}")
        yield
