# SPDX-License-Identifier: MIT
"""Traffic between a guest and its host over one card: addresses, ping, transfers with both ends' checksums.

The guest needs nothing but bash: its /dev/tcp is the client, a file in /dev/shm is what it sends or has got.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vbuskit.base.errors import VbuskitError
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card
from vbuskit.compat.domain import Nic
from vbuskit.compat.stream import Passed, Stream, stream

MIB = 1 << 20
TO_HOST, TO_GUEST = "to-host", "to-guest"
PORTS = {TO_HOST: 5001, TO_GUEST: 5002}


def interface_of(bench: Bench, card: Card) -> str:
    """The guest's name for a card, which it may still have to find; both sides know it by its UUID."""
    state, names = bench.bus.interface(bench.guest, card)
    if len(names) != 1:
        raise VbuskitError(f"{card.name}: the guest has {len(names)} interfaces for it, not one ({state})")
    return names[0]


def interface_with(bench: Bench, mac: str) -> str:
    """The guest's name for whatever has that address."""
    names = bench.guest(f"cd /sys/class/net && grep -l -x -F {mac} */address").split()
    if len(names) != 1:
        raise VbuskitError(f"{mac}: the guest has {len(names)} interfaces with it, not one")
    return names[0].partition("/")[0]


def bring_up(bench: Bench, card: Card | Nic) -> str:
    """Give the guest's end its address; returns the interface."""
    name = interface_of(bench, card) if isinstance(card, Card) else interface_with(bench, card.mac)
    bench.guest(f"ip address replace {card.guest_address}/24 dev {name} && ip link set {name} up")
    return name


@dataclass(frozen=True, slots=True)
class Pinged:
    sent: int
    received: int

    def __str__(self) -> str:
        return f"{self.received} of {self.sent}"


def ping(bench: Bench, card: Card, count: int = 20) -> Pinged:
    done = bench.guest.execute(f"ping -n -c {count} -i 0.05 -W 2 {card.host_address}")
    numbers = re.search(r"(\d+) packets transmitted, (\d+) received", done.out)
    if numbers is None:
        raise VbuskitError(f"ping {card.host_address}: {(done.err or done.out).strip() or 'said nothing'}")
    return Pinged(int(numbers[1]), int(numbers[2]))


@contextmanager
def flood(bench: Bench, card: Card) -> Iterator[None]:
    """As many pings as go through, until the block ends; the card may go away meanwhile."""
    bring_up(bench, card)
    bench.guest.agent.start(f"exec ping -f -q -s 1400 {card.host_address}")
    bench.bus.moved(card, 1 << 16)
    yield
    bench.guest("kill $(pidof ping); :")


class Transfer:
    """One direction under way; `ends` waits and returns (what the sender sent, what the receiver got).

    base: of the names of the guest's files
    """

    def __init__(self, bench: Bench, direction: str, base: str, end: Stream) -> None:
        self._bench = bench
        self._direction = direction
        self._base = base
        self._end = end

    def ends(self, seconds: float = 120) -> tuple[Passed, Passed]:
        host = self._end.passed(seconds)
        guest = self._guest_end(seconds)
        return (guest, host) if self._direction == TO_HOST else (host, guest)

    def _guest_end(self, seconds: float) -> Passed:
        """The last line that the guest's client wrote, once it has ended."""
        base = self._base
        waiting = f"until [ -e {base}.done ]; do sleep 0.1; done; cat {base}.done; rm -f {base} {base}.done"
        words = self._bench.guest(waiting, seconds).split()
        if len(words) < 2 or words[0] == "failed":
            raise VbuskitError(f"transfer {self._direction}: the guest's end failed: {' '.join(words[1:])}")
        return Passed(int(words[1]), words[0])


