# SPDX-License-Identifier: MIT
"""Nothing outlives the command: tried with real processes, looked up by a word only they carry."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vbuskit.base import sandbox
from vbuskit.base.errors import Blocked, Exit
from vbuskit.base.run import Process, Runner

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

PRELUDE = """
import os, sys, time
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.ci.cli import tell
word, here = sys.argv[1], Path(sys.argv[2])
"""


def carrying(word: str) -> list[int]:
    """Pids whose command line has `word`, apart from our own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(int(entry.name))
    return found


def until(holds: Callable[[], object], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


class Command:
    """A command in a sandbox; its whole family carries `word` on the command line."""

    def __init__(self, folder: Path, body: str) -> None:
        self.word = f"vbuskit-test-{secrets.token_hex(8)}"
        self.output = folder / "output"
        args = [sys.executable, "-c", PRELUDE + body, self.word, str(folder)]
        self.process: Process = Runner().start(args, output=self.output)

    def family(self) -> list[int]:
        return carrying(self.word)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[str], Command]]:
    started: list[Command] = []

    def start(body: str) -> Command:
        started.append(Command(tmp_path, body))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        for pid in one.family():
            os.kill(pid, signal.SIGKILL)


SLEEPER = """
sandbox.enter()
try:
    Runner().start(["sh", "-c", "(sleep 600; : " + word + ") & sleep 600", word], output=here / "sleeper")
    (here / "ready").touch()
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(0.3)
    (here / "tidied").touch()
    sys.exit(130)
"""


@root_only
def test_sigkill_of_the_command_leaves_no_process(tmp_path: Path, command: Callable[[str], Command]) -> None:
    one = command(SLEEPER)
    assert until(lambda: (tmp_path / "ready").exists() and len(one.family()) >= 4)
    one.process.kill()
    assert one.process.wait(10) == -signal.SIGKILL
    assert until(lambda: not one.family())


@root_only
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3])
def test_sigkill_at_any_moment_leaves_no_process(delay: float, command: Callable[[str], Command]) -> None:
    one = command(SLEEPER)
    time.sleep(delay)
    one.process.kill()
    one.process.wait(10)
    assert until(lambda: not one.family())


@root_only
def test_a_parent_that_died_before_the_prctl_is_noticed(tmp_path: Path) -> None:
    body = PRELUDE + (
        "alive, guard = os.pipe()\nos.close(guard)\nsandbox.die_with_parent(alive)\nprint('still here')"
    )
    done = Runner().attempt([sys.executable, "-c", body, "word", tmp_path])
    assert (done.code, done.out) == (128 + signal.SIGKILL, "")


@root_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_tidies_up_and_says_130(
    number: signal.Signals, tmp_path: Path, command: Callable[[str], Command]
) -> None:
    one = command(SLEEPER)
    assert until(lambda: (tmp_path / "ready").exists())
    one.process.kill(number)
    assert one.process.wait(10) == Exit.INTERRUPTED
    assert (tmp_path / "tidied").exists()
    assert until(lambda: not one.family())


@root_only
def test_what_a_worker_leaves_running_ends_with_it(
    tmp_path: Path, command: Callable[[str], Command]
) -> None:
    one = command(
        "sandbox.enter()\nRunner().start(['sh', '-c', 'sleep 600; :', word], output=here / 'x')\nsys.exit(7)"
    )
    assert one.process.wait(10) == 7
    assert until(lambda: not one.family())


@root_only
def test_the_worker_is_not_pid_1_and_sees_its_own_proc(tmp_path: Path) -> None:
    body = PRELUDE + "sandbox.enter()\nprint(os.getpid(), os.readlink('/proc/self'), os.getppid())"
    assert Runner()([sys.executable, "-c", body, "word", tmp_path]) == "2 2 1\n"


ORPHANS = """
sandbox.enter()
os.mkfifo(here / "go")
ends = '"exit 0" "exit 3" "kill -SEGV \\$\\$"'
script = f'for end in {ends}; do sh -c "read x <$0; $end" >&- 2>&- & echo $!; done'
pids = [int(pid) for pid in Runner()(["sh", "-c", script, here / "go"]).split()]
os.write(os.open(here / "go", os.O_RDWR), b"go\\n" * 3)
while any((Path("/proc") / str(pid)).exists() for pid in pids):
    time.sleep(0.01)
print([sandbox.end_of(pid) for pid in pids], sandbox.end_of(os.getpid()))
"""


@root_only
def test_how_an_orphan_ended_is_known_afterwards(tmp_path: Path) -> None:
    out = Runner()([sys.executable, "-c", PRELUDE + ORPHANS, "word", tmp_path], seconds=30)
    assert out == "[None, 3, -11] None\n"


def test_without_a_sandbox_nothing_is_known_of_orphans() -> None:
    assert sandbox.end_of(1) is None


@root_only
def test_a_worker_that_is_killed_gives_the_shell_its_signal(tmp_path: Path) -> None:
    body = PRELUDE + "sandbox.enter()\nos.kill(os.getpid(), 9)"
    assert Runner().attempt([sys.executable, "-c", body, "word", tmp_path]).code == 128 + 9


@root_only
def test_mounts_of_the_sandbox_are_not_seen_outside(tmp_path: Path) -> None:
    body = PRELUDE + (
        "sandbox.enter()\nsandbox.mount('tmpfs', str(here), 'tmpfs')\n(here / 'inside').touch()\n"
        "print(os.path.ismount(here))"
    )
    assert Runner()([sys.executable, "-c", body, "word", tmp_path]) == "True\n"
    assert not (tmp_path / "inside").exists()


CHROOT = """
for entry in /* ; do
    if [ -L "$entry" ]; then cp -P "$entry" "$1/"
    elif [ -d "$entry" ]; then mkdir "$1$entry" && mount --rbind "$entry" "$1$entry"
    fi
done
root=$1; shift
exec chroot "$root" "$@"
"""


@root_only
def test_in_a_chroot_the_sandbox_has_the_chroot_for_its_root(tmp_path: Path) -> None:
    """unshare and nsenter, which a private host starts, know only mounts; a chroot's / is none."""
    root = tmp_path / "root"
    root.mkdir()
    body = PRELUDE + (
        "os.chdir(here)\nsandbox.enter()\nassert Path.cwd() == here, Path.cwd()\n"
        "run = Runner()\n"
        "run(['unshare', '--mount', '--propagation', 'private', 'true'])\n"
        "sandbox.mount('tmpfs', str(here), 'tmpfs')\n(here / 'inside').touch()\n"
        "print(run(['nsenter', '--mount=/proc/self/ns/mnt', 'ls', here]).strip())\n"
    )
    # A sandbox around it, so that the mounts which make the chroot are not seen outside either.
    outer = PRELUDE + "sandbox.enter()\nprint(Runner()(sys.argv[3:]), end='')"
    inner: list[str | Path] = [
        "sh",
        "-eu",
        "-c",
        CHROOT,
        "sh",
        root,
        sys.executable,
        "-c",
        body,
        "word",
        tmp_path,
    ]
    assert Runner()([sys.executable, "-c", outer, "word", tmp_path, *inner]) == "inside\n"
    assert not (tmp_path / "inside").exists()


def test_without_root_one_line_says_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Blocked, match="need root") as caught:
        sandbox.enter()
    assert caught.value.exit_code == Exit.BLOCKED
    assert caught.value.hint
