# SPDX-License-Identifier: MIT
"""A chroot's mounts are its own, the root stays as it is, and nothing of it outlives its starter."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from vbuskit.base import chroot
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Blocked
from vbuskit.base.run import Runner
from vbuskit.base.wait import until


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The machine's own folders, bound one by one below an empty root: no mirror is needed."""
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    tree = tmp_path / "tree"
    for name in ("proc", "tmp", "build", "usr", "dev"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    yield tree
    shutil.rmtree(tree)


def binds(folder: Path) -> dict[Path, str]:
    return {Path("/usr"): "/usr", Path("/dev"): "/dev", folder: "/build"}


def test_the_root_is_read_only_and_only_what_is_bound_is_written_to(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    script = "echo built >/build/result; echo scratch >/tmp/x; echo no >/spoilt || echo refused"
    said = Runner()(inside(root, ["sh", "-c", script], binds=binds(folder)))
    assert said == "refused\n"
    assert (folder / "result").read_text() == "built\n"
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == []
    assert list((root / "tmp").iterdir()) == []


def test_a_writable_root_keeps_what_was_written(root: Path, tmp_path: Path) -> None:
    Runner()(inside(root, ["sh", "-c", "echo kept >/kept"], binds=binds(tmp_path), writable=True))
    assert (root / "kept").read_text() == "kept\n"


def test_nothing_of_the_callers_environment_is_seen_inside(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KCFLAGS", "-DPLANTED")
    said = Runner()(inside(root, ["env"], binds=binds(tmp_path), env=["INITRD=No"]))
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names == {setting.partition("=")[0] for setting in chroot.CLEAN} | {"INITRD"}


def test_proc_is_there_and_shows_only_the_processes_of_the_chroot(root: Path, tmp_path: Path) -> None:
    said = Runner()(
        inside(root, ["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; : marker"], binds=binds(tmp_path))
    )
    assert "marker" in said


def test_a_command_that_ends_leaves_no_mount(root: Path, tmp_path: Path) -> None:
    Runner()(inside(root, ["true"], binds=binds(tmp_path)))
    Runner().attempt(inside(root, ["false"], binds=binds(tmp_path)))
    assert str(root) not in mounts()


def test_a_starter_that_is_killed_takes_everything_with_it(root: Path, tmp_path: Path) -> None:
    word = f"vbuskit-test-{secrets.token_hex(8)}"
    script = f": {word}; touch /build/up; sleep 1000 & wait"
    words = inside(root, ["sh", "-c", script], binds=binds(tmp_path))
    process = Runner().start(words, output=tmp_path / "output")
    assert until((tmp_path / "up").exists, 60)
    assert carrying(word)
    process.kill(signal.SIGKILL)
    process.wait()
    assert until(lambda: not carrying(word), 60)
    assert str(root) not in mounts()


def carrying(word: str) -> list[str]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes())
        except OSError:
            continue
    return [line.decode(errors="replace") for line in lines if word.encode() in line]


def test_an_ordinary_user_is_told_to_be_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Blocked, match="need root"):
        inside(tmp_path, ["true"])
