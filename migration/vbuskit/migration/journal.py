# SPDX-License-Identifier: MIT
"""What a migration is about to do, written down and on the disk before it does it.

One file a migration, a JSON object a line: `{"begin": STEP}` before a step, `{"end": STEP, ...}` after it,
with what the step has found out (a ticket, a receipt). A torn last line is a step that did not happen.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from vbuskit.base.errors import NO_SPACE, Blocked, Refused, printable
from vbuskit.base.places import make
from vbuskit.migration.steps import ENDS, Notes, Step

FOLDER, CLOSED = "migrations", "closed"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What is moved, from where to where; the first line. Guest by libvirt's name and UUID, hosts by URI."""

    guest: str
    uuid: UUID
    source: str
    destination: str
    bus: str = ""


@dataclass(slots=True)
class Journal:
    """The open migration of one guest; made by `begun` or `reopened`, while its lock is held."""

    path: Path
    heading: Heading
    notes: Notes = field(default_factory=Notes)

    @classmethod
    def begun(cls, folder: Path, heading: Heading) -> Self:
        """Blocked when an earlier migration of this guest was never brought to its end."""
        path = folder / f"{heading.uuid}.jsonl"
        if path.exists() and whole(path):
            raise Blocked(
                f"{heading.guest}: an earlier migration has not come to its end ({path.name})",
                hint=f"vbuskit migrate {heading.guest} --resume, or --abort",
            )
        path.unlink(missing_ok=True)  # of one that did not get as far as its first line
        made = cls(path, heading)
        made._append(
            {
                "version": VERSION,
                "guest": heading.guest,
                "uuid": str(heading.uuid),
                "source": heading.source,
                "destination": heading.destination,
                "bus": heading.bus,
            }
        )
        settle(folder)
        return made

    @classmethod
    def reopened(cls, path: Path) -> Self:
        """As it was left; what is torn at its end is cut off, before anything is written behind it."""
        lines = whole(path)
        if not lines:
            raise Blocked(f"{path.name}: no migration was begun", hint="begin one: vbuskit migrate")
        heading, *told = lines
        try:
            found = cls(path, heading_of(heading))
            for line in told:
                found.notes = found.notes.after(line)
        except (KeyError, ValueError, TypeError) as error:
            raise Refused(
                printable(f"{path}: is no journal of a migration: {error!r}"), hint="who has changed it?"
            ) from error
        length = sum(len(line) for line in path.read_bytes().splitlines(keepends=True)[: len(lines)])
        with path.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
        return found

    def begin(self, step: Step) -> None:
        self._note({"begin": step.value})

    def end(self, step: Step, found: Mapping[str, str] | None = None) -> None:
        """Without anything found out it may be lost with the power: the step is then done again."""
        self._note({"end": step.value, **(found or {})}, sync=bool(found))

    def turn_back(self, why: str, failed: Step | None = None) -> None:
        """From here on the guest stays at the source, unless the destination has it already."""
        self._note({"back": why, **({"failed": failed.value} if failed else {})})

    def close(self, how: Step) -> Path:
        """Nothing is left to do; the file makes room for the guest's next migration. Returns where it is."""
        assert how in ENDS
        self._note({"closed": how.value})
        folder = make(self.path.parent / CLOSED)
        number = sum(1 for _ in folder.glob(f"{self.heading.uuid}.*.jsonl"))
        kept = folder / f"{self.heading.uuid}.{number}.jsonl"
        self.path.rename(kept)
        settle(folder)
        settle(self.path.parent)
        return kept

    def _note(self, line: Mapping[str, Any], *, sync: bool = True) -> None:
        after = self.notes.after(line)
        self._append(line, sync=sync)
        self.notes = after

    def _append(self, line: Mapping[str, Any], *, sync: bool = True) -> None:
        """With `sync` on the disk when it returns; else Blocked, and what was to be begun must not be."""
        raw = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(file).st_size
                if os.write(file, raw) != len(raw):
                    os.ftruncate(file, before)
                    raise OSError(min(NO_SPACE), "cut short")
                if sync:
                    os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise Blocked(
                f"{self.path}: cannot be written: {error.strerror}",
                hint=f"free some space, then vbuskit migrate {self.heading.guest} --resume",
            ) from error


def whole(path: Path) -> list[dict[str, Any]]:
    """The lines up to the last whole one. Refused when one before the last is none."""
    try:
        *lines, _ = path.read_bytes().split(b"\n")  # behind the last newline: nothing, or what is torn
    except OSError as error:
        raise Blocked(f"{path}: cannot be read: {error.strerror}") from error
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if isinstance(said, dict):
            found.append(said)
        elif number < len(lines):
            raise Refused(f"{path}: line {number} is no JSON object", hint="who has changed it?")
    return found


def heading_of(line: Mapping[str, Any]) -> Heading:
    if line["version"] != VERSION:
        raise ValueError(f"version {line['version']}")
    words = {name: str(line[name]) for name in ("guest", "source", "destination", "bus")}
    return Heading(uuid=UUID(line["uuid"]), **words)


def find(folder: Path, guest: str) -> Path | None:
    """The open journal of that guest, by name or UUID."""
    for path in sorted(folder.glob("*.jsonl")):
        lines = whole(path)
        if lines and guest in (lines[0].get("guest"), lines[0].get("uuid")):
            return path
    return None


@contextmanager
def locked(folder: Path, uuid: UUID, guest: str) -> Iterator[None]:
    """The kernel drops it with this process, however that ends. Blocked: another one moves this guest."""
    with (folder / f"{uuid}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Blocked(
                f"{guest}: another vbuskit migrate is at it", hint="wait for it, or end it by Ctrl-C"
            ) from error
        yield


def settle(folder: Path) -> None:
    """The folder's names are on the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
