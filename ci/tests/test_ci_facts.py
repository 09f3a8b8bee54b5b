# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

from vbuskit.base.errors import Blocked
from vbuskit.base.run import Finished, Runner
from vbuskit.ci.facts import Host, look_at_checkout, look_at_host


class FakeRunner:
    """Answers by the words of a command line; what it does not know is not installed."""

    def __init__(self, answers: dict[str, Finished]) -> None:
        self.answers = answers

    def attempt(self, args: list[str], *, cwd: Path | None = None) -> Finished:
        for words, finished in self.answers.items():
            if words in " ".join(args):
                return finished
        raise Blocked(f"{args[0]}: not installed")


def test_versions_are_what_the_tools_say(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    qemu = "QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg-7)\nCopyright\n"
    run = FakeRunner(
        {
            "uname -r": Finished(0, "6.1.0\n", ""),
            "qemu-system-x86_64 --version": Finished(0, qemu, ""),
            "virsh --version": Finished(0, "9.0.0\n", ""),
        }
    )
    assert look_at_host(run, tmp_path / "os-release") == Host(
        system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.0",
        qemu="7.2.15 (Debian 1:7.2+dfsg-7)",
        libvirt="9.0.0",
    )


def test_a_missing_tool_leaves_a_gap_and_no_more(tmp_path: Path) -> None:
    host = look_at_host(FakeRunner({"virsh": Finished(1, "", "no")}), tmp_path / "gone")
    assert host == Host(system="", kernel="", qemu="", libvirt="")


def test_a_checkout_has_a_commit_and_may_differ_from_it(tmp_path: Path) -> None:
    clean = {"rev-parse": Finished(0, "abc\n", ""), "status": Finished(0, "", "")}
    assert look_at_checkout(FakeRunner(clean), tmp_path) == ("abc", False)
    dirty = {**clean, "status": Finished(0, " M README.md\n", "")}
    assert look_at_checkout(FakeRunner(dirty), tmp_path) == ("abc", True)


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    none = {"git": Finished(128, "", "fatal: not a git repository\n")}
    assert look_at_checkout(FakeRunner(none), tmp_path) == ("", False)


def test_a_real_runner_can_look_around() -> None:
    assert look_at_host(Runner()).kernel == os.uname().release
