# SPDX-License-Identifier: MIT
"""vbusd and its worker die at once: the guest's devices fail, it says what to do, and that helps."""

from __future__ import annotations

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import bring_up, ping

SECONDS = 60  # 30 of silence are the driver's patience; before that it has to notice, which takes 5 to 15
SILENT = "the host is silent for 30 s"
ADVICE = "start vbusd, then restart or migrate this guest"
SOUTH = "vbusd and its worker were lost at once"


class Lost(Scenario):
    name = "lost"
    title = "vbusd and its worker are lost at once: devices fail in words, a restart of the guest helps"
    order = 80
    needs = ("negotiate",)
    cold = True
    provokes = SOUTH

    def run(self, bench: Bench, cell: Cell) -> None:
        name = bring_up(bench, bench.bus.net)
        cell.compare("ping before", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))
        # Somebody must use the card: an idle bus asks nobody, and has nothing to miss.
        bench.guest.agent.start(f"exec ping -q -i 0.2 {bench.bus.net.host_address}")
        bench.bus.lose_both()
        lost = bench.bus.status().lost
        cell.compare("sessions lost, as the next vbusd counts", expected=1, seen=lost)
        cell.compare(
            "the next vbusd's log: " + SOUTH, expected=1, seen=bench.bus.log.read_text().count(SOUTH)
        )
        self.devices_fail(bench, cell, name)
        bench.guest.restart()
        self.all_is_well(bench, cell)

    def devices_fail(self, bench: Bench, cell: Cell, name: str) -> None:
        line = until(lambda: said(bench), SECONDS, pause=1) or "nothing"
        cell.check(f"the guest within {SECONDS} s", expected=ADVICE, seen=line, holds=ADVICE in line)
        # It asks on every few seconds, which brings no device back and says nothing again.
        tries = asked(bench)
        more = until(lambda: asked(bench) > tries + 1, SECONDS, pause=1)
        cell.compare("the guest asks on", expected=True, seen=more)
        cell.compare("times that it said so", expected=1, seen=bench.guest.dmesg().count(SILENT))
        for card in bench.bus.cards:
            cell.compare(f"{card.name}: state", expected="failed", seen=bench.bus.state(bench.guest, card))
        carrier = bench.guest(f"cat /sys/class/net/{name}/carrier").strip()
        cell.compare("carrier", expected="0", seen=carrier)
        links = bench.guest.execute("timeout 10 ip -brief link")
        cell.check("ip link", expected=f"ends, with {name}", seen=links.out, holds=name in links.out)

    def all_is_well(self, bench: Bench, cell: Cell) -> None:
        for card in bench.bus.cards:
            seen = bench.bus.appears(bench.guest, card)
            cell.compare(f"restarted, {card.name}: state", expected="open", seen=seen)
        bring_up(bench, bench.bus.net)
        cell.compare("ping after", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))
        cell.compare("host", expected="confirmed", seen=bench.bus.confirmed())


def said(bench: Bench) -> str | None:
    """The driver's line, once the guest's kernel log has it."""
    return next((line for line in bench.guest.dmesg().splitlines() if SILENT in line), None)


def asked(bench: Bench) -> int:
    """How often the driver has asked for a connection."""
    return int(bench.bus.north(bench.guest)["bridgecalls"])
