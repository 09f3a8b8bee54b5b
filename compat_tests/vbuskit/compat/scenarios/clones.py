# SPDX-License-Identifier: MIT
"""Two clones of one image, drivers and all, on one host: what befalls one is nothing to the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import TWIN, Bus
from vbuskit.compat.cells import Cell
from vbuskit.compat.guest import Guest
from vbuskit.compat.images import overlay
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import loaded
from vbuskit.compat.traffic import MIB, TO_HOST, bring_up, flood, prepare, transfer

SIZE, PART = 50 * MIB, MIB


class Clones(Scenario):
    name = "clones"
    title = "two clones of one image run at once; the worker of one is killed, and the other one is not told"
    order = 78
    needs = ("transfer",)
    cold = True
    long = True

    def run(self, bench: Bench, cell: Cell) -> None:
        bench.guest.shut_down()
        try:
            with (
                bench.bus.beside(f"{bench.bus.name}-twin", TWIN) as bus,
                clone(bench, "one", bench.bus) as one,
                clone(bench, "twin", bus) as twin,
            ):
                cell.logs += [one.guest.serial, twin.guest.serial]
                self.live(cell, one, twin)
                twin.guest.shut_down()
                one.guest.shut_down()
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def live(self, cell: Cell, one: Bench, twin: Bench) -> None:
        both = (one, twin)
        names = [bench.guest("cat /etc/machine-id").strip() for bench in both]
        cell.compare("machine ids, which a clone has not lost", expected=1, seen=len(set(names)))
        for bench in both:
            seen = bench.bus.appears(bench.guest, bench.bus.net)
            cell.compare(f"{bench.bus.net.name}: state", expected="open", seen=seen)
            cell.compare(f"{bench.bus.net.name}: loaded", expected="vbus venet", seen=loaded(bench))
            bring_up(bench, bench.bus.net)
            prepare(bench, bench.bus.net, TO_HOST, SIZE)
        epochs = {bench.bus.status().epoch for bench in both}
        cell.compare("different epochs", expected=2, seen=len(epochs))
        self.differ(cell, one, twin)
        for bench in both:
            cell.compare(f"{bench.bus.net.name}: host", expected="confirmed", seen=bench.bus.confirmed())
            cell.compare(
                f"{bench.bus.net.name}: kernel log", expected="no complaint", seen=complaints(bench)
            )

    def differ(self, cell: Cell, one: Bench, twin: Bench) -> None:
        """Both send at once, and one of them changes its worker in the middle.

        Pings go on beside the transfers: on a busy machine, one has ended before the other has begun.
        """
        epoch = twin.bus.status().epoch
        with ExitStack() as stack:
            for bench in (one, twin):
                stack.enter_context(flood(bench, bench.bus.net))
            ways = {
                bench.bus.net.name: stack.enter_context(transfer(bench, bench.bus.net, TO_HOST, SIZE))
                for bench in (one, twin)
            }
            for bench in (one, twin):
                bench.bus.moved(bench.bus.net, PART)
            one.bus.kill_worker()
            twin.bus.moved(twin.bus.net, PART)
            ends = {name: way.ends(300) for name, way in ways.items()}
        for name, (sent, got) in ends.items():
            cell.compare(f"{name}: bytes", expected=SIZE, seen=got.count)
            cell.compare(f"{name}: got what was sent", expected=sent, seen=got)
        replays = [bench.bus.replays(bench.guest, bench.bus.net) for bench in (one, twin)]
        cell.compare("replays of the two", expected=[1, 0], seen=replays)
        cell.compare("epoch of the other one", expected=epoch, seen=twin.bus.status().epoch)


@contextmanager
def clone(bench: Bench, which: str, bus: Bus) -> Iterator[Bench]:
    """A guest with a copy of the switched-off guest's disk, on a bus of its own; booted."""
    hardware = bench.guest.hardware
    if hardware.disk is None:
        raise RuntimeError(f"{bench.guest.name} has no disk that could be cloned")
    name = f"{bench.guest.name}-{which}"
    disk = overlay(bench.run, hardware.disk, hardware.disk.with_name(f"{name}.qcow2"))
    serial = hardware.serial.with_name(f"{name}-serial.log")
    with Guest(
        bench.host.connection,
        replace(hardware, name=name, disk=disk, serial=serial, bus=bus.socket, nic=None),
    ) as guest:
        guest.boot()
        yield replace(bench, guest=guest, bus=bus)
    disk.unlink()
