# SPDX-License-Identifier: MIT
"""A host behind ssh: its libvirt as it is, commands and files over one connection, all under a lease."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from vbuskit.base.artifact import Artifact, digest_of
from vbuskit.base.errors import Blocked
from vbuskit.base.places import make
from vbuskit.base.run import Arg, Process, Runner
from vbuskit.base.virt import Connection
from vbuskit.base.wait import until
from vbuskit.compat import warden
from vbuskit.compat.lease import Lease

RUN = "/run/vbus"
ADMIN = f"{RUN}/vbusd.sock"
PATIENCE = 60.0  # seconds that guests of a former holder have to end
# A file as a command's standard input or output, which a Runner gives to none.
FROM_FILE = 'exec "$@" <"$0"'
TO_FILE = 'exec "$@" >"$0"'


class RemoteHost:
    """A host of a pool while the `with` block lasts; the lease is the caller's.

    Nothing here waits for its end: whatever a command started ends with the lease at the latest.
    """

    def __init__(self, run: Runner, lease: Lease, logs: Path) -> None:
        self.name = lease.way.address.host or lease.uri
        self.logs = make(logs)
        self.connection: Connection
        self._run = run
        self.lease = lease
        self._undo = ExitStack()

    def command(self, args: Sequence[Arg]) -> list[Arg]:
        return self.lease.command(args)

    def seen(self, path: str) -> Path:
        """Of what lies there only vbusd's administrator socket is seen from here."""
        return self.lease.way.folder / path.lstrip("/")

    def place(self, near: Path) -> Path:
        """In a folder that goes with the lease."""
        return Path(self.lease.scratch) / near.name

    def bring(self, *files: Path) -> list[Path]:
        """The same files there, in one folder, copied once and verified by what is there."""
        artifacts = [Artifact.of(each) for each in files]
        key = digest_of(*(part for each in artifacts for part in (each.path.name, each.sha256)))
        pairs = [part for each in artifacts for part in (each.path.name, each.sha256)]
        lacking = self._run(self.lease.words("have", key, *pairs)).splitlines()
        for each in artifacts:
            if each.path.name in lacking:
                self._put(key, each)
        return [self._cache / key / each.path.name for each in artifacts]

    def _put(self, key: str, file: Artifact) -> None:
        mode = "555" if file.path.stat().st_mode & 0o111 else "444"
        there = self.lease.words("put", key, file.path.name, file.sha256, mode)
        self._run(["sh", "-c", FROM_FILE, file.path, *there], hint=f"is there room in {self._cache}?")

    @property
    def _cache(self) -> Path:
        return Path(self.lease.scratch).parents[1]

    def fetch(self, near: Path) -> None:
        make(near.parent)
        self._run(["sh", "-c", TO_FILE, near, *self.command(["cat", self.place(near)])])

    def ended(self) -> int | None:
        """Its libvirtd is another machine's: nobody here knows how it ended."""
        return None

    def lost(self) -> str:
        try:
            self.lease.check()
        except Blocked as error:
            return str(error)
        return ""

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        self.lease.kill(pid, number)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.lease.check()
            self.connection = undo.enter_context(Connection(self.lease.way.uri))
            self._empty()
            self._clean()
            undo.enter_context(self._near_socket())
            self._undo = undo.pop_all()
        return self

    def _empty(self) -> None:
        """Guests of a holder that died end with its connection, a moment after its lease."""
        if until(lambda: not self.connection.running(), PATIENCE) is None:
            raise Blocked(
                f"{self.name}: guests run there: {', '.join(self.connection.running())}",
                hint="a host of a pool runs none but ours; end them, or take it out of --hosts",
            )

    def _clean(self) -> None:
        """What a vbusd that was killed has left would be taken over by the next one."""
        if self._run.attempt(self.lease.words("join", ADMIN)).code == 0:
            raise Blocked(
                f"{self.name}: a vbusd runs there", hint="a host of a pool has none but ours: stop it there"
            )
        self._run(self.command(["sh", "-c", f"rm -rf {RUN}/* && mkdir -p {RUN}"]))

    def _near_socket(self) -> Process:
        """ssh forwards streams, and the administrator's socket is one of packets."""
        make(self.seen(RUN))
        program: list[Arg] = [sys.executable, "-P", Path(warden.__file__), "listen", self.seen(ADMIN)]
        words = [*program, *self.lease.words("join", ADMIN)]
        return self._run.converse(words, errors=self.logs / "admin.log")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()
