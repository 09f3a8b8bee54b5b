# SPDX-License-Identifier: MIT
"""A lab that stands, as other processes see it: who holds it, what its hosts are, a cut between two of them.

Its holder has a lock on a file, which the kernel drops with it; asked who has the lock, the kernel says the
holder's number as it is here. Through that one process everything of the lab is reached.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vbuskit.base.artifact import write
from vbuskit.base.errors import Blocked, TimedOut, UsageError
from vbuskit.base.run import Arg, Runner
from vbuskit.base.virt import Connection
from vbuskit.compat.host import NAMESPACES
from vbuskit.compat.lab import LIBVIRT, SHARED, VBUSD, Lab, address

LOCK, STATE = "lock", "state.json"
FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2), 64 bits
NOBODY = (
    "02:00:00:00:00:00"  # an Ethernet address that no host has: what is sent there is lost without a word
)
PATIENCE = 60.0  # seconds that a lab may take to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One host; `pid` of a process in its namespaces, as the lab counts; paths as the holder sees them."""

    name: str
    suite: str
    address: str
    uri: str
    versions: str
    pid: int
    libvirt: str
    vbusd: str


def holder(folder: Path) -> int | None:
    """The process whose end is the lab's, or None: no lab stands there."""
    try:
        with (folder / LOCK).open("rb") as file:
            asked = FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_, pid = FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return None
    return None if kind == fcntl.F_UNLCK else pid


