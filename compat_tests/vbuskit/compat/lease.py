# SPDX-License-Identifier: MIT
"""A pool of hosts, of which a holder has one for itself; and the log that says who had which.

The lock is a file on the host itself, held there by a process at the other end of our ssh session
(warden.py): so it holds between controllers, too, and goes with the session, however that ends.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vbuskit.base.errors import Blocked, Exit, Refused, UsageError, VbuskitError, printable
from vbuskit.base.places import make
from vbuskit.base.run import Arg, Dialogue, Runner
from vbuskit.compat import warden
from vbuskit.compat.ssh import Address, Way

LOCK = "/run/lock/vbuskit.lease"
LOG = "leases.jsonl"
FIRST_WORD = 60.0  # seconds until a host that can be reached has said something
LETTING_GO = 30.0
BOOT = """\
import os, sys
size, source = int(sys.argv.pop(1)), b""
while len(source) < size:
    part = os.read(0, size - len(source))
    if not part: sys.exit(1)
    source += part
exec(compile(source, "warden.py", "exec"), {"__name__": "__main__", "SOURCE": source.decode()})
"""


FIELDS = ("time", "event", "host", "lease", "run", "worker", "what")


@dataclass(frozen=True, slots=True)
class LeaseLog:
    """JSON lines, appended by every worker of a run; each is one write, so a kill cuts none in two."""

    path: Path

    def add(self, event: str, host: str, lease: str, run: str, worker: str, what: str) -> None:
        """event: take, cell, release, or lost (its holder died, or the host went away)."""
        values = (now(), event, host, lease, run, worker, what)
        entry = dict(zip(FIELDS, values, strict=True))
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(file)

    def entries(self) -> list[dict[str, str]]:
        """Raises Refused for a line that is none."""
        if not self.path.exists():  # nobody has taken a host yet
            return []
        found = []
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                entry = json.loads(line)
                found.append({name: str(entry[name]) for name in FIELDS})
            except (ValueError, KeyError, TypeError) as error:
                raise Refused(f"{self.path}:{number}: is no line of a lease log") from error
        return found


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two leases of one host at once: the second one was taken while the first one was held."""

    host: str
    first: str
    second: str


def overlaps(log: Path) -> list[Overlap]:
    """By the order of the lines, which no clock can turn round: each is written while the host is held."""
    held: dict[str, dict[str, str]] = {}
    found = []
    for entry in LeaseLog(log).entries():
        host, holder = entry["host"], held.get(entry["host"])
        if entry["event"] == "take":
            if holder is not None:
                found.append(Overlap(host, holder["lease"], entry["lease"]))
            held[host] = entry
        elif holder is not None and holder["lease"] == entry["lease"] and entry["event"] != "cell":
            del held[host]
        elif entry["event"] == "cell" and (holder is None or holder["lease"] != entry["lease"]):
            found.append(Overlap(host, holder["lease"] if holder else "nobody", entry["lease"]))
    return found


@dataclass(slots=True)
class Lease:
    """A host that is ours while the `with` block of `Pool.lease` lasts.

    id:      another one each time
    scratch: a folder on the host that goes with the lease
    """

    way: Way
    id: str
    log: LeaseLog
    run_id: str
    worker: str
    what: str
    dialogue: Dialogue
    errors: Path
    scratch: str = ""
    script: str = ""
    socket: str = ""

    @property
    def uri(self) -> str:
        return self.way.address.uri

    def words(self, verb: str, *args: Arg) -> list[Arg]:
        """What the host's end is asked for, as a command of this machine."""
        return self.way.words(["python3", self.script, verb, *args])

    def command(self, args: Sequence[Arg]) -> list[Arg]:
        """The same command, there, without a standard input; it ends with the lease at the latest.

        ssh's own is a pipe that we keep open: its end is what tells the host that ssh is gone here.
        """
        return ["sh", "-c", 'exec "$@" <"$0"', self.way.tie, *self.words("run", self.socket, *args)]

    def kill(self, pid: int, number: int) -> None:
        """Signal a process there, at once. Raises Blocked when the host is ours no more."""
        self.check()
        self.dialogue.say(f"kill {number} {pid}\n")
        answer = document(self.dialogue.heard(LETTING_GO))
        if answer.get("killed") != "":
            raise VbuskitError(f"{self.uri}: process {pid}: {answer.get('killed', 'no answer')}")

    def cell(self, name: str) -> None:
        """Note that it starts. Raises Blocked when the host is ours no more."""
        self.check()
        self.note("cell", name)

    def check(self) -> None:
        if self.dialogue.heard(0) is None and self.dialogue.is_over:
            raise Blocked(f"{self.uri}: the lease is lost: {self.why()}", hint="is the host still there?")

    def note(self, event: str, what: str = "") -> None:
        self.log.add(event, self.uri, self.id, self.run_id, self.worker, what or self.what)

    def why(self) -> str:
        return said_last(self.errors)


