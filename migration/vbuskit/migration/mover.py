# SPDX-License-Identifier: MIT
"""The steps of a migration, done: libvirt moves the guest, vbusd's receipts move its bus.

What leads on is not the return of libvirt's call, but its events: "suspended, migrated" of the source, and
"suspended, paused" of the destination.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from uuid import UUID

from vbuskit.base.errors import Blocked, Refused, VbuskitError
from vbuskit.base.virt import Connection, Domain, Progress
from vbuskit.drivers import description
from vbuskit.drivers.description import BusDescription
from vbuskit.drivers.host import RequestRefused
from vbuskit.drivers.host_abi import Result
from vbuskit.drivers.proxy import LocalHost, RemoteHost
from vbuskit.migration.capture import capture_guest
from vbuskit.migration.journal import Heading
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.steps import Bus, Guest, Notes, Seen, Step

LOST = "lost"  # a receipt that was given to a mover that is dead: the bus is held, so nobody else has it
LOOK_SECONDS = 1.0  # between two looks at libvirt's figures
END_SECONDS = 60.0  # that libvirt may take to end a job
STOPPED, ARRIVED, ENDED = "source moving", "destination paused", "ended"


class GateClosed(Refused):
    """The gate has said no, or yes-if."""


class NotMoved(VbuskitError):
    """libvirt has not moved it."""


@dataclass(frozen=True, slots=True)
class Side:
    """One host; None: it does not answer."""

    virt: Connection | None
    vbusd: LocalHost | RemoteHost | None

    def guest(self, uuid: UUID) -> Guest:
        if self.virt is None:
            return Guest.UNKNOWN
        try:
            domain = self.virt.find_uuid(uuid)
            return Guest(domain.whereabouts()) if domain else Guest.GONE
        except VbuskitError:
            return Guest.UNKNOWN

    def bus(self, name: str) -> Bus:
        if self.vbusd is None:
            return Bus.UNKNOWN
        try:
            return Bus.HELD if self.vbusd.bus(name).held else Bus.SERVING
        except RequestRefused as error:
            return Bus.GONE if error.result == Result.NO_ENTRY else Bus.UNKNOWN
        except VbuskitError:
            return Bus.UNKNOWN

    def domain(self, uuid: UUID) -> Domain | None:
        return self.libvirt.find_uuid(uuid)

    @property
    def libvirt(self) -> Connection:
        if self.virt is None:
            raise Blocked("a libvirt that is needed now does not answer", hint="--resume when it does")
        return self.virt

    @property
    def host(self) -> LocalHost | RemoteHost:
        if self.vbusd is None:
            raise Blocked("a vbusd that is needed now does not answer", hint="--resume when it does")
        return self.vbusd


@dataclass
class Move:
    """`Acts` on two real hosts. `profile`: the destination's, asked for these images; limits: MiB/s, ms."""

    heading: Heading
    source: Side
    destination: Side
    profile: Callable[[Iterable[str]], HostProfile]
    tell: Callable[[str], None]
    bandwidth: int = 0
    downtime: int = 0
    was_prepared: bool = False  # by a mover before this one
    stood: float = 0.0  # when the guest was stopped
    _heard: SimpleQueue[str] = field(default_factory=SimpleQueue)
    _call: threading.Thread | None = None
    _error: VbuskitError | None = None
    _undo: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        self._undo.close()

    def look(self) -> Seen:
        """The job first: once it is over nothing moves by itself any more, and what is seen then holds."""
        moving = self._is_moving()
        uuid, bus = self.heading.uuid, self.heading.bus
        return Seen(
            moving=moving,
            source=self.source.guest(uuid),
            source_bus=self.source.bus(bus),
            destination=self.destination.guest(uuid),
            destination_bus=self.destination.bus(bus),
        )

    def do(self, step: Step, notes: Notes) -> Mapping[str, str]:
        self.tell(f"{self.heading.guest}: {step}")
        return ACTS[step](self, notes) or {}

    def _is_moving(self) -> bool:
        if self._call is not None:
            return self._call.is_alive()
        try:
            domain = self.source.virt and self.source.virt.find_uuid(self.heading.uuid)
            return bool(domain and domain.whereabouts() != Guest.GONE and domain.progress())
        except VbuskitError:
            return False

    # -- there

    def judged(self) -> tuple[Verdict, list[str]]:
        """The gate's word, and why; nothing is changed."""
        guest = capture_guest(self.source.host, self.source.libvirt, self.heading.guest)
        judgement = judge(guest, self.profile(images(guest)))
        return judgement.verdict, [str(each) for each in judgement.findings]

    def gate(self, notes: Notes) -> None:
        if (state := self.source.guest(self.heading.uuid)) is not Guest.RUNNING:
            raise Blocked(f"{self.heading.guest}: is {state}", hint="only a guest that runs is moved")
        verdict, why = self.judged()
        if verdict is not Verdict.YES:
            raise GateClosed(
                f"{self.heading.guest}: the gate says {verdict}: {'; '.join(why)}",
                hint="vbuskit gate explain RULE says more of a rule",
            )

    def prepare(self, notes: Notes) -> Mapping[str, str]:
        """One that a mover before has left is made again: nobody knows its ticket."""
        here = BusDescription.seen(self.source.host, self.heading.bus)
        there = self.destination.host
        if self.was_prepared and self.destination.bus(here.name) is Bus.HELD:
            there.remove_bus(here.name)
        ticket = there.add_bus(
            here.name,
            here.socket,
            connector=here.connector,
            window_mib=here.window,
            vectors=here.vectors,
            held=True,
        )
        try:
            for gid, bits in here.mask.items():
                there.mask(here.name, gid, bits)
            for device in here.devices:
                description.add(there, here.name, device)
            there.leave_ticket(self.heading.uuid, ticket)
        except BaseException:
            there.remove_bus(here.name)
            raise
        return {"ticket": ticket}

    def move(self, notes: Notes) -> None:
        domain = self.source.domain(self.heading.uuid)
        if domain is None:
            raise NotMoved(f"{self.heading.guest}: is not at the source any more")
        uuid = self.heading.uuid
        for side, name in ((self.source, "source"), (self.destination, "destination")):
            told = partial(self._tell_of, name)
            self._undo.enter_context(side.libvirt.watch(uuid, told))
        self._call = threading.Thread(target=self._migrate, args=(domain,), name="migrate", daemon=True)
        self._call.start()
        while self._next() not in (STOPPED, ARRIVED, ENDED):
            with suppress(VbuskitError):
                if now := domain.progress():
                    self.tell(f"{self.heading.guest}: {figures(now)}")
        self.stood = time.monotonic()

    def _tell_of(self, side: str, what: str) -> None:
        """Called by libvirt's thread."""
        self._heard.put(f"{side} {what}")

    def _migrate(self, domain: Domain) -> None:
        try:
            domain.migrate(self.heading.destination, self.bandwidth, self.downtime)
        except VbuskitError as error:
            self._error = error
        self._heard.put(ENDED)

    def _next(self) -> str | None:
        """What happens next; None when nothing did for a while. Raises when libvirt has given up."""
        try:
            what = self._heard.get(timeout=LOOK_SECONDS)
        except Empty:
            return None
        if what == ENDED and self._call:
            self._call.join()
            if self._error:
                raise NotMoved(str(self._error), hint=self._error.hint)
        return what

    def arrive(self, notes: Notes) -> Mapping[str, str]:
        return {"arrived": "yes"} if self._next() == ARRIVED else {}

    def release(self, notes: Notes) -> Mapping[str, str]:
        """Held without a receipt of ours: its answer was lost with a mover, and vbusd gives it once."""
        bus = self.heading.bus
        try:
            return {"receipt": self.source.host.release(bus, notes.ticket)}
        except RequestRefused as error:
            if Step.RELEASE not in notes.failed and self.source.bus(bus) is Bus.HELD:
                return {"receipt": LOST}
            raise Blocked(
                f"{self.heading.guest}: the source gives no receipt: {error}",
                hint="once the source writes no more: --resume --source-is-fenced",
            ) from error

    def start(self, notes: Notes) -> None:
        started(self.destination, self.heading.bus, notes.receipt)

    def wake(self, notes: Notes) -> None:
        domain = self.destination.domain(self.heading.uuid)
        if domain is None:
            raise Blocked(f"{self.heading.guest}: is not at the destination any more")
        domain.resume()
        if self.stood:
            stood = (time.monotonic() - self.stood) * 1000
            self.tell(f"{self.heading.guest}: goes on after {stood:.0f} ms")

    def tidy(self, notes: Notes) -> None:
        """libvirt first: it ends the source's QEMU by itself."""
        if self._call:
            self._call.join(END_SECONDS)
        domain = self.source.domain(self.heading.uuid)
        if domain and domain.whereabouts() != Guest.GONE:
            domain.destroy()
        if self.source.bus(self.heading.bus) is not Bus.GONE:
            self.source.host.remove_bus(self.heading.bus)
        with suppress(VbuskitError):  # the destination's own; it is of no use without a held bus
            self.destination.host.withdraw_ticket(self.heading.uuid)

    # -- back

    def cancel(self, notes: Notes) -> None:
        """libvirt has the last word: the guest may be there already."""
        if domain := self.source.domain(self.heading.uuid):
            domain.abort_job()
        deadline = time.monotonic() + END_SECONDS
        while self._is_moving():
            if time.monotonic() > deadline:
                raise Blocked(
                    f"{self.heading.guest}: libvirt does not end its migration", hint="--abort later"
                )
            with suppress(NotMoved):
                self._next()

    def clear(self, notes: Notes) -> None:
        """It has never written there. Where it was told to, it must be seen that it never will."""
        try:
            if domain := self.destination.domain(self.heading.uuid):
                domain.destroy()
            there, bus = self.destination.host, self.destination.bus(self.heading.bus)
            ours = Step.PREPARE not in notes.failed
            if ours and (bus is Bus.HELD or (bus is Bus.SERVING and Step.START in notes.begun)):
                there.remove_bus(self.heading.bus)
            there.withdraw_ticket(self.heading.uuid)
        except VbuskitError as error:
            if Step.START in notes.begun:
                raise
            self.tell(f"{self.heading.guest}: the destination keeps a held bus and a ticket: {error}")

    def restore(self, notes: Notes) -> None:
        started(self.source, self.heading.bus, notes.receipt)

    def revive(self, notes: Notes) -> None:
        if domain := self.source.domain(self.heading.uuid):
            domain.resume()