def taken(folder: Path, pid: int | None = None) -> Blocked:
    who = f", held by process {pid}" if pid else ""
    return Blocked(
        f"lab {folder.name}: stands already{who}",
        hint=f"./vbuskit lab down --name {folder.name}, or give the new one another --name",
    )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """This process is the holder; Blocked when another one is."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise taken(folder) from error
        try:
            yield
        finally:
            (folder / STATE).unlink(missing_ok=True)


def publish(folder: Path, lab: Lab) -> list[Seat]:
    """The lab is whole: others may use it."""
    seats = [
        Seat(
            name=host.name,
            suite=outfit.suite,
            address=address(number),
            uri=uri,
            versions=host.connection.versions(),
            pid=host.pid,
            libvirt=str(host.seen(LIBVIRT)),
            vbusd=str(host.seen(VBUSD)) if outfit.vbusd else "",
        )
        for number, (host, outfit, uri) in enumerate(zip(lab.hosts, lab.outfits, lab.uris, strict=True), 1)
    ]
    said = {"begun": begun(os.getpid()), "switch": lab.switch, "hosts": [asdict(seat) for seat in seats]}
    write(folder / STATE, json.dumps(said))
    return seats


def state(folder: Path, pid: int) -> Any:
    """What its holder has published, or None: nothing yet; one that was killed may have left another."""
    try:
        said = json.loads((folder / STATE).read_text())
        return said if said["begun"] == begun(pid) else None
    except FileNotFoundError:
        return None


def is_whole(folder: Path) -> bool:
    pid = holder(folder)
    return pid is not None and state(folder, pid) is not None


class Standing:
    """The lab of that folder. Blocked when none stands there, or not yet."""

    def __init__(self, run: Runner, folder: Path) -> None:
        self.name = folder.name
        self._run = run
        pid = holder(folder)
        if pid is None:
            raise Blocked(f"lab {folder.name}: does not stand", hint="./vbuskit lab up starts one")
        said = state(folder, pid)
        if said is None:
            raise Blocked(
                f"lab {folder.name}: is not up yet; process {pid} is at it",
                hint="wait, or ./vbuskit lab down",
            )
        self.pid = pid
        self.hosts = [Seat(**words) for words in said["hosts"]]
        self._switch = int(said["switch"])

    def host(self, word: str) -> Seat:
        """By name or by number."""
        for number, seat in enumerate(self.hosts, 1):
            if word in (seat.name, str(number)):
                return seat
        raise UsageError(
            f"{word}: is no host of lab {self.name}",
            hint=f"there are: {', '.join(seat.name for seat in self.hosts)}",
        )

    def command(self, host: Seat, args: Sequence[Arg]) -> list[Arg]:
        """The same command, on a host; it ends with the lab."""
        return self._inside(["nsenter", f"--target={host.pid}", *NAMESPACES, "--", *args])

    def on_network(self, args: Sequence[Arg]) -> list[Arg]:
        """The same command, with this machine's files and the lab's network."""
        return self._inside(["nsenter", f"--target={self._switch}", "--net", "--", *args])

    def _inside(self, args: Sequence[Arg]) -> list[Arg]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--", *args]

    def run(self, host: Seat, words: Sequence[Arg], seconds: float | None = None) -> str:
        return self._run(self.command(host, words), seconds=seconds)

    def outside(self, path: str) -> Path:
        """The same file, which may be a socket, for any process of this machine that is root."""
        return Path(f"/proc/{self.pid}/root{path}")

    def uri(self, host: Seat) -> str:
        """Its libvirt for a process outside; for other hosts it is `host.uri`."""
        return f"qemu+unix:///system?socket={self.outside(host.libvirt)}"

    def partition(self, one: Seat, other: Seat) -> None:
        """From now on all that either sends to the other is lost; both keep all other hosts."""
        if one == other:
            raise UsageError(f"{one.name}: cannot be parted from itself")
        for here, there in ((one, other), (other, one)):
            words = ["ip", "neighbour", "replace", there.address, "lladdr", NOBODY, "dev", "eth0"]
            self.run(here, [*words, "nud", "permanent"])

    def heal(self, one: Seat, other: Seat) -> None:
        for here, there in ((one, other), (other, one)):
            if there.address in self._lost_to(here):
                self.run(here, ["ip", "neighbour", "delete", there.address, "dev", "eth0"])

    def partitions(self) -> list[tuple[Seat, Seat]]:
        lost = {seat.name: self._lost_to(seat) for seat in self.hosts}
        return [
            (one, other)
            for number, one in enumerate(self.hosts)
            for other in self.hosts[number + 1 :]
            if other.address in lost[one.name]
        ]

    def _lost_to(self, host: Seat) -> set[str]:
        known = json.loads(self.run(host, ["ip", "-json", "neighbour", "show", "nud", "permanent"]) or "[]")
        return {entry["dst"] for entry in known if entry.get("lladdr") == NOBODY}

    def status(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "pid": self.pid,
            "shared": SHARED,
            "partitions": [[one.name, other.name] for one, other in self.partitions()],
            "hosts": [self._status_of(host) for host in self.hosts],
        }

    def _status_of(self, host: Seat) -> dict[str, Any]:
        try:
            with Connection(self.uri(host)) as connection:
                guests: dict[str, str] | None = {
                    name: domain.state()
                    for name in connection.running()
                    if (domain := connection.find(name)) is not None
                }
        except Blocked:
            guests = None
        return {
            "name": host.name,
            "suite": host.suite,
            "versions": host.versions,
            "address": host.address,
            "uri": host.uri,
            "outside": self.uri(host),
            "vbusd": str(self.outside(host.vbusd)) if host.vbusd else None,
            "guests": guests,
        }


def end(folder: Path) -> None:
    """Return when nothing of the lab is left: its reaper is the last of it. Blocked when there is none."""
    pid = holder(folder)
    if pid is None:
        raise Blocked(f"lab {folder.name}: does not stand", hint="./vbuskit lab up starts one")
    with suppress(ProcessLookupError, FileNotFoundError):
        reaper = os.pidfd_open(parent_of(pid))
        try:
            os.kill(pid, signal.SIGTERM)
            if not select.select([reaper], [], [], PATIENCE)[0]:
                raise TimedOut(
                    f"lab {folder.name}: does not end within {PATIENCE:g} s", hint=f"kill -9 {pid}"
                )
        finally:
            os.close(reaper)


def parent_of(pid: int) -> int:
    return int(fields(pid)[1])


def begun(pid: int) -> str:
    """When it started: tells it from another one that has its number or its place."""
    return fields(pid)[19]


def fields(pid: int) -> list[str]:
    """proc(5), from the third one on: the second is a name in parentheses, which may have any letters."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