def said_last(errors: Path) -> str:
    """What ssh or the host's end said before it ended; a dot is only a sign of life."""
    lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip(". ")]
    return printable(lines[-1].strip()) if lines else "the connection has ended"


def hosts_checked(hosts: Sequence[str]) -> None:
    """Raises UsageError for one that is none, or is there twice."""
    if len({*hosts}) != len(hosts):
        raise UsageError("a pool has a host twice", hint="name each once")
    for uri in hosts:
        Address.of(uri)


@dataclass(slots=True)
class Pool:
    """Hosts by their URIs, for one worker of one run.

    folder: of the run; its workers share the log in it
    run_id: of the run, the same for all its workers
    worker: as pytest-xdist calls it
    lock:   the file on each host
    tell:   who has to be waited for, and which host is no good
    """

    run: Runner
    hosts: Sequence[str]
    folder: Path
    run_id: str
    worker: str = "main"
    lock: str = LOCK
    tell: Callable[[str], None] = field(default=lambda text: print(f"vbuskit: {text}", file=sys.stderr))

    def __post_init__(self) -> None:
        if not self.hosts:
            raise UsageError("a pool without hosts", hint="--hosts qemu+ssh://USER@HOST/system ...")
        hosts_checked(self.hosts)

    @property
    def log(self) -> LeaseLog:
        return LeaseLog(make(self.folder) / LOG)

    @contextmanager
    def lease(self, what: str) -> Iterator[Lease]:
        """A host for `what`, a group of cells; waits while all are held.

        A host on which a worker of this run has died is left alone as long as there is another one. Raises
        Blocked when no host can be reached.
        """
        lease = self._take(what)
        try:
            yield lease
        finally:
            self._let_go(lease)

    def _take(self, what: str) -> Lease:
        reasons: list[str] = []
        lost = self._lost_hosts()
        lease = self._first_of([uri for uri in self._turned() if uri not in lost], what, reasons, last=False)
        if lease is None and (lost := self._lost_hosts()):
            lease = self._first_of(sorted(lost), what, reasons, last=True)
        if lease is not None:
            return lease
        raise Blocked(
            f"no host of the pool can be used: {'; '.join(reasons) or 'all were lost'}",
            hint="does ssh reach them without a password, and is python3 there?",
        )

    def _first_of(self, hosts: Sequence[str], what: str, reasons: list[str], *, last: bool) -> Lease | None:
        """Ask one after the other; when all are held, the first that comes free."""
        waiting: list[Lease] = []
        try:
            for uri in hosts:
                asked = self._ask(uri, what)
                waiting.append(asked)
                if self._hears(asked, FIRST_WORD, waiting, reasons, last=last):
                    return asked
            while waiting:
                ready, _, _ = select.select([each.dialogue for each in waiting], [], [])
                for asked in [each for each in waiting if each.dialogue in ready]:
                    if self._hears(asked, 0, waiting, reasons, last=last):
                        return asked
        finally:
            for left in waiting:
                drop(left)
        return None

    def _turned(self) -> list[str]:
        """Each worker starts with another host, so that few ask in vain."""
        first = int("".join(filter(str.isdigit, self.worker)) or 0) % len(self.hosts)
        return [*self.hosts[first:], *self.hosts[:first]]

    def _lost_hosts(self) -> set[str]:
        """Where a worker of this run has died, or which went away under one."""
        entries = [entry for entry in self.log.entries() if entry["run"] == self.run_id]
        return {entry["host"] for entry in entries if entry["event"] == "lost"} & {*self.hosts}

    def _ask(self, uri: str, what: str) -> Lease:
        way, identity = Way(Address.of(uri)), uuid.uuid4().hex[:12]
        source = Path(warden.__file__).read_text()
        who = {
            "lease": identity,
            "run": self.run_id,
            "worker": self.worker,
            "pid": os.getpid(),
            "machine": socket.gethostname(),
            "since": now(),
        }
        words: list[Arg] = ["python3", "-c", BOOT, str(len(source.encode())), "lease", self.lock]
        errors = way.folder / "errors"
        dialogue = self.run.converse(way.words([*words, json.dumps(who)], master=True), errors=errors)
        with suppress(Blocked):  # one that has ended already says why below
            dialogue.say(source)
        return Lease(way, identity, self.log, self.run_id, self.worker, what, dialogue, errors)

    def _hears(
        self, asked: Lease, seconds: float, waiting: list[Lease], reasons: list[str], *, last: bool
    ) -> bool:
        """Whether the host is ours now. One that waits stays in `waiting`, any other leaves it."""
        line = asked.dialogue.heard(seconds)
        while "waits" in (said := document(line)):
            self.tell(f"waiting for {asked.uri}: {holder(said['waits'])}")
            # What came with it is in our hands already: select() would not tell of it.
            seconds, line = 0, asked.dialogue.heard(0)
        if line is None and seconds == 0 and not asked.dialogue.is_over:
            return False
        waiting.remove(asked)
        if "taken" in said:
            former = said.get("former")
            if isinstance(former, dict):
                self._lost(asked.uri, former)
                if former.get("run") == self.run_id and len(self.hosts) > 1 and not last:
                    self.tell(f"{asked.uri}: left alone, as {former.get('worker')} of this run died on it")
                    drop(asked)
                    return False
            return self._keep(asked, reasons)
        reasons.append(f"{asked.uri}: {asked.why() if asked.dialogue.is_over else 'says nothing'}")
        self.tell(reasons[-1])
        drop(asked)
        return False

    def _keep(self, lease: Lease, reasons: list[str]) -> bool:
        lease.note("take")
        try:
            lease.dialogue.say("keep\n")
            ready = document(lease.dialogue.heard(FIRST_WORD))
            lease.scratch, lease.script, lease.socket = (
                ready[each] for each in ("ready", "script", "socket")
            )
        except (Blocked, KeyError):
            lease.note("lost")
            reasons.append(f"{lease.uri}: {lease.why()}")
            self.tell(reasons[-1])
            drop(lease)
            return False
        return True

    def _lost(self, uri: str, former: dict[str, Any]) -> None:
        words = {name: printable(str(former.get(name, ""))) for name in ("lease", "worker", "run")}
        self.log.add("lost", uri, **words, what=f"died, seen by {self.worker}")

    def _let_go(self, lease: Lease) -> None:
        """The log says so before the lock does; nobody can have taken the host in between."""
        clean = False
        with suppress(Blocked):
            lease.dialogue.say("release\n")
            clean = document(lease.dialogue.heard(LETTING_GO)).get("released") is True
        lease.note("release" if clean else "lost")
        with suppress(Blocked):
            lease.dialogue.say("bye\n")
        drop(lease)


