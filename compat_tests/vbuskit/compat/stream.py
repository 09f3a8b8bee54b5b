# SPDX-License-Identifier: MIT
"""One TCP connection, checksummed: what the host's side of a transfer runs in the host's namespaces.

`python -m vbuskit.compat.stream sink|source ADDRESS PORT BYTES` listens, says `listening` on standard
output, serves one connection and says `done COUNT SHA256`. A sink reads to the end, a source sends BYTES
random bytes; both count what really passed. One quiet minute ends it with exit code 1.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.run import Process, Runner
from vbuskit.base.wait import until
from vbuskit.compat.host import Host

QUIET = 60.0  # seconds
BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Passed:
    """What one end of a transfer saw: bytes, and their SHA-256."""

    count: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.count} bytes, sha256 {self.sha256[:16]}"


class Stream:
    """The host's end while it runs in the background; `passed` waits for its last word."""

    def __init__(self, process: Process, output: Path) -> None:
        self._process = process
        self._output = output

    def ready(self, seconds: float = 20) -> None:
        self._wait_for("listening", seconds)

    def passed(self, seconds: float = QUIET) -> Passed:
        _, count, digest = self._wait_for("done", seconds).split()
        return Passed(int(count), digest)

    def _wait_for(self, word: str, seconds: float) -> str:
        until(lambda: self._said(word) or self._process.poll() is not None, seconds)
        said = self._said(word)
        if said is None:
            kind = TimedOut if self._process.poll() is None else VbuskitError
            raise kind(f"transfer: the host's end never said {word!r}", hint=f"see {self._output}")
        return said

    def _said(self, word: str) -> str | None:
        lines = self._output.read_text().splitlines() if self._output.exists() else []
        return next((line for line in lines if line.startswith(word)), None)


@contextmanager
def stream(
    run: Runner, host: Host, kind: str, address: str, port: int, count: int, log: Path
) -> Iterator[Stream]:
    """A listening end, `kind` sink or source, on the host; ended when the block ends."""
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "vbuskit.compat.stream", kind, address, str(port), str(count)]
    with run.start(host.command(command), output=log) as process:
        end = Stream(process, log)
        end.ready()
        yield end


def main(kind: str, address: str, port: int, count: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        print("listening", flush=True)
        listener.settimeout(QUIET)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(QUIET)
            passed = sink(connection) if kind == "sink" else source(connection, count)
    print("done", passed.count, passed.sha256, flush=True)


def sink(connection: socket.socket) -> Passed:
    digest, count = hashlib.sha256(), 0
    while block := connection.recv(BLOCK):
        digest.update(block)
        count += len(block)
    return Passed(count, digest.hexdigest())


def source(connection: socket.socket, count: int) -> Passed:
    digest, left = hashlib.sha256(), count
    while left:
        block = os.urandom(min(BLOCK, left))
        connection.sendall(block)
        digest.update(block)
        left -= len(block)
    return Passed(count, digest.hexdigest())


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except OSError as error:
        sys.exit(f"stream: {error}")
