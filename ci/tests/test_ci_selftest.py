# SPDX-License-Identifier: MIT
"""`vbuskit selftest` on machines that are played: what has the flag and fails, what lacks it, what hangs."""

from __future__ import annotations

import argparse
import json
import platform
import re
import stat
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.artifact import write
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import ROOT, Places
from vbuskit.ci import results
from vbuskit.ci.commands import selftest as command
from vbuskit.ci.facts import Host, RunFacts
from vbuskit.ci.machine import Machine
from vbuskit.ci.selftest import ALL_BYTES, LOG_BYTES, Check, Outcome, Try, exit_code, pack, table
from vbuskit.ci.statements import LISTS, kvm
from vbuskit.compat.cells import Cell
from vbuskit.compat.cells import Outcome as Judged

CHECKS = {check.id: check for check in kvm(ROOT)}
Tree = Callable[[str], Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """It has everything."""
    root = tmp_path / "root"
    for name, text in {
        "proc/cpuinfo": "processor: 0\nflags\t\t: fpu vmx sse\n",
        "dev/kvm": "",
        "run/systemd/system/x": "",
        "run/libvirt/libvirt-sock": "",
        "sys/module/apparmor/parameters/enabled": "Y\n",
        "sys/fs/selinux/enforce": "1",
    }.items():
        write(root / name, text)
    return Machine(root, user=0, architecture="aarch64", which=lambda program: f"/usr/bin/{program}")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A checkout whose commands are one line of shell; $last is where they write."""

    def make(body: str) -> Path:
        tree = tmp_path / "tree"
        script = f"#!/bin/sh\nfor last; do :; done\n{body}\n"
        for name in ("vbuskit", "ci/selftest/systemd.sh", "bin/apparmor_parser"):
            write(tree / name, script, 0o755)
        monkeypatch.setenv("PATH", f"{tree / 'bin'}:/usr/bin:/bin")
        return tree

    return make


def left(path: Path, accelerator: str, **cells: Judged) -> str:
    """Shell that leaves these results, and prints a line."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    host = Host(system="", kernel="", qemu="", libvirt="")
    facts = RunFacts(version="", commit="", dirty=False, host=host, accelerator=accelerator, started=now)
    told = [Cell(name, name, "debian-12", outcome) for name, outcome in cells.items()]
    write(path, results.encode(path.parent, facts, told))
    return f'mkdir -p "$last" && cp {path} "$last/results.json" && echo done'


def test_without_the_flag_nothing_is_started_and_the_reason_is_said(machine: Machine, tree: Tree) -> None:
    write(machine.root / "proc/cpuinfo", "flags\t: fpu sse\n")
    here = tree("exit 9")
    answers = list(Try(machine, here, here / "out").all([CHECKS["kvm-cells"], CHECKS["kvm-net"]], {}))
    assert {answer.outcome for answer in answers} == {Outcome.IMPOSSIBLE}
    assert {answer.reason for answer in answers} == {"no vmx or svm flag in /proc/cpuinfo"}
    assert exit_code(answers) == Exit.SKIPPED


def test_a_flag_without_a_device_is_not_enough(machine: Machine) -> None:
    (machine.root / "dev/kvm").unlink()
    assert machine.kvm() == "no /dev/kvm"


@pytest.mark.parametrize("word", ["vmxish", "xsvm", ""])
def test_the_flag_is_a_whole_word(machine: Machine, word: str) -> None:
    write(machine.root / "proc/cpuinfo", f"model name: svm\nflags\t: fpu {word}\n")
    assert machine.kvm() == "no vmx or svm flag in /proc/cpuinfo"


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.command])
@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_each_check_can_fail(machine: Machine, tree: Tree, tmp_path: Path, name: str, code: int) -> None:
    """Whatever the command says, it is not held when it should have said another thing, or left results."""
    check = replace(CHECKS[name], needs=[])
    here = tree(f"echo last words; exit {code}")
    (tmp_path / "out").mkdir()
    answer = Try(machine, here, tmp_path / "out", changes=True).one(check)
    silent = check.judge.__name__ == "nothing"
    expected = Outcome.HELD if code == check.code and silent else Outcome.FAILED
    assert answer.outcome is expected, answer.reason
    assert answer.outcome is Outcome.HELD or answer.reason


