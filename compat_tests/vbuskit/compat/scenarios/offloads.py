# SPDX-License-Identifier: MIT
"""Checksums and segments are left to the other side, both ways; ethtool chooses, and negotiates nothing."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.nic import Counted, mark, offloads, passed
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import MIB, TO_GUEST, TO_HOST, bring_up, transfer

SIZE = 20 * MIB
PLAIN = 1514  # bytes of the longest frame that nobody has to segment

# venet_abi.h: groups, and their bits as ethtool calls them.
SG, L4RO = 0, 2
SENT = {
    0x1: "tx-checksum-ip-generic",
    0x2: "tx-tcp-segmentation",
    0x4: "tx-tcp6-segmentation",
    0x8: "tx-tcp-ecn-segmentation",
    0x40: "tx-udp-segmentation",
}
TAKEN = {0x1: "rx-checksumming", 0x6: "rx-gro-hw"}


class Offloads(Scenario):
    name = "offloads"
    title = "venet-tap: long frames and partial checksums both ways, counted alike by both sides"
    order = 36
    needs = ("transfer",)

    def run(self, bench: Bench, cell: Cell) -> None:
        name = bring_up(bench, bench.bus.net)
        negotiated = compare_features(bench, cell, name)
        for address in (bench.bus.net.host_address, sixth(bench, name)):
            for direction in (TO_HOST, TO_GUEST):
                long = longest_average(bench, cell, name, direction, address)
                what = f"{direction}, {address}: bytes a frame"
                cell.check(what, expected=f"more than {PLAIN}", seen=long, holds=long > PLAIN)
        bench.guest(f"ethtool -K {name} tso off gro off rx-gro-hw off")
        try:
            for direction in (TO_HOST, TO_GUEST):
                short = longest_average(bench, cell, name, direction)
                holds = short <= PLAIN
                cell.check(
                    f"{direction}, switched off: bytes a frame",
                    expected=f"at most {PLAIN}",
                    seen=short,
                    holds=holds,
                )
            cell.compare("negotiated, as before", expected=negotiated, seen=both(bench))
        finally:
            bench.guest(f"ethtool -K {name} tso on gro on rx-gro-hw on")
        compare_features(bench, cell, name)


def sixth(bench: Bench, name: str) -> str:
    """Addresses of IPv6 at both ends; the host's. Nobody else has them, and nobody is asked."""
    card = bench.bus.net
    host, guest = (f"fd77:{card.number}::{end}" for end in (1, 2))
    command = ["ip", "-6", "address", "replace", f"{host}/64", "dev", card.tap, "nodad"]
    bench.run(bench.host.command(command))
    bench.guest(f"ip -6 address replace {guest}/64 dev {name} nodad")
    return host


def both(bench: Bench) -> tuple[dict[int, int], dict[int, int]]:
    """Active bits per group, by the guest and by the worker."""
    card = bench.bus.net
    return bench.bus.features_in(bench.guest, card).active, bench.bus.features(card).active


def compare_features(bench: Bench, cell: Cell, name: str) -> tuple[dict[int, int], dict[int, int]]:
    """What was negotiated is what ethtool shows, bit by bit."""
    north, south = both(bench)
    cell.compare("negotiated, both sides", expected=south, seen=north)
    sums = bool(north[SG] & north[L4RO] & 1)
    cell.check("checksums both ways", expected="bit 0x1", seen=north, holds=sums)
    shown = offloads(bench, name)
    for group, bits in ((SG, SENT), (L4RO, TAKEN)):
        for bit, word in bits.items():
            cell.compare(f"ethtool -k: {word}", expected=bool(north[group] & bit), seen=shown[word])
    return north, south


def longest_average(bench: Bench, cell: Cell, name: str, direction: str, address: str = "") -> int:
    """Bytes a frame of one transfer, in its direction; both sides have to agree on what passed.

    address: of the host, when it is not the card's usual one
    """
    card = bench.bus.net
    before = mark(bench, card, name)
    with transfer(bench, card, direction, SIZE, address) as under_way:
        sent, got = under_way.ends()
    cell.compare(f"{direction}: got what was sent", expected=sent, seen=got)
    north, south = passed(bench, card, name, before)
    cell.compare(f"{direction}: counters of both sides", expected=south, seen=north)
    return average(north, direction)


def average(seen: Counted, direction: str) -> int:
    if direction == TO_HOST:
        return seen.tx_bytes // seen.tx_frames
    return seen.rx_bytes // seen.rx_frames
