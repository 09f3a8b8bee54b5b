# SPDX-License-Identifier: MIT
"""The bus of a guest on its host: vbusd, its cards, and what both sides say of them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from vbuskit.base.errors import TimedOut
from vbuskit.base.places import make
from vbuskit.base.run import Arg, Process, Runner
from vbuskit.base.wait import until
from vbuskit.compat.guest import Guest
from vbuskit.compat.host import Host
from vbuskit.drivers import host as south

T = TypeVar("T")

RUN = "/run/vbus"
PATIENCE = 60.0  # seconds; every wait below ends earlier when it can, and with an error when it cannot


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A venet as the administrator describes it; the network 10.77.NUMBER.0/24 is its own.

    mtu: bytes; 0: what everybody has
    """

    name: str
    number: int
    klass: str = "venet-tap"
    mtu: int = 0

    @property
    def uuid(self) -> UUID:
        return UUID(f"76627573-6b69-4000-8000-{self.number:012x}")

    @property
    def mac(self) -> str:
        """Locally administered, and another one for each card."""
        return f"02:76:62:75:73:{self.number:02x}"

    @property
    def host_mac(self) -> str:
        """The same for each tap in turn: a guest that goes on with another vbusd remembers it."""
        return f"06:76:62:75:73:{self.number:02x}"

    @property
    def tap(self) -> str:
        return f"vbustap{self.number}" if self.klass == "venet-tap" else ""

    @property
    def host_address(self) -> str:
        return f"10.77.{self.number}.1"

    @property
    def guest_address(self) -> str:
        return f"10.77.{self.number}.2"


NET = Card(name="net", number=1)
ECHO = Card(name="echo", number=2, klass="venet-loopback")
EXTRA = Card(name="extra", number=3)
MASKED = Card(name="masked", number=4)
JUMBO = Card(name="jumbo", number=5, mtu=9000)
TWIN = Card(name="twin", number=6)


@dataclass(frozen=True, slots=True)
class Features:
    """Per feature group: bits offered and bits in force, as one side says it."""

    offered: dict[int, int]
    active: dict[int, int]