def test_cells_hold_only_when_they_ran_on_kvm(machine: Machine, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    attempt = Try(machine, tree(left(tmp_path / "r.json", "kvm", boot=Judged.GREEN)), tmp_path / "out")
    assert attempt.one(CHECKS["kvm-cells"]).outcome is Outcome.HELD
    left(tmp_path / "r.json", "tcg", boot=Judged.GREEN)
    answer = attempt.one(CHECKS["kvm-cells"])
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "the guests ran on tcg, not on kvm")
    left(tmp_path / "r.json", "kvm", boot=Judged.SKIPPED)
    assert attempt.one(CHECKS["kvm-cells"]).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("accelerator", "boot", "transfer", "outcome"),
    [
        ("kvm", Judged.GREEN, Judged.RED, Outcome.HELD),
        ("kvm", Judged.GREEN, Judged.GREEN, Outcome.FAILED),
        ("kvm", Judged.RED, Judged.SKIPPED, Outcome.FAILED),
        ("tcg", Judged.GREEN, Judged.RED, Outcome.FAILED),
    ],
)
def test_a_planted_defect_holds_only_when_a_cell_beside_the_boot_is_red(
    machine: Machine,
    tree: Tree,
    tmp_path: Path,
    accelerator: str,
    boot: Judged,
    transfer: Judged,
    outcome: Outcome,
) -> None:
    (tmp_path / "out").mkdir()
    body = left(tmp_path / "r.json", accelerator, boot=boot, transfer=transfer)
    attempt = Try(machine, tree(f"{body}; exit 1"), tmp_path / "out")
    assert attempt.one(CHECKS["kvm-defect"]).outcome is outcome


def one(**words: Any) -> Check:
    made: dict[str, Any] = {"id": "x", "statement": "it holds", "where": "", "quote": "", **words}
    return Check(**made)


@pytest.mark.parametrize("code", [Exit.BLOCKED, Exit.SKIPPED])
def test_what_its_command_lacks_is_no_failure(machine: Machine, tmp_path: Path, code: Exit) -> None:
    check = one(command=("sh", "-c", f"echo hint; echo no mirror >&2; exit {int(code)}"))
    answer = Try(machine, tmp_path, tmp_path).one(check)
    assert (answer.outcome, answer.reason) == (Outcome.IMPOSSIBLE, "no mirror")


def test_the_table_shows_what_a_command_said_without_what_a_terminal_would_do(
    machine: Machine, tmp_path: Path
) -> None:
    answer = Try(machine, tmp_path, tmp_path).one(
        one(command=("printf", "\\033]0;x\\007 y"), code=Exit.FAILED)
    )
    assert all(line.isprintable() for line in table([answer])) and "y" in answer.reason


def test_a_defect_that_could_not_even_be_planted_is_no_failure(machine: Machine, tmp_path: Path) -> None:
    check = one(command=("sh", "-c", "echo no mirror >&2; exit 3"), code=Exit.FAILED)
    answer = Try(machine, tmp_path, tmp_path).one(check)
    assert (answer.outcome, answer.reason) == (Outcome.IMPOSSIBLE, "no mirror")


def test_a_command_that_hangs_has_failed(machine: Machine, tmp_path: Path) -> None:
    answer = Try(machine, tmp_path, tmp_path).one(
        one(command=("sh", "-c", "cat /dev/zero >/dev/null"), minutes=0)
    )
    assert answer.outcome is Outcome.FAILED
    assert "no answer within" in answer.reason


def test_what_changes_the_machine_waits_for_leave(machine: Machine, tmp_path: Path) -> None:
    check = one(command=("true",), changes="installs a package")
    answer = Try(machine, tmp_path, tmp_path).one(check)
    assert answer.reason == "it installs a package; --changes allows that"
    assert Try(machine, tmp_path, tmp_path, changes=True).one(check).outcome is Outcome.HELD


