# SPDX-License-Identifier: MIT
"""`vbuskit guest`: what there is, what goes from the cache and what stays, and a guest's console."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import signal
import socket
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.base.shelf import hold
from vbuskit.base.wait import until
from vbuskit.ci import cli
from vbuskit.ci.commands import guest
from vbuskit.compat import terminal
from vbuskit.compat.guests import guest_kinds, images_of

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VBUSKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(path: Path, days: float, *, kib: int = 64) -> Path:
    """A folder of the cache, or a package; last used so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path if path.suffix else path / "disk"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(bytes(kib << 10))
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def gc(*words: str) -> int:
    return cli.main(["guest", "gc", *words])


def test_all_guests_are_listed_with_their_level_and_why_one_cannot_be_run(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cache / "images/0123", 1)
    assert cli.main(["guest", "list"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(guest_kinds(ROOT))
    assert re.search(r"^debian-12 +bookworm/cloud-amd64 +gating +- +-$", "\n".join(lines), re.MULTILINE)
    assert re.search(
        r"^windows-11 +windows +experimental .*excluded: no image", "\n".join(lines), re.MULTILINE
    )
    assert lines[-1].startswith("and 1 other images, 0 MiB")


def test_what_was_not_used_for_long_goes_and_a_dry_run_only_says_so(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = [put(cache / "images/a", 40), put(cache / "packages/p.deb", 35), put(cache / "snapshots/s", 31)]
    new = [put(cache / "images/b", 1), put(cache / "roots/sid/r", 99)]
    assert gc("--dry-run") == Exit.OK
    assert all(path.exists() for path in (*old, *new))
    said = capsys.readouterr().out
    assert gc() == Exit.OK
    assert not any(path.exists() for path in old) and all(path.exists() for path in new)
    assert capsys.readouterr().out == said.replace("would remove", "removed")
    assert [path.name for path in (cache / "images").iterdir()] == ["b"]


def test_the_longest_unused_goes_until_the_rest_is_small_enough(cache: Path) -> None:
    paths = [put(cache / f"images/{days}", days, kib=1024) for days in (5, 1, 3, 2, 4)]
    assert gc("--keep-size", "3M") == Exit.OK
    assert sorted(path.name for path in paths if path.exists()) == ["1", "2", "3"]


def test_build_roots_go_only_with_all(cache: Path) -> None:
    paths = [put(cache / name, 99) for name in ("roots/sid/r", "kernels/debug/k", "debs/sid", "systems/s")]
    assert gc() == Exit.OK
    assert all(path.exists() for path in paths)
    assert gc("--all") == Exit.OK
    assert not any(path.exists() for path in paths)


def test_what_a_run_holds_stays_however_old_it_is(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, other = put(cache / "images/held", 99), put(cache / "images/other", 99)
    hold(image)
    os.utime(image, (0, 0))
    assert gc("--keep-size", "0") == Exit.OK
    assert image.exists() and not other.exists()
    assert f"in use: image, 0 MiB, last used 1970-01-01 00:00: {image}" in capsys.readouterr().out


def test_what_is_held_makes_no_room_and_the_next_one_goes(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held, next_one, last = (put(cache / f"images/{days}", days, kib=1024) for days in (9, 8, 7))
    hold(held)
    os.utime(held, (0, 0))
    assert gc("--keep-size", "2M", "--dry-run") == Exit.OK
    said = capsys.readouterr().out
    assert f"in use: image, 1 MiB, last used 1970-01-01 00:00: {held}" in said
    assert gc("--keep-size", "2M") == Exit.OK
    assert [path.exists() for path in (held, next_one, last)] == [True, False, True]


def test_packages_stay_as_long_as_an_image_is_being_made(cache: Path, tmp_path: Path) -> None:
    package = put(cache / "packages/p.deb", 99)
    (cache / "images").mkdir()
    lock = cache / "images/.lock"
    lock.touch()
    with Runner().start(["flock", "--close", str(lock), "sleep", "600"], output=tmp_path / "out"):
        assert until(lambda: Runner().attempt(["flock", "--nonblock", lock, "true"]).code, 20)
        assert gc() == Exit.OK
        assert package.exists()
    assert gc() == Exit.OK
    assert not package.exists()


def test_what_a_killed_builder_left_goes(cache: Path) -> None:
    left = put(cache / "images/.building-x/tree", 0).parent
    assert gc() == Exit.OK
    assert not left.exists()


def test_a_lock_goes_with_the_packages_that_it_lists(cache: Path) -> None:
    lock = put(cache / "packages/locks/x.json", 1)
    assert gc() == Exit.OK
    assert not lock.exists()


@pytest.mark.parametrize("words", [["--older-than", "30"], ["--older-than", "d"], ["--keep-size", "x"]])
def test_a_span_or_a_size_that_is_none_is_a_usage_error(words: list[str], cache: Path) -> None:
    assert gc(*words) == Exit.USAGE


def test_spans_and_sizes_have_units() -> None:
    assert (guest.span("2h"), guest.span("30d")) == (7200, 30 * DAY)
    assert (guest.amount("1"), guest.amount("2K"), guest.amount("20G")) == (1, 2048, 20 << 30)
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number and"):
        guest.amount("1e9")


def test_a_guest_that_cannot_be_run_is_not_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guest", "build", "wine"]) == Exit.BLOCKED
    assert capsys.readouterr().err == "vbuskit: wine: Wine: comes with issue 9\n"


def test_an_image_that_the_user_names_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["guest", "build", "windows-11", "--image", f"windows-11={tmp_path / 'none'}"]
    assert cli.main(words) == Exit.BLOCKED
    assert f"{tmp_path / 'none'}: there is no such image" in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected NAME=PATH"):
        images_of(["windows-11"])


def test_a_shell_without_a_terminal_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guest", "shell", "debian-12"]) == Exit.USAGE
    assert "no terminal for its console" in capsys.readouterr().err


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[tuple[int, socket.socket, threading.Thread, list[object]]]:
    """Somebody's end of a terminal, the guest's end of a console, and who passes on between them."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        passing = threading.Thread(target=terminal.attach, args=(tmp_path / "console", theirs, theirs))
        passing.start()
        line, _ = listener.accept()
        with line:
            yield ours, line, passing, before
        passing.join(20)
    assert not passing.is_alive()
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_keys_go_to_the_guest_as_they_are_until_ctrl_bracket(
    seat: tuple[int, socket.socket, threading.Thread, list[object]],
) -> None:
    terminal, line, passing, _ = seat
    line.sendall(b"login\r\n")
    assert os.read(terminal, 100) == b"login\r\n"
    os.write(terminal, b"ls\x03\r")
    assert line.recv(100) == b"ls\x03\r"
    os.write(terminal, b"x\x1dy")
    assert line.recv(100) == b"x"
    passing.join(20)
    assert line.recv(100) == b""


def test_a_guest_that_is_off_ends_the_console(
    seat: tuple[int, socket.socket, threading.Thread, list[object]],
) -> None:
    _, line, passing, _ = seat
    line.shutdown(socket.SHUT_RDWR)
    passing.join(20)
    assert not passing.is_alive()


class Typist:
    """`./vbuskit guest shell` on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.said = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(ROOT / "vbuskit", ["vbuskit", *words])

    def sees(self, what: bytes, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while what not in self.said and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 1)[0]:
                try:
                    self.said += os.read(self.terminal, 4096)
                except OSError:  # its other end is closed
                    break
        return what in self.said

    def type(self, keys: bytes) -> None:
        self.said = b""
        os.write(self.terminal, keys)

    def end(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.guest
def test_somebody_sits_at_a_guests_console_and_leaves_nothing_behind(tmp_path: Path) -> None:
    typist = Typist("guest", "shell", "debian-12", "--out", str(tmp_path / "out"))
    try:
        assert typist.sees(b"Ctrl-] leaves", 300), typist.said
        typist.type(b"\r")
        assert typist.sees(b"root@guest", 60), typist.said
        typist.type(b"echo $((6*7)) $(cat /proc/sys/kernel/hostname)\r")
        assert typist.sees(b"42 guest", 60), typist.said
        typist.type(b"\x1d")
        assert typist.sees(b"debian-12: gone", 60), typist.said
        assert os.waitstatus_to_exitcode(os.waitpid(typist.pid, 0)[1]) == Exit.OK
    except BaseException:
        typist.end()
        raise
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.guest
def test_a_command_in_a_guest_ends_with_its_own_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["guest", "shell", "debian-12", "--out", str(tmp_path / "out"), "--command"]
    done = Runner().attempt([ROOT / "vbuskit", *words, "uname -s; echo no >&2; exit 7"])
    assert (done.code, done.out, done.err) == (7, "Linux\n", "no\n")
    assert not list((tmp_path / "out").iterdir())