@dataclass(slots=True)
class Bus:
    """vbusd with one bus, on a host, while the `with` block lasts.

    name:     of the bus; QEMU's socket carries it too
    programs: {"vbusd": ..., "vbus-worker": ...}
    """

    run: Runner
    host: Host
    name: str
    programs: Mapping[str, Path]
    logs: Path
    cards: tuple[Card, ...] = (NET, ECHO)
    net: Card = NET
    echo: Card = ECHO
    client: south.Host = field(init=False)
    _daemon: Process = field(init=False)
    _undo: ExitStack = field(init=False, default_factory=ExitStack)

    @property
    def socket(self) -> Path:
        """Where QEMU finds the bus, as the host sees it."""
        return Path(RUN) / f"{self.name}.sock"

    @property
    def pid(self) -> int:
        """Of the vbusd that runs now."""
        return self._daemon.pid

    @property
    def log(self) -> Path:
        """What every vbusd of this bus says, one after the other."""
        return make(self.logs) / "vbusd.log"

    def __enter__(self) -> Self:
        make(self.host.seen(RUN))
        with ExitStack() as undo:
            undo.callback(self._end)
            self._begin()
            self._undo = undo.pop_all()
        return self

    def start_over(self) -> None:
        """End, and begin with another vbusd: worker, window and epoch are new, name and cards are not."""
        self._end()
        self._begin()

    def _begin(self) -> None:
        self._start()
        self.client.add_bus(self.name, self.socket)
        for card in self.cards:
            self.add(card)

    def _start(self) -> None:
        """A vbusd, which finds what a former one has left, and a connection to it."""
        admin = f"{RUN}/vbusd.sock"
        command: list[Arg] = [self.programs["vbusd"], "--socket", admin]
        self._daemon = self.run.start(self.host.command(command), output=self.log)
        south.await_answer(self._daemon, self.host.seen(admin), self.log)
        self.client = south.Host(self.host.seen(admin))

    def _end(self) -> None:
        """It may never have started, or be the one that could not take over."""
        if hasattr(self, "client"):
            self.client.close()
        if hasattr(self, "_daemon"):
            south.end_all(self._daemon, self.host.seen(f"{RUN}/vbusd.sock"))
            self._daemon.stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @contextmanager
    def beside(self, name: str, card: Card) -> Iterator[Bus]:
        """Another bus of the same vbusd, for another guest: a worker and a window of its own, one card."""
        other = replace(self, name=name, cards=(card,), net=card)
        other.client, other._daemon = self.client, self._daemon
        self.client.add_bus(name, other.socket)
        try:
            other.add(card)
            yield other
        finally:
            self.client.remove_bus(name)

    # ---- The administrator ----

    def add(self, card: Card) -> None:
        """Plug a card in; the guest sees it at once, and a tap comes up with the host's address."""
        self.client.add_device(
            self.name, card.uuid, card.klass, mac=card.mac, mtu=card.mtu, argument=card.tap
        )
        self._bring_up(card)

    def _bring_up(self, card: Card) -> None:
        """The host's end of a tap, which is new with each vbusd that has to make it."""
        if card.tap:
            self.run(self.host.command(["ip", "address", "add", f"{card.host_address}/24", "dev", card.tap]))
            mtu = ["mtu", str(card.mtu)] if card.mtu else []
            look = ["address", card.host_mac, *mtu]
            self.run(self.host.command(["ip", "link", "set", card.tap, *look, "up"]))

    def remove(self, card: Card) -> None:
        self.client.remove_device(self.name, card.uuid)

    @contextmanager
    def masked(self, group: int, bits: int) -> Iterator[None]:
        """Feature bits that no card is offered which is opened inside the block."""
        self.client.mask(self.name, group, bits)
        try:
            yield
        finally:
            self.client.mask(self.name, group, 0)

    def kill_worker(self) -> int:
        """SIGKILL to the worker; returns the epoch of the one that took its place."""
        before = self.status()
        self.host.kill(before.worker)
        return self._next_epoch(before, lambda now: now.restarts > before.restarts)

    def renew(self) -> int:
        """Have the worker make room for a fresh one, as an upgrade does; returns that one's epoch."""
        before = self.status()
        self.client.renew(self.name)
        return self._next_epoch(before, lambda now: now.handovers > before.handovers)

    def kill_vbusd(self) -> south.Bus:
        """SIGKILL to vbusd, and another one; returns what that one says of the bus at once."""
        self._kill_daemon()
        self._start()
        return self.status()

    def lose_both(self) -> None:
        """Have vbusd and its worker dead at once, and start another vbusd."""
        worker = os.pidfd_open(self.status().worker)
        # One that stands still does not replace the worker before it is its own turn.
        self._daemon.kill(signal.SIGSTOP)
        signal.pidfd_send_signal(worker, signal.SIGKILL)
        # The next vbusd would meet one that is still dying, and tell another story.
        ended, _, _ = select.select([worker], [], [], PATIENCE)
        os.close(worker)
        if not ended:
            raise TimedOut(f"bus {self.name}: its worker does not die", hint=f"see {self.logs}")
        self._kill_daemon()
        self._start()
        for card in self.cards:
            self._bring_up(card)

    def _kill_daemon(self) -> None:
        """Nothing but vbusd itself: its worker is in the same process group."""
        self.client.close()
        self._daemon.kill()
        self._daemon.wait(PATIENCE)

    def _next_epoch(self, before: south.Bus, happened: Callable[[south.Bus], bool]) -> int:
        def look() -> int | None:
            now = self.status()
            return now.epoch if now.worker and happened(now) and now.epoch != before.epoch else None

        return self._until("another worker", look)

    # ---- What the south says ----

    def ended(self) -> int | None:
        """How vbusd ended; None: it runs."""
        return self._daemon.poll()

    def status(self) -> south.Bus:
        return self.client.bus(self.name)

    def device(self, card: Card) -> south.Device:
        return self.client.device(self.name, card.uuid)

    def confirmed(self) -> str:
        """`confirmed`, once the guest echoes the worker's epoch."""
        return self._until("confirmed", lambda: "confirmed" if self.status().confirmed else None)

    def abandoned(self) -> str:
        """`no driver`, once the guest echoes nothing any more."""
        return self._until("no driver", lambda: None if self.status().confirmed else "no driver")

    def moved(self, card: Card, count: int) -> None:
        """Wait until `count` more bytes have passed through a card, in both directions together."""
        start = self._passed(card)
        self._until(f"{count} more bytes", lambda: self._passed(card) - start >= count or None)

    def _passed(self, card: Card) -> int:
        counters = self.device(card).counters
        return counters["rx_bytes"] + counters["tx_bytes"]

    def features(self, card: Card) -> Features:
        found = self.device(card).groups
        return Features(
            {gid: group.offered for gid, group in found.items()},
            {gid: group.active for gid, group in found.items()},
        )

    # ---- What the north says ----

    def north(self, guest: Guest) -> dict[str, str]:
        """The guest's counters: `name: value` lines of debugfs, one bridge a guest."""
        lines = guest("cat /sys/kernel/debug/vbus/*/counters").splitlines()
        return dict(line.split(": ", 1) for line in lines)

    def features_in(self, guest: Guest, card: Card) -> Features:
        base = f"/sys/bus/vbus/devices/{card.uuid}"
        offered, active = guest(f"cat {base}/offered {base}/negotiated").splitlines()
        return Features(groups(offered), groups(active))

    def replays(self, guest: Guest, card: Card) -> int:
        return int(guest(f"cat /sys/bus/vbus/devices/{card.uuid}/replays"))

    def state(self, guest: Guest, card: Card) -> str:
        """closed, opening, open, lost, replay, failed; gone when the guest does not know the card."""
        return (
            guest.execute(f"cat /sys/bus/vbus/devices/{card.uuid}/state 2>/dev/null").out.strip() or "gone"
        )

    def appears(self, guest: Guest, card: Card) -> str:
        """`open`, once the guest has the card and an interface for it; or how far it has come, in time."""
        return self.interface(guest, card)[0]

    def interface(self, guest: Guest, card: Card) -> tuple[str, list[str]]:
        """What `appears` says, and the names of the card's interfaces."""
        # One command of the shell's own: each look costs the guest.
        folder = f"cd /sys/bus/vbus/devices/{card.uuid} 2>/dev/null"
        look = f'{folder} && set -- net/* && [ -e "$1" ] && echo "$@" && read -r now <state && echo "$now"'
        found = until(lambda: guest.execute(look).out.split(), PATIENCE, pause=0.005)
        if found:
            return found[-1], [name.removeprefix("net/") for name in found[:-1]]
        return f"{self.state(guest, card)}, no interface in {PATIENCE:g} s", []

    def ready(self, guest: Guest) -> None:
        """Return once both sides are connected and the guest has opened each card."""
        self.confirmed()
        for card in self.cards:
            self._opened(guest, card)

    def _opened(self, guest: Guest, card: Card) -> None:
        self._until(f"{card.name} open", lambda: self.appears(guest, card) == "open" or None)

    def vanishes(self, guest: Guest, card: Card) -> str:
        """`gone`, once the driver has let go: attributes go before that, the folder after."""
        folder = f"ls -d {folders(card.uuid)} 2>/dev/null"
        return self._until(f"{card.name} gone", lambda: None if guest.execute(folder).out else "gone")

    def _until(self, what: str, look: Callable[[], T | None]) -> T:
        seen = until(look, PATIENCE, pause=0.005)
        if seen is None:
            raise TimedOut(f"bus {self.name}: not within {PATIENCE:g} s: {what}", hint=f"see {self.logs}")
        return seen


def groups(line: str) -> dict[int, int]:
    """`1:0x1 3:0x1` -> {1: 1, 3: 1}; the format of sysfs' offered and negotiated."""
    return {int(gid): int(bits, 16) for gid, bits in (word.split(":") for word in line.split())}


def folders(uuid: UUID) -> str:
    """Where the guest has a device, for a shell: its bridge is on the root bus or behind a port."""
    return f"/sys/devices/pci*/*/{uuid} /sys/devices/pci*/*/*/{uuid}"
