# SPDX-License-Identifier: MIT
"""Long frames, tagged frames, another address, groups: what a card takes besides plain unicast."""

from __future__ import annotations

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import JUMBO
from vbuskit.compat.cells import Cell
from vbuskit.compat.nic import PATIENCE
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.loopback import BURST, echoed
from vbuskit.compat.traffic import bring_up, interface_of, ping

OTHER_MAC = "02:76:62:75:73:aa"
GROUP, GROUP_MAC = "225.1.2.3", "01:00:5e:01:02:03"
VLAN = 5
SINGLES, BURSTS = 100, 10


class Frames(Scenario):
    name = "frames"
    title = "jumbo frames, VLAN tags, another MAC address, groups that are asked for and not"
    order = 38
    needs = ("loopback",)

    def run(self, bench: Bench, cell: Cell) -> None:
        jumbo(bench, cell)
        tagged(bench, cell)
        another_address(bench, cell)
        groups(bench, cell)


def jumbo(bench: Bench, cell: Cell) -> None:
    bench.bus.add(JUMBO)
    cell.compare("in the guest", expected="open", seen=bench.bus.appears(bench.guest, JUMBO))
    name = bring_up(bench, JUMBO)
    mtu = bench.guest(f"cat /sys/class/net/{name}/mtu").strip()
    cell.compare("MTU, as the host says", expected=str(JUMBO.mtu), seen=mtu)
    whole = f"ping -n -c 3 -W 2 -M do -s 8000 {JUMBO.host_address}"
    cell.compare("ping with 8000 bytes in one frame", expected=0, seen=bench.guest.execute(whole).code)
    refused = bench.guest.execute(f"ip link set {name} mtu {JUMBO.mtu + 1}").code
    cell.check("a larger MTU", expected="refused", seen=refused, holds=refused != 0)
    bench.bus.remove(JUMBO)
    cell.compare("removed", expected="gone", seen=bench.bus.vanishes(bench.guest, JUMBO))


def tagged(bench: Bench, cell: Cell) -> None:
    """Frames of a VLAN go out with their tag and find their way back to it."""
    name = interface_of(bench, bench.bus.echo)
    bench.guest(f"ip link set {name} up && ip link add link {name} name tagged type vlan id {VLAN}")
    try:
        count = SINGLES + BURSTS * BURST
        said = echoed(bench, "tagged", SINGLES, BURSTS)
        cell.compare("tagged", expected=f"sent={count} back={count} late=0 wrong=0", seen=said)
    finally:
        bench.guest("ip link del tagged")


def another_address(bench: Bench, cell: Cell) -> None:
    """The host follows a new address, and keeps away what goes to the old one."""
    card = bench.bus.net
    name = bring_up(bench, card)
    try:
        bench.guest(f"ip link set dev {name} address {OTHER_MAC}")
        cell.compare("ping with another address", expected="20 of 20", seen=str(ping(bench, card)))
        stranger = ["ip", "neigh", "replace", "10.77.1.99", "lladdr", card.mac, "dev", card.tap]
        bench.run(bench.host.command(stranger))
        cell.compare("to the old one", expected="left out", seen=left_out(bench, "10.77.1.99"))
    finally:
        bench.guest(f"ip link set dev {name} address {card.mac}")
    cell.compare("ping with its own", expected="20 of 20", seen=str(ping(bench, card)))


def groups(bench: Bench, cell: Cell) -> None:
    name = interface_of(bench, bench.bus.net)
    cell.compare("a group not asked for", expected="left out", seen=left_out(bench, GROUP))
    bench.guest(f"ip maddr add {GROUP_MAC} dev {name}")
    cell.compare("a group asked for", expected="comes", seen=comes(bench, GROUP))
    bench.guest(f"ip maddr del {GROUP_MAC} dev {name}")
    cell.compare("not any more", expected="left out", seen=left_out(bench, GROUP))


# A datagram to a closed port: nobody answers, and nobody waits for an answer.
SEND = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[2].encode())
one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[3]))
one.sendto(b"x" * 777, (sys.argv[1], 9))
"""


def moved(bench: Bench, address: str, counter: str) -> bool:
    """Whether datagrams to an address, one after the other, make a counter of the worker move."""
    card = bench.bus.net
    before = bench.bus.device(card).counters[counter]
    command = ["python3", "-c", SEND, address, card.tap, card.host_address]

    def look() -> bool:
        bench.run(bench.host.command(command))
        return bench.bus.device(card).counters[counter] > before

    return bool(until(look, PATIENCE / 4))


def left_out(bench: Bench, address: str) -> str:
    return "left out" if moved(bench, address, "filtered") else "not left out"


def comes(bench: Bench, address: str) -> str:
    return "comes" if moved(bench, address, "rx_frames") else "does not come"
