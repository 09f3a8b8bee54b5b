# SPDX-License-Identifier: MIT
"""Debian trees: which words mmdebstrap is given, and what its hooks do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.mirror import bootstrap
from vbuskit.base.run import Arg, Finished, Runner

LIST = """\
deb [signed-by="/x y.gpg"] http://one/debian trixie main
deb http://one/debian trixie-updates main
deb http://two/debian-security trixie-security main
"""


class Words(Runner):
    """Keeps what would have been started."""

    def attempt(self, args: Sequence[Arg], **how: Any) -> Finished:
        self.words = [str(word) for word in args]
        return Finished(0, "", "")


def hook(words: list[str], kind: str, tree: Path) -> None:
    """As mmdebstrap starts it."""
    (line,) = (word.removeprefix(f"--{kind}-hook=") for word in words if word.startswith(f"--{kind}-hook="))
    Runner()(["sh", "-c", line, "sh", tree])


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(LIST)
    return tmp_path / "etc/apt"


def test_backports_are_beside_the_suite_that_they_are_for(etc: Path, tmp_path: Path) -> None:
    run = Words()
    bootstrap(run, "trixie-backports", tmp_path, "apt", ["make"], [])
    assert run.words[-2:] == ["trixie", str(tmp_path)]
    hook(run.words, "setup", tmp_path)
    added = (etc / "sources.list.d/backports.list").read_text()
    assert added == 'deb [signed-by="/x y.gpg"] http://one/debian trixie-backports main\n'


def test_another_suite_has_no_backports(tmp_path: Path) -> None:
    run = Words()
    bootstrap(run, "trixie", tmp_path, "apt", ["make"], [])
    assert run.words[-2:] == ["trixie", str(tmp_path)] and not any("hook" in word for word in run.words)


def test_packages_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    run, keep = Words(), tmp_path / "it's here"
    bootstrap(run, "trixie", tmp_path, "apt", ["make"], [], keep=keep, arch="arm64")
    archives = tmp_path / "var/cache/apt/archives"
    archives.mkdir(parents=True)
    (archives / "a.deb").touch()
    keep.mkdir()
    hook(run.words, "customize", tmp_path)
    assert [path.name for path in keep.iterdir()] == ["a.deb"]
    assert "--architectures=arm64" in run.words
