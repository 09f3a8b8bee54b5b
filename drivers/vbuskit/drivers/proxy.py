# SPDX-License-Identifier: MIT
"""Another host's vbusd, through any program that joins its standard streams with `vbuskit host proxy`.

A JSON object a line each way: vbusd's own messages as they are, in hexadecimal, and the tickets that
libvirt's hook there asks for. No port and no key of ours: who may run commands there as root may do this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from vbuskit.base.errors import Blocked, Refused, VbuskitError, printable
from vbuskit.base.places import make
from vbuskit.base.run import Arg, Dialogue, Runner
from vbuskit.drivers.host import ANSWER_SECONDS, DEFAULT_SOCKET, Host, VbusdSilent

HELLO = {"proxy": 1}
FIRST_SECONDS = 30.0  # ssh has to get there
LONGEST = 1 << 18  # of a line; a message of vbusd is a quarter of it


def tickets_of(path: Path) -> Path:
    """Beside vbusd's socket: /run/vbuskit/tickets."""
    return path.parent / "tickets"


def serve(path: Path, asked: IO[str], answers: IO[str]) -> None:
    """Until `asked` ends. What is refused is answered, never raised."""

    def say(words: Mapping[str, Any]) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    with Host(path) as host:
        say(HELLO)
        while line := asked.readline(LONGEST):
            try:
                say(answer(json.loads(line), host, tickets_of(path)))
            except VbuskitError as error:
                say({"error": str(error), "hint": error.hint})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                say({"error": printable(f"is no question: {error}")})


def answer(words: Mapping[str, Any], host: Host, tickets: Path) -> Mapping[str, Any]:
    ask = words["ask"]
    if ask == "vbusd":
        return {"raw": host.exchange(bytes.fromhex(words["raw"])).hex()}
    if ask == "leave":
        leave(tickets, UUID(words["uuid"]), str(words["ticket"]))
        return {}
    if ask == "withdraw":
        withdraw(tickets, UUID(words["uuid"]))
        return {}
    raise ValueError(str(ask))


def leave(tickets: Path, uuid: UUID, ticket: str) -> None:
    """For one guest to come, once; whole or not at all."""
    make(tickets, mode=0o700)
    written = tickets / f".{uuid}"
    try:
        with open(written, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(f"{ticket}\n")
        written.rename(tickets / str(uuid))
    except OSError as error:
        raise Blocked(f"{tickets}: no ticket can be left: {error.strerror}") from error


def withdraw(tickets: Path, uuid: UUID) -> None:
    """One that was used is gone already."""
    (tickets / str(uuid)).unlink(missing_ok=True)


class RemoteHost(Host):
    """A `Host` on another machine; `words` begin with what reaches it, and end with `host proxy`."""

    def __init__(self, run: Runner, words: Sequence[Arg], errors: Path) -> None:
        self._words, self._errors = [str(word) for word in words], errors
        errors.write_bytes(b"")
        self._far: Dialogue = run.converse(words, errors=errors)
        try:
            hello = self._heard(FIRST_SECONDS)
            if hello != HELLO:
                raise Refused(f"{self._words[0]}: the other side is no proxy of this release: {hello}")
        except BaseException:
            self._far.stop()
            raise

    def close(self) -> None:
        self._far.stop()

    def exchange(self, message: bytes) -> bytes:
        return bytes.fromhex(str(self._asked(ask="vbusd", raw=message.hex())["raw"]))

    def leave_ticket(self, uuid: UUID, ticket: str) -> None:
        self._asked(ask="leave", uuid=str(uuid), ticket=ticket)

    def withdraw_ticket(self, uuid: UUID) -> None:
        self._asked(ask="withdraw", uuid=str(uuid))

    def _asked(self, **words: str) -> Mapping[str, Any]:
        try:
            self._far.say(json.dumps(words) + "\n")
        except Blocked as error:
            raise self._silent() from error
        said = self._heard(ANSWER_SECONDS + 1)
        if "error" in said:
            raise VbusdSilent(printable(str(said["error"])), hint=said.get("hint"))
        return said

    def _heard(self, seconds: float) -> Mapping[str, Any]:
        """A late answer would be taken for the next one's: after silence nothing is asked any more."""
        line = self._far.heard(seconds)
        if line is None:
            self._far.kill()
            raise self._silent()
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self._far.kill()
            raise Refused(printable(f"{self._words[0]}: says what no proxy does: {line[:80]}"))
        return said

    def _silent(self) -> VbusdSilent:
        last = self._errors.read_text(errors="replace").strip().splitlines()[-1:]
        said = printable(last[0]) if last else "no answer"
        return VbusdSilent(
            f"the other host: {said}", hint=printable(f"try by hand: {' '.join(self._words)}")
        )


class LocalHost(Host):
    """A `Host` whose socket is here, with the tickets beside it."""

    def __init__(self, path: Path = DEFAULT_SOCKET) -> None:
        super().__init__(path)
        self._tickets = tickets_of(path)

    def leave_ticket(self, uuid: UUID, ticket: str) -> None:
        leave(self._tickets, uuid, ticket)

    def withdraw_ticket(self, uuid: UUID) -> None:
        withdraw(self._tickets, uuid)