# The client runs on after the agent's command has returned: a transfer is watched while it is under way.
CLIENT = """
base={base}
{{
    if {{ {body}; }} 2>"$base.err"; then
        set -- $(sha256sum <"$base") && printf '%s %s\\n' "$1" "$(stat -c %s "$base")" >"$base.part"
    else
        printf 'failed %s\\n' "$(tail -n 1 "$base.err")" >"$base.part"
    fi
    rm -f "$base.err"
    mv "$base.part" "$base.done"
}} >/dev/null 2>&1 </dev/null &
"""
BODIES = {
    TO_HOST: 'cat "$base" >/dev/tcp/{address}/{port}',
    TO_GUEST: 'cat </dev/tcp/{address}/{port} >"$base"',
}


@contextmanager
def transfer(
    bench: Bench, card: Card | Nic, direction: str, count: int, address: str = ""
) -> Iterator[Transfer]:
    """Start one direction, `count` bytes, and go on while it runs; each card may have its own.

    address: of the host's end, when it is not the card's usual one
    """
    kind, port = ("sink" if direction == TO_HOST else "source"), PORTS[direction]
    base = prepare(bench, card, direction, count)
    log = bench.places.work("logs") / f"stream-{card.name}-{direction}.log"
    address = address or card.host_address
    body = BODIES[direction].format(address=address, port=port)
    with stream(bench.run, bench.host, kind, address, port, count, log) as end:
        bench.guest(["/bin/bash", "-c", CLIENT.format(base=base, body=body)])
        yield Transfer(bench, direction, base, end)


# One connection both ways, in one command, since each costs a guest more than a MiB does. What comes back
# comes after the host's end has got all: what the interface has sent until then, it has sent for that.
EXCHANGE = """
set -e
trap 'rm -f {base} {base}.got' EXIT
look() {{
    while read -r card _ _ _ _ _ _ _ _ length passed _; do
        [ "$card" = {name}: ] && return
    done </proc/net/dev
}}
head -c {count} /dev/urandom >{base}
look
bytes=$length frames=$passed
exec 3<>/dev/tcp/{address}/{port}
cat {base} >&3
head -c 1 <&3 >{base}.got
look
bytes=$((length - bytes)) frames=$((passed - frames))
cat <&3 >>{base}.got
echo $bytes $frames
stat -c %s {base} {base}.got
sha256sum <{base}
sha256sum <{base}.got
"""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What each end saw of an exchange, by direction: the sender, the receiver.

    frame: bytes a frame of those that the guest sent, on average
    """

    ends: dict[str, tuple[Passed, Passed]]
    frame: int


def exchange(bench: Bench, address: str, name: str, count: int, port: int = 5003) -> Exchanged:
    """`count` bytes to the host, and then as many back, through the guest's interface `name`."""
    log = bench.places.work("logs") / f"exchange-{name}.log"
    words = {"name": name, "count": count, "base": f"/dev/shm/exchange-{name}", "address": address}
    with stream(bench.run, bench.host, "both", address, port, count, log) as end:
        said = bench.guest(["/bin/bash", "-c", EXCHANGE.format(port=port, **words)]).split()
        got, sent = end.passed(word="got"), end.passed()
    bytes_, frames, there, back, digest, _, other, _ = said
    north = Passed(int(there), digest), Passed(int(back), other)
    ends = {TO_HOST: (north[0], got), TO_GUEST: (sent, north[1])}
    return Exchanged(ends, int(bytes_) // int(frames))


def prepare(bench: Bench, card: Card | Nic, direction: str, count: int) -> str:
    """Have what the guest will send, unless it is there: making it may take longer than the way.

    Returns the base of the names of the guest's files.
    """
    base = f"/dev/shm/{card.name}-{direction}"
    bench.guest(f"rm -f {base}.done")
    if direction == TO_HOST:
        is_there = f'[ "$(stat -c %s {base} 2>/dev/null)" = {count} ]'
        bench.guest(f"{is_there} || head -c {count} /dev/urandom >{base}", seconds=120)
    return base
