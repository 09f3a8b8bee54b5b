# SPDX-License-Identifier: MIT
"""UDP segmentation: many datagrams in one frame, both ways, and in frames of their own when switched off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.nic import mark, passed
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.offloads import L4RO, SENT, SG, both
from vbuskit.compat.traffic import bring_up

USO = next(bit for bit, word in SENT.items() if word == "tx-udp-segmentation")
ROUNDS, SEGMENTS, SEGMENT, PORT = 50, 40, 1400, 7778
KNOWN_SINCE = (6, 2)
CHATTER = 20  # frames at most of somebody else: ARP, and the first datagrams of all

# udp(7): UDP_SEGMENT, 103. Each round comes as so many datagrams, and goes back as one message.
GUEST = r"""
use strict; use warnings; use Socket;
my ($port, $segments, $size) = @ARGV;
socket(my $s, PF_INET, SOCK_DGRAM, 17) or die "socket: $!\n";
setsockopt($s, SOL_SOCKET, SO_RCVBUF, 1 << 20) or die "SO_RCVBUF: $!\n";
bind($s, sockaddr_in($port, INADDR_ANY)) or die "bind: $!\n";
my $round = '';
while (1) {
    my $from = recv($s, my $in, 65536, 0); defined $from or die "recv: $!\n";
    if (length $in < $size) { setsockopt($s, 17, 103, pack('i', 0)); send($s, $in, 0, $from); next }
    $round .= $in;
    next if length $round < $segments * $size;
    setsockopt($s, 17, 103, pack('i', $size)) or die "UDP_SEGMENT: $!\n";
    defined send($s, $round, 0, $from) or die "send: $!\n";
    $round = '';
}
"""
HOST = """
import socket, sys
address, port, rounds, segments, size = sys.argv[1], *map(int, sys.argv[2:])
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
one.connect((address, port))
one.settimeout(0.5)
for _ in range(60):  # until the guest's end listens
    try:
        one.send(b"hello")
        one.recv(size)
        break
    except OSError:
        pass
one.settimeout(10)
one.setsockopt(socket.IPPROTO_UDP, 103, size)
back = wrong = 0
for number in range(rounds):
    sent = [(number * segments + part).to_bytes(4, "big") * (size // 4) for part in range(segments)]
    one.send(b"".join(sent))
    for segment in sent:
        try:
            seen = one.recv(65536)
        except TimeoutError:
            break
        while seen == b"hello":  # asked for twice
            seen = one.recv(65536)
        back, wrong = back + (seen == segment), wrong + (seen != segment)
print(f"back={back} wrong={wrong}")
"""


class Uso(Scenario):
    name = "uso"
    title = f"UDP segmentation: {SEGMENTS} datagrams in one frame, both ways; in their own when switched off"
    order = 37
    needs = ("transfer",)
    long = True

    def run(self, bench: Bench, cell: Cell) -> None:
        name = bring_up(bench, bench.bus.net)
        north, south = both(bench)
        if min(version(os.uname().release), version(bench.image.recipe.release)) < KNOWN_SINCE:
            raise CellSkipped("needs Linux 6.2 on both sides: before, taps and virtio_net.h know no USO")
        cell.compare("negotiated, both sides", expected=south, seen=north)
        cell.compare("negotiated: USO", expected=USO, seen=south[SG] & south[L4RO] & USO)
        with listening(bench):
            together = frames(bench, cell, name)
            for direction, seen in zip(("to the host", "to the guest"), together, strict=True):
                few = ROUNDS <= seen <= ROUNDS + CHATTER
                cell.check(f"{direction}: frames", expected=f"about {ROUNDS}", seen=seen, holds=few)
            bench.guest(f"ethtool -K {name} tx-udp-segmentation off")
            try:
                alone, least = frames(bench, cell, name)[0], ROUNDS * SEGMENTS
                cell.check(
                    "switched off: frames", expected=f"{least} or more", seen=alone, holds=alone >= least
                )
            finally:
                bench.guest(f"ethtool -K {name} tx-udp-segmentation on")


def version(release: str) -> tuple[int, ...]:
    """The two numbers in front of what `uname -r` says."""
    return tuple(int(number) for number in release.split("-")[0].split(".")[:2])


@contextmanager
def listening(bench: Bench) -> Iterator[None]:
    """The guest's end; each round goes back when all of it is there."""
    bench.guest.write("/dev/shm/uso.pl", GUEST.encode())
    words = ["/usr/bin/perl", "/dev/shm/uso.pl", str(PORT), str(SEGMENTS), str(SEGMENT)]
    pid = bench.guest.agent.start(words)
    try:
        yield
    finally:
        bench.guest(f"kill {pid}")


def frames(bench: Bench, cell: Cell, name: str) -> tuple[int, int]:
    """(to the host, to the guest), as both sides count them, of all rounds; nothing is lost or changed."""
    card = bench.bus.net
    before = mark(bench, card, name)
    words = [card.guest_address, str(PORT), str(ROUNDS), str(SEGMENTS), str(SEGMENT)]
    said = bench.run(bench.host.command(["python3", "-c", HOST, *words])).strip()
    cell.compare("datagrams", expected=f"back={ROUNDS * SEGMENTS} wrong=0", seen=said)
    north, south = passed(bench, card, name, before)
    cell.compare("counters of both sides", expected=south, seen=north)
    return north.tx_frames, north.rx_frames
