# SPDX-License-Identifier: MIT
"""What could not be tried where vbuskit was made, tried on a user's machine: checks, outcomes, one file."""

from __future__ import annotations

import io
import json
import platform
import re
import shlex
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from vbuskit.base import artifact
from vbuskit.base.errors import Blocked, Exit, VbuskitError, printable
from vbuskit.base.run import Runner
from vbuskit.ci.machine import Machine
from vbuskit.ci.road import say

SCHEMA = 1
LOG_BYTES = 512 * 1024  # of one log, from its end; results may be twice as long
ALL_BYTES = 8 << 20  # of all of them; what comes later is left out, and said to be


class Outcome(StrEnum):
    HELD = "held"
    FAILED = "failed"
    IMPOSSIBLE = "not possible here"


Need = Callable[[Machine], str]  # what is missing, or nothing


def nothing(out: Path) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One statement of the documents that nobody has tried.

    where:    the document that says so
    quote:    and its words
    needs:    what this machine must have for it
    command:  what tries it, `{tree}` and `{out}` filled in; none: a person does, as `by_hand` says
    code:     that the command ends with when the statement holds
    judge:    looks at what it left in `{out}`: why it does not hold after all, or nothing
    changes:  what it changes on this machine; it runs only with --changes
    minutes:  after which it is given up
    """

    id: str
    statement: str
    where: str
    quote: str
    needs: Sequence[Need] = ()
    command: Sequence[str] = ()
    by_hand: str = ""
    code: Exit = Exit.OK
    judge: Callable[[Path], str] = nothing
    changes: str = ""
    minutes: int = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one check; `reason` is in one line when it did not hold, or what a person noted."""

    id: str
    statement: str
    outcome: Outcome
    reason: str = ""
    command: str = ""
    seconds: float = 0.0


class Try:
    """Runs checks below a folder, each with a log and a folder of its own."""

    def __init__(self, machine: Machine, tree: Path, folder: Path, *, changes: bool = False) -> None:
        self.machine, self.tree, self.folder, self.changes = machine, tree, folder, changes

    def all(self, checks: Iterable[Check], told: Mapping[str, tuple[bool, str]]) -> Iterator[Answer]:
        """`told`: what a person says came of a check, and their note."""
        for check in checks:
            if check.id in told:
                held, note = told[check.id]
                outcome = Outcome.HELD if held else Outcome.FAILED
                yield Answer(check.id, check.statement, outcome, f"a person says so: {note}")
            else:
                yield self.one(check)

    def one(self, check: Check) -> Answer:
        missing = self.missing(check)
        if missing:
            return Answer(check.id, check.statement, Outcome.IMPOSSIBLE, missing)
        say(f"{check.id}: tried now, for up to {check.minutes} min")
        start = time.monotonic()
        words = self.words(check)
        outcome, reason = self.outcome(check, words)
        seconds = time.monotonic() - start
        return Answer(check.id, check.statement, outcome, reason, shlex.join(words), seconds)

    def missing(self, check: Check) -> str:
        """All that is missing, since a user would rather know at once."""
        lacks = [lack for need in check.needs if (lack := need(self.machine))]
        if not lacks and check.changes and not self.changes:
            lacks = [f"it {check.changes}; --changes allows that"]
        if not lacks and not check.command:
            lacks = [f"a person tries it: {check.by_hand}; then --held {check.id}=NOTE, or --failed"]
        return "; ".join(dict.fromkeys(lacks))

    def words(self, check: Check) -> list[str]:
        return [word.format(tree=self.tree, out=self.folder / check.id) for word in check.command]

    def outcome(self, check: Check, words: Sequence[str]) -> tuple[Outcome, str]:
        log = self.folder / f"{check.id}.log"
        try:
            done = Runner(log).attempt(words, cwd=self.tree, seconds=check.minutes * 60)
        except Blocked as error:  # it is not even there
            return Outcome.IMPOSSIBLE, str(error)
        except VbuskitError as error:  # it hangs
            return Outcome.FAILED, str(error)
        last = next((line for line in reversed((done.out + done.err).splitlines()) if line.strip()), "")
        if done.code in (Exit.BLOCKED, Exit.SKIPPED) and done.code != check.code:
            return Outcome.IMPOSSIBLE, last or f"its command ended with {done.code}"
        if done.code != check.code:
            return Outcome.FAILED, f"exit code {done.code}, not {int(check.code)}: {last}"
        try:
            reason = check.judge(self.folder / check.id)
        except VbuskitError as error:
            reason = str(error)
        return (Outcome.FAILED, reason) if reason else (Outcome.HELD, "")


def exit_code(answers: Sequence[Answer]) -> Exit:
    """Red when anything failed, skipped when nothing could be tried."""
    outcomes = {answer.outcome for answer in answers}
    if Outcome.FAILED in outcomes:
        return Exit.FAILED
    return Exit.OK if Outcome.HELD in outcomes else Exit.SKIPPED


def table(answers: Iterable[Answer]) -> Iterator[str]:
    for answer in answers:
        seconds = f"{answer.seconds:.0f} s" if answer.seconds else ""
        yield f"{answer.outcome:18} {answer.id:16} {seconds:>7}  {answer.statement}"
        if answer.reason:
            yield f"{'':44}{printable(answer.reason)}"


def pack(path: Path, facts: Mapping[str, str], answers: Sequence[Answer], folder: Path, tree: Path) -> None:
    """One tar.gz: selftest.json, and what the checks left, cut and without names of this machine."""
    clean = cleaner(folder, tree)
    found = dict(logs(folder, answers))
    kept = dict(bounded(found))
    document = {
        "schema": SCHEMA,
        "machine": {key: clean(value) for key, value in facts.items()},
        "checks": [
            {**asdict(each), "reason": clean(each.reason), "command": clean(each.command)}
            for each in answers
        ],
        "left_out": [member for member in found if member not in kept],
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        add(tar, "selftest/selftest.json", json.dumps(document, indent=1) + "\n")
        for member, text in kept.items():
            add(tar, f"selftest/{member}", clean(text))
    artifact.write(path, raw.getvalue(), 0o600)


def add(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode(errors="replace")
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def logs(folder: Path, answers: Iterable[Answer]) -> Iterator[tuple[str, str]]:
    """Of each check that ran: its log, and the results of the run that it started."""
    for answer in answers:
        for path, limit in (
            (folder / f"{answer.id}.log", LOG_BYTES),
            (folder / answer.id / "results.json", 2 * LOG_BYTES),
        ):
            if path.is_file():
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - limit))
                    yield str(path.relative_to(folder)), file.read(limit).decode(errors="replace")


def bounded(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    room = ALL_BYTES
    for name, text in found.items():
        if len(text) <= room:
            room -= len(text)
            yield name, text


def cleaner(folder: Path, tree: Path) -> Callable[[str], str]:
    """Takes out who and where: the machine's name, where the files lie, the home folder."""
    names = {str(folder): "OUT", str(tree): "TREE", str(Path.home()): "HOME"}
    order = sorted((name for name in names if len(name) > 2), key=len, reverse=True)
    name = re.escape(platform.node() or "localhost")
    host = re.compile(
        rf"(?:(?<![\w.-])|(?<=\\[nrt])){name}(?![\w-])"
    )  # a line may begin with it in JSON, too

    def clean(text: str) -> str:
        for name in order:
            text = text.replace(name, names[name])
        return host.sub("HOST", text)

    return clean
