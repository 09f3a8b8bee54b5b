# SPDX-License-Identifier: MIT
"""Programs of one line at the card: drop, pass, send back, send on; long frames stop while one is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import JUMBO
from vbuskit.compat.cells import Cell
from vbuskit.compat.nic import PATIENCE, counters, mark, passed, queues
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.offloads import PLAIN, SIZE, average
from vbuskit.compat.traffic import TO_GUEST, bring_up, interface_of, ping, transfer

DROP, PASS, TX = "1", "2", "3"  # enum xdp_action
REDIRECT = "((long (*)(int, long))23)({ifindex}, 0)"  # enum bpf_func_id: bpf_redirect(ifindex, flags)
PROGRAM = """
int verdict(void *frame) __attribute__((section("xdp"), used));
int verdict(void *frame) {{ return {verdict}; }}
char terms[] __attribute__((section("license"), used)) = "GPL";
"""


class Xdp(Scenario):
    name = "xdp"
    title = "XDP: programs drop, pass, send back and send on to another card, and see no long frame"
    order = 39
    needs = ("transfer",)

    def run(self, bench: Bench, cell: Cell) -> None:
        card = bench.bus.net
        name = bring_up(bench, card)
        with attached(bench, name, DROP):
            before = counters(bench, name)
            cell.compare("drop: ping", expected="0 of 3", seen=str(ping(bench, card, 3)))
            grown(bench, cell, name, before, "xdp_drops", 1)
        with attached(bench, name, TX):
            before = counters(bench, name)
            cell.compare("send back: ping", expected="0 of 3", seen=str(ping(bench, card, 3)))
            grown(bench, cell, name, before, "xdp_tx", 1)
            sent = sum(queues(counters(bench, name), "tx", "xdp_frames"))
            cell.check("send back: sent", expected="at least 1", seen=sent, holds=sent >= 1)
        redirected(bench, cell, name)
        with attached(bench, name, PASS):
            # The programs before swallowed ARP, too: the host may still be asking who the guest is.
            met = until(lambda: ping(bench, card, 1).received == 1, PATIENCE)
            cell.compare("pass: host and guest find each other", expected=True, seen=bool(met))
            before = counters(bench, name)
            cell.compare("pass: ping", expected="20 of 20", seen=str(ping(bench, card)))
            grown(bench, cell, name, before, "xdp_frames", 20)
            long = received(bench, cell, name)
            cell.check("pass: bytes a frame", expected=f"at most {PLAIN}", seen=long, holds=long <= PLAIN)
        long = received(bench, cell, name)
        cell.check("detached: bytes a frame", expected=f"over {PLAIN}", seen=long, holds=long > PLAIN)
        too_long(bench, cell)


def redirected(bench: Bench, cell: Cell, name: str) -> None:
    """What comes to one card leaves by the other one, whose host sends it back."""
    other = interface_of(bench, bench.bus.echo)
    # The frames are addressed to the first card; the host filters for the other one.
    bench.guest(f"ip link set {other} promisc on up")
    onward = REDIRECT.format(ifindex=bench.guest(f"cat /sys/class/net/{other}/ifindex").strip())
    with attached(bench, name, onward):
        before, there = counters(bench, name), counters(bench, other)
        cell.compare("send on: ping", expected="0 of 3", seen=str(ping(bench, bench.bus.net, 3)))
        grown(bench, cell, name, before, "xdp_redirects", 3)
        sent = counted(bench, other, "tx", "xdp_frames") - sum(queues(there, "tx", "xdp_frames"))
        cell.check("send on: sent by the other card", expected="at least 3", seen=sent, holds=sent >= 3)
        wanted = sum(queues(there, "rx", "frames")) + sent
        back = until(lambda: counted(bench, other, "rx", "frames") >= wanted, PATIENCE)
        cell.compare("send on: all of it came back", expected=True, seen=bool(back))
    bench.guest(f"ip link set {other} promisc off")


def counted(bench: Bench, name: str, *what: str) -> int:
    """One counter of all queues."""
    return sum(queues(counters(bench, name), *what))


def program(bench: Bench, verdict: str) -> str:
    """Compile a program that always returns `verdict`, an expression in C; where it lies in the guest."""
    folder = bench.places.work("build", "xdp")
    source, made = folder / "verdict.c", folder / "verdict.o"
    source.write_text(PROGRAM.format(verdict=verdict))
    bench.run(["clang", "-target", "bpf", "-O2", "-Wall", "-Werror", "-c", source, "-o", made])
    inside = "/dev/shm/verdict.o"
    bench.guest.write(inside, made.read_bytes())
    return inside


@contextmanager
def attached(bench: Bench, name: str, verdict: str) -> Iterator[None]:
    # In the driver, not in front of the stack: "xdp" alone would fall back.
    bench.guest(f"ip link set dev {name} xdpdrv obj {program(bench, verdict)} sec xdp")
    try:
        yield
    finally:
        bench.guest(f"ip link set dev {name} xdpdrv off")


def grown(bench: Bench, cell: Cell, name: str, before: dict[str, int], what: str, least: int) -> None:
    now, then = (sum(queues(seen, "rx", what)) for seen in (counters(bench, name), before))
    cell.check(f"counted: {what}", expected=f"at least {least}", seen=now - then, holds=now - then >= least)


def received(bench: Bench, cell: Cell, name: str) -> int:
    """Bytes a frame of a transfer to the guest."""
    card = bench.bus.net
    before = mark(bench, card, name)
    with transfer(bench, card, TO_GUEST, SIZE) as under_way:
        sent, got = under_way.ends()
    cell.compare(f"{TO_GUEST}: got what was sent", expected=sent, seen=got)
    return average(passed(bench, card, name, before)[0], TO_GUEST)


def too_long(bench: Bench, cell: Cell) -> None:
    """A frame of that MTU does not fit into the page that a program sees."""
    bench.bus.add(JUMBO)
    cell.compare("a jumbo card", expected="open", seen=bench.bus.appears(bench.guest, JUMBO))
    name = bring_up(bench, JUMBO)
    done = bench.guest.execute(f"ip link set dev {name} xdpdrv obj {program(bench, PASS)} sec xdp")
    said = "does not fit into a page" if "does not fit into a page" in done.err else done.err or "accepted"
    cell.compare("a program at it", expected="does not fit into a page", seen=said)
    bench.bus.remove(JUMBO)
    cell.compare("removed", expected="gone", seen=bench.bus.vanishes(bench.guest, JUMBO))
