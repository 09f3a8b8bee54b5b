# SPDX-License-Identifier: MIT
"""One TCP connection, checksummed: the host's end of a transfer, while it runs in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.run import Arg, Process, Runner
from vbuskit.base.wait import until
from vbuskit.compat import stream_end
from vbuskit.compat.host import Host
from vbuskit.compat.stream_end import QUIET


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

    def passed(self, seconds: float = QUIET, word: str = "done") -> Passed:
        _, count, digest = self._wait_for(word, seconds).split()
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
    """A listening end, `kind` sink, source or both, on the host; ended when the block ends."""
    log.unlink(missing_ok=True)
    [program] = host.bring(Path(stream_end.__file__))
    command: list[Arg] = ["python3", program, kind, address, str(port), str(count)]
    with run.start(host.command(command), output=log) as process:
        end = Stream(process, log)
        end.ready()
        yield end
