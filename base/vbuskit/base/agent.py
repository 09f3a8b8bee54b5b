# SPDX-License-Identifier: MIT
"""A shell and a file door into a guest, through qemu-ga: no network, which may be what is under test.

The channel is anything with `agent(json, seconds) -> json` (`virt.Domain` in life, a fake in tests);
libvirt synchronises it (guest-sync-delimited) before every command.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.run import Finished, text
from vbuskit.base.virt import AgentAway, NoAgent, VirtError
from vbuskit.base.wait import patient

PATIENCE = 20  # seconds for one answer of a guest that is known to answer, under TCG on a busy machine
CHUNK = 48 * 1024  # bytes; the agent takes its input byte by byte, and must answer in time
RESTING = 5.0  # seconds without a request to the disk, which no guest has that is still booting
POLL_FIRST, POLL_LAST = (
    0.01,
    0.2,
)  # seconds between two looks at a running command; every look costs the guest


class Channel(Protocol):
    def agent(self, command: str, seconds: int) -> str: ...


class AgentError(VbuskitError):
    """The agent answered, and could not do it."""


class Agent:
    """serial: where the guest's console is logged, named in the hint when the guest falls silent
    rests:  whether the guest does nothing now
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        serial: Path | None = None,
        rests: Callable[[], bool | None] = lambda: None,
    ) -> None:
        self.name = name
        self._channel = channel
        self._serial = serial
        self._rests = rests

    def ping(self) -> bool:
        """Whether the agent answers now; waits one second at most."""
        try:
            self._ask("guest-ping", 1)
        except (VirtError, AgentError):
            return False
        return True

    def wait(
        self,
        seconds: float,
        alive: Callable[[], bool] = lambda: True,
        work: Callable[[], int] | None = None,
    ) -> float:
        """Seconds until the agent answered. `work`: a number that moves while the guest gets anywhere.

        Raises TimedOut after patient(`seconds`), VbuskitError when `alive` says no.
        """
        start, seconds = time.monotonic(), patient(seconds)
        look, moved, before = start, 0.0, work() if work else 0
        while not self.ping():
            if not alive():
                raise self._silent("switched itself off before its agent answered")
            now = time.monotonic()
            if work and now >= look:
                look = now + 1
                if (done := work()) != before:
                    moved, before = now, done
            if now - start > seconds:
                raise TimedOut(
                    f"{self.name}: its agent did not answer within {seconds:g} s",
                    moved=still_moved(now - moved) if work else None,
                    hint=self._hint(),
                )
            time.sleep(0.05)
        return time.monotonic() - start

    def execute(
        self, command: str | Sequence[str], seconds: float = 60, stdin: str | None = None
    ) -> Finished:
        """Run a program, or a line for /bin/sh when it is text; killed after patient(`seconds`): an error.

        A program that a signal ended has the code 128 + signal. Raises AgentError when it cannot start.
        """
        seconds = patient(seconds)
        with self._understood():
            return self._executed(command, seconds, stdin)

    def _executed(self, command: str | Sequence[str], seconds: float, stdin: str | None) -> Finished:
        pid = self.start(command, stdin)
        deadline, pause = time.monotonic() + seconds, POLL_FIRST
        while not (state := self._call("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline:
                rested = self._rests()  # before the program is killed: nothing would be left to see
                self.start(f"kill -KILL {pid}")
                shown = command if isinstance(command, str) else " ".join(command)
                raise TimedOut(
                    f"{self.name}: `{shown}` did not end within {seconds:g} s",
                    rested=rested,
                    hint=self._hint(),
                )
            time.sleep(pause)
            pause = min(pause * 1.5, POLL_LAST)
        code = 128 + int(state["signal"]) if "signal" in state else int(state["exitcode"])
        return Finished(code, text(decoded(state, "out-data")), text(decoded(state, "err-data")))

    def start(self, command: str | Sequence[str], stdin: str | None = None) -> int:
        """Start what `execute` would run, and do not look after it; its pid in the guest."""
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        request: dict[str, Any] = {"path": words[0], "arg": words[1:], "capture-output": True}
        if stdin is not None:
            request["input-data"] = encoded(stdin.encode())
        with self._understood():
            return int(self._call("guest-exec", **request)["pid"])

    def read(self, path: PurePosixPath | str, most: int | None = None) -> bytes:
        """A whole file of the guest; files of /proc and /sys too. AgentError after `most` bytes of it."""
        handle = self._call("guest-file-open", path=str(path), mode="r")
        try:
            whole = bytearray()
            while True:
                with self._understood():
                    part = self._call("guest-file-read", handle=handle, count=CHUNK)
                    found = decoded(part, "buf-b64")
                    whole += found
                    if part["eof"] or not found:
                        return bytes(whole)
                if most is not None and len(whole) > most:
                    raise AgentError(f"{self.name}: {path}: is longer than {most >> 20} MiB")
        finally:
            self._call("guest-file-close", handle=handle)

    def write(self, path: PurePosixPath | str, content: bytes) -> None:
        """Replace a file of the guest; its mode is the agent's default for new files (0666 & ~umask)."""
        handle = self._call("guest-file-open", path=str(path), mode="w")
        try:
            for start in range(0, len(content), CHUNK):
                part = content[start : start + CHUNK]
                done = self._call("guest-file-write", handle=handle, **{"buf-b64": encoded(part)})
                if done["count"] != len(part):
                    raise AgentError(
                        f"{self.name}: {path}: only {done['count']} of {len(part)} bytes written"
                    )
            self._call("guest-file-flush", handle=handle)
        finally:
            self._call("guest-file-close", handle=handle)

    def _call(self, command: str, **arguments: Any) -> Any:
        try:
            return self._ask(command, int(patient(PATIENCE)), **arguments)
        except AgentAway as error:
            raise self._silent(f"its agent no longer answers ({command})") from error
        except NoAgent as error:
            raise TimedOut(
                f"{self.name}: its agent no longer answers ({command})", hint=self._hint()
            ) from error
        except VirtError as error:
            raise AgentError(str(error), hint=error.hint or self._hint()) from error

    def _ask(self, command: str, seconds: int, **arguments: Any) -> Any:
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        with self._understood():
            return json.loads(self._channel.agent(json.dumps(request), seconds))["return"]

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """The guest says what it likes: what makes no sense is its error, and not ours."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AgentError(f"{self.name}: its agent's answer makes no sense: {error!r}") from error

    def _silent(self, what: str) -> VbuskitError:
        return VbuskitError(f"{self.name}: {what}", hint=self._hint())

    def _hint(self) -> str | None:
        return f"the guest's console is in {self._serial}" if self._serial else None


def still_moved(ago: float) -> str:
    """In words, how long `ago` it moved; nothing for a guest that has come to rest."""
    return f"its disk or console moved {ago:.1f} s before that" if ago <= RESTING else ""


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def decoded(answer: dict[str, Any], key: str) -> bytes:
    return base64.b64decode(answer.get(key, ""))