def drop(lease: Lease) -> None:
    lease.dialogue.stop()
    lease.way.close()


def document(line: str | None) -> dict[str, Any]:
    """What a host says; nothing when it is no object of JSON."""
    try:
        said = json.loads(line or "")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def holder(said: Any) -> str:
    if not isinstance(said, dict):
        return "held by somebody who does not say who"
    known = {
        name: printable(str(said.get(name, "?"))) for name in ("worker", "run", "pid", "machine", "since")
    }
    return "held by {worker} of run {run}, pid {pid} on {machine}, since {since}".format(**known)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def main(words: Sequence[str]) -> int:
    """`python -m vbuskit.compat.lease LOG`: who had which host when, and whether two had one at once."""
    if len(words) != 1:
        print("usage: python -m vbuskit.compat.lease LOG", file=sys.stderr)
        return Exit.USAGE
    log = Path(words[0])
    for entry in LeaseLog(log).entries():
        print(f"{entry['time']}  {entry['host']}  {entry['worker']:6} {entry['event']:8} {entry['what']}")
    found = overlaps(log)
    for each in found:
        print(f"{each.host}: {each.second} had it while {each.first} had it", file=sys.stderr)
    print(f"{len(found)} overlaps")
    return Exit.FAILED if found else Exit.OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (VbuskitError, OSError) as error:
        sys.exit(f"lease: {error}")
