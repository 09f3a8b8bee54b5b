# SPDX-License-Identifier: MIT
"""A migration's journal: what was cut off at its end did not happen, and a guest has one at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import Blocked, Refused
from vbuskit.base.run import Arg, Runner
from vbuskit.migration.journal import Heading, Journal, find, locked
from vbuskit.migration.steps import Step

HEADING = Heading(guest="vm1", uuid=UUID(int=7), source="qemu:///system", destination="qemu+ssh://b/system")


def some(folder: Path) -> Journal:
    journal = Journal.begun(folder, HEADING)
    journal.begin(Step.GATE)
    journal.end(Step.GATE)
    journal.begin(Step.PREPARE)
    journal.end(Step.PREPARE, {"ticket": "ab"})
    return journal


def test_a_journal_says_again_what_was_written(tmp_path: Path) -> None:
    journal = some(tmp_path)
    journal.begin(Step.RELEASE)
    journal.turn_back("no room", Step.RELEASE)
    again = Journal.reopened(journal.path)
    assert (again.notes, again.heading) == (journal.notes, HEADING)
    assert again.notes.ticket == "ab" and again.notes.back == "no room"
    assert (journal.path.stat().st_mode & 0o777) == 0o600  # it holds tickets


def test_at_whatever_byte_it_is_cut_only_whole_lines_count(tmp_path: Path) -> None:
    journal = some(tmp_path)
    raw = journal.path.read_bytes()
    first = raw.index(b"\n") + 1
    for length in range(first, len(raw) + 1):
        journal.path.write_bytes(raw[:length])
        again = Journal.reopened(journal.path)
        assert bool(again.notes.ticket) == (length == len(raw))
        assert journal.path.read_bytes() == raw[: raw.rindex(b"\n", 0, length) + 1]
        again.begin(Step.CLEAR)
        assert Step.CLEAR in Journal.reopened(journal.path).notes.begun


def test_one_that_has_no_first_line_is_none(tmp_path: Path) -> None:
    journal = some(tmp_path)
    journal.path.write_bytes(b'{"version":1,"gue')
    with pytest.raises(Blocked, match="no migration was begun"):
        Journal.reopened(journal.path)
    assert find(tmp_path, "vm1") is None
    assert Journal.begun(tmp_path, HEADING).notes.begun == frozenset()


@pytest.mark.parametrize("planted", [b"nonsense\n", b"[1]\n", b'{"begin":"fly"}\n', b'{"later":1}\n'])
def test_a_line_in_the_middle_that_is_none_is_refused(tmp_path: Path, planted: bytes) -> None:
    path = some(tmp_path).path
    path.write_bytes(path.read_bytes() + planted + b'{"begin":"clear"}\n')
    with pytest.raises(Refused, match=r"is no (JSON object|journal)"):
        Journal.reopened(path)


def test_an_open_one_keeps_the_next_migration_from_beginning(tmp_path: Path) -> None:
    journal = some(tmp_path)
    with pytest.raises(Blocked, match="has not come to its end") as told:
        Journal.begun(tmp_path, HEADING)
    assert "--resume" in str(told.value.hint)
    assert find(tmp_path, "vm1") == find(tmp_path, str(HEADING.uuid)) == journal.path
    assert journal.close(Step.BACK).read_bytes().endswith(b'{"closed":"back"}\n')
    assert find(tmp_path, "vm1") is None
    assert Journal.begun(tmp_path, HEADING).close(Step.MOVED).name == f"{HEADING.uuid}.1.jsonl"


def test_two_processes_never_move_one_guest_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    words = "import sys, os; from pathlib import Path; from uuid import UUID\n"
    words += "from vbuskit.base.errors import Blocked\nfrom vbuskit.migration.journal import locked\n"
    words += "try:\n  with locked(Path(sys.argv[1]), UUID(int=7), 'vm1'): os.kill(os.getpid(), 9)\n"
    words += "except Blocked as error: print(error); sys.exit(3)\n"
    other: list[Arg] = [sys.executable, "-c", words, tmp_path]
    with locked(tmp_path, HEADING.uuid, "vm1"):
        done = Runner().attempt(other, env={"PYTHONPATH": os.pathsep.join(sys.path)})
        assert (done.code, done.out) == (3, "vm1: another vbuskit migrate is at it\n")
    assert Runner().attempt(other, env={"PYTHONPATH": os.pathsep.join(sys.path)}).code == -9
    with locked(tmp_path, HEADING.uuid, "vm1"):
        pass


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = some(tmp_path)
    before = journal.path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, raw: real(file, raw[:5]))
    with pytest.raises(Blocked, match="cannot be written"):
        journal.begin(Step.MOVE)
    assert journal.path.read_bytes() == before and Step.MOVE not in journal.notes.begun