def test_all_that_is_missing_is_said_at_once(machine: Machine, tmp_path: Path) -> None:
    less = replace(machine, user=1000, root=tmp_path / "empty", which=lambda _: None)
    said = Try(less, ROOT, tmp_path).missing(CHECKS["apparmor"])
    assert said.split("; ") == [
        "not root",
        "systemd is not pid 1",
        "the kernel has AppArmor off",
        "apparmor_parser: not installed",
        "apt-get: not installed",
    ]


# The command itself.


@pytest.fixture
def start(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places_in: Callable[[Path], Places]
) -> Callable[..., Exit]:
    """`vbuskit selftest kvm WORDS` on that machine, with these checks."""

    def go(checks: list[Check], *words: str) -> Exit:
        monkeypatch.setattr(command, "LISTS", {"kvm": lambda _: tuple(checks)})
        parser = argparse.ArgumentParser()
        command.arguments(parser)
        return command.tried(parser.parse_args(["kvm", *words]), places_in(tmp_path), machine)

    return go


def packed(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def test_it_prints_a_table_and_writes_one_file(
    start: Callable[..., Exit], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [one(id="good", command=("true",)), one(id="bad", command=("sh", "-c", "echo why; exit 1"))]
    assert start([*checks, one(id="hand", by_hand="look")]) == Exit.FAILED
    said = capsys.readouterr()
    outcomes = [(line[:18].strip(), line[19:35].strip()) for line in said.out.splitlines() if line[0] != " "]
    assert outcomes == [("held", "good"), ("failed", "bad"), ("not possible here", "hand")]
    assert "exit code 1, not 0: why" in said.out
    path = tmp_path / "out/selftest-kvm.tar.gz"
    assert f"1 held, 1 failed, 1 not possible here; send back {path}" in said.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files = packed(path)
    assert [*files] == [f"selftest/{name}" for name in ("selftest.json", "good.log", "bad.log")]
    document = json.loads(files["selftest/selftest.json"])
    assert [check["outcome"] for check in document["checks"]] == ["held", "failed", "not possible here"]


def test_only_what_held_is_green_and_nothing_tried_is_skipped(start: Callable[..., Exit]) -> None:
    hand = one(id="hand", by_hand="look")
    assert start([one(command=("true",)), hand]) == Exit.OK
    assert start([hand]) == Exit.SKIPPED
    assert start([]) == Exit.SKIPPED


def test_a_person_may_say_what_came_of_it(
    start: Callable[..., Exit], capsys: pytest.CaptureFixture[str]
) -> None:
    hand = one(id="hand", by_hand="look")
    assert start([hand], "--held", "hand=it did") == Exit.OK
    assert "a person says so: it did" in capsys.readouterr().out
    assert start([hand], "--failed", "hand=it did not") == Exit.FAILED


@pytest.mark.parametrize("word", ["hand", "hand=", "good=yes", "none=yes"])
def test_a_person_cannot_answer_for_a_command(start: Callable[..., Exit], word: str) -> None:
    with pytest.raises(UsageError, match="is not ID=NOTE"):
        start([one(id="good", command=("true",)), one(id="hand", by_hand="look")], "--held", word)


def test_a_check_that_there_is_not_is_a_usage_error(start: Callable[..., Exit]) -> None:
    with pytest.raises(UsageError, match="y: no such check"):
        start([one(command=("true",))], "--only", "y")


def test_a_look_starts_nothing(
    start: Callable[..., Exit], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        start([one(command=("touch", str(tmp_path / "started"))), one(id="hand", by_hand="look")], "--show")
        == 0
    )
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "out").exists()
    assert "up to 30 min" in capsys.readouterr().out


def test_who_loses_patience_has_what_was_found(start: Callable[..., Exit], tmp_path: Path) -> None:
    def interrupted(_: Machine) -> str:
        raise KeyboardInterrupt

    checks = [one(id="good", command=("true",)), one(id="late", command=("true",), needs=[interrupted])]
    with pytest.raises(KeyboardInterrupt):
        start(checks)
    document = json.loads(packed(tmp_path / "out/selftest-kvm.tar.gz")["selftest/selftest.json"])
    assert [(each["outcome"], each["reason"]) for each in document["checks"]] == [
        ("held", ""),
        ("not possible here", "interrupted before"),
    ]


def test_the_file_says_neither_who_nor_where(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "debian")
    folder = tmp_path / "selftest"
    folder.mkdir()
    names = f"debian: {Path.home()}/x {tmp_path}/tree/y {folder}/z debian-12 debian"
    answer = Try(machine, tmp_path / "tree", folder).one(
        one(command=("sh", "-c", f"echo '{names}'; exit 1"))
    )
    answer = replace(answer, reason=names)
    (folder / "x.log").write_text(names)
    pack(tmp_path / "f.tar.gz", {"system": names}, [answer], folder, tmp_path / "tree")
    for name, text in packed(tmp_path / "f.tar.gz").items():
        assert str(Path.home()) not in text, name
        assert str(tmp_path) not in text, name
        assert "HOST: HOME/x TREE/y OUT/z debian-12 HOST" in text, name


def test_the_machines_name_is_found_at_the_beginning_of_a_line_in_json(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "atlas")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/results.json").write_text(json.dumps({"seen": "a\natlas: b\tatlas"}))
    answer = Try(machine, tmp_path, tmp_path).one(one(command=("true",)))
    pack(tmp_path / "f.tar.gz", {}, [answer], tmp_path, tmp_path / "tree")
    assert "atlas" not in "".join(packed(tmp_path / "f.tar.gz").values())


def test_the_file_is_bounded_and_says_what_it_left_out(machine: Machine, tmp_path: Path) -> None:
    count = ALL_BYTES // LOG_BYTES + 2
    checks = [one(id=f"x{number}", command=("true",)) for number in range(count)]
    answers = list(Try(machine, tmp_path, tmp_path).all(checks, {}))
    for check in checks:
        (tmp_path / f"{check.id}.log").write_text("begin" + "x" * LOG_BYTES + "end")
    pack(tmp_path / "f.tar.gz", {}, answers, tmp_path, tmp_path)
    files = packed(tmp_path / "f.tar.gz")
    document = json.loads(files.pop("selftest/selftest.json"))
    assert document["left_out"] == [f"x{count - 2}.log", f"x{count - 1}.log"]
    assert sum(map(len, files.values())) <= ALL_BYTES
    assert all(text.endswith("end") and "begin" not in text for text in files.values())


# What the documents say.


def test_each_quote_is_in_its_document_and_each_id_is_a_word_of_its_own() -> None:
    wrong = [
        check.id
        for list_of in LISTS.values()
        for check in list_of(ROOT)
        if check.quote not in (ROOT / check.where).read_text()
    ]
    assert wrong == []
    assert len(CHECKS) == len(kvm(ROOT))


def test_no_document_says_that_something_was_not_run_without_a_check() -> None:
    said = re.compile(
        r"^#+ What is not run|^- Not run:|^Not run here|^Not tried:|\*\*untested\*\*", re.MULTILINE
    )
    documents = [path for path in (ROOT / "docs").rglob("*.md") if said.search(path.read_text())]
    assert len(documents) > 4
    quoted = {check.where for check in CHECKS.values()}
    assert [
        str(path.relative_to(ROOT)) for path in documents if str(path.relative_to(ROOT)) not in quoted
    ] == []


def test_each_check_is_tried_by_a_command_or_by_a_person() -> None:
    for check in CHECKS.values():
        assert bool(check.command) != bool(check.by_hand), check.id
        assert check.needs or check.by_hand, check.id


def test_the_documented_keys_are_those_of_the_file(
    machine: Machine, tmp_path: Path, start: Callable[..., Exit]
) -> None:
    start([one(command=("true",))])
    document = json.loads(packed(tmp_path / "out/selftest-kvm.tar.gz")["selftest/selftest.json"])
    text = (ROOT / "docs/selftest.md").read_text()
    listed = set(re.findall(r"^\| `([\w.\[\]]+)` \|", text, re.MULTILINE))
    assert listed == {
        *(key for key in document if key not in ("machine", "checks")),
        *(f"machine.{key}" for key in document["machine"]),
        *(f"checks[].{key}" for key in document["checks"][0]),
    }