def started(side: Side, bus: str, receipt: str) -> None:
    """One that is served already was started by a mover before."""
    if side.bus(bus) is Bus.SERVING:
        return
    if receipt in ("", LOST):
        side.host.start(bus, "", fenced=True)
    else:
        side.host.start(bus, receipt)


def images(guest: GuestProfile) -> list[str]:
    return [device.backend for device in guest.devices if device.backend.startswith("/")]


def figures(now: Progress) -> str:
    mib = 1 << 20
    return (
        f"{now.done / mib:.0f} MiB done, {now.left / mib:.0f} left, {now.dirtied / mib:.1f} MiB/s dirtied, "
        f"{now.downtime} ms downtime expected"
    )


ACTS: dict[Step, Callable[[Move, Notes], Mapping[str, str] | None]] = {
    Step.GATE: Move.gate,
    Step.PREPARE: Move.prepare,
    Step.MOVE: Move.move,
    Step.RELEASE: Move.release,
    Step.ARRIVE: Move.arrive,
    Step.START: Move.start,
    Step.WAKE: Move.wake,
    Step.TIDY: Move.tidy,
    Step.CANCEL: Move.cancel,
    Step.CLEAR: Move.clear,
    Step.RETURN: Move.restore,
    Step.REVIVE: Move.revive,
}
