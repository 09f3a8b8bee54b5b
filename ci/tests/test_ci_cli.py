# SPDX-License-Identifier: MIT
from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from vbuskit.base.errors import Blocked, Exit, Refused, UsageError, VbuskitError
from vbuskit.base.run import CommandFailed, Runner
from vbuskit.ci import cli

Capture = pytest.CaptureFixture[str]
Plant = Callable[[Callable[[], Exit]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Add a command `planted` whose main is the given function."""

    def add(body: Callable[[], Exit]) -> None:
        module = ModuleType("vbuskit.ci.commands.planted")
        module.__dict__["arguments"] = lambda parser: parser.add_argument("--word")
        module.__dict__["main"] = lambda options: body()
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "planted", "a test")

    return add


def raising(error: BaseException) -> Callable[[], Exit]:
    def body() -> Exit:
        raise error

    return body


def test_help_lists_every_command(capfd: Capture) -> None:
    assert cli.main(["--help"]) == Exit.OK
    out = capfd.readouterr().out
    assert all(f"  {name} " in out and text in out for name, text in cli.COMMANDS.items())


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_listed_command_has_arguments_and_main(name: str) -> None:
    module = importlib.import_module(f"vbuskit.ci.commands.{name}")
    module.arguments(argparse.ArgumentParser())
    assert callable(module.main)


def test_an_unknown_command_is_one_line_and_a_list(capfd: Capture) -> None:
    assert cli.main(["fly"]) == Exit.USAGE
    first, second = capfd.readouterr().err.splitlines()
    assert first == "vbuskit: fly: no such command"
    assert all(name in second for name in cli.COMMANDS)


def test_no_command_is_a_usage_error_with_help(capfd: Capture) -> None:
    assert cli.main([]) == Exit.USAGE
    assert "commands:" in capfd.readouterr().out


def test_an_unknown_option_is_a_usage_error(capfd: Capture, plant: Plant) -> None:
    plant(lambda: Exit.OK)
    assert cli.main(["planted", "--wrod"]) == Exit.USAGE
    assert "--wrod" in capfd.readouterr().err


def test_a_command_decides_its_exit_code(plant: Plant) -> None:
    plant(lambda: Exit.SKIPPED)
    assert cli.main(["planted", "--word", "x"]) == Exit.SKIPPED


@pytest.mark.parametrize("kind", [VbuskitError, UsageError, Blocked, Refused])
def test_an_expected_failure_is_one_line_and_a_hint(
    kind: type[VbuskitError], capfd: Capture, plant: Plant
) -> None:
    plant(raising(kind("it broke", hint="mend it")))
    assert cli.main(["planted"]) == kind.exit_code
    assert capfd.readouterr().err == "vbuskit: it broke\nhint: mend it\n"


def test_a_quoted_guest_cannot_write_to_the_terminal(capfd: Capture, plant: Plant) -> None:
    plant(raising(CommandFailed(["guest"], 1, "bad \x1b[2Jnews\x00")))
    cli.main(["planted"])
    assert capfd.readouterr().err == "vbuskit: guest: exit code 1: bad  [2Jnews\n"


def test_ctrl_c_is_130_without_a_traceback(capfd: Capture, plant: Plant) -> None:
    plant(raising(KeyboardInterrupt()))
    assert cli.main(["planted"]) == Exit.INTERRUPTED
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_blocked(number: int, capfd: Capture, plant: Plant) -> None:
    plant(raising(OSError(number, "full", "log")))
    assert cli.main(["planted"]) == Exit.BLOCKED
    assert capfd.readouterr().err.startswith("vbuskit: log: no space left\nhint: ")


def test_a_copy_that_finds_the_disk_full_names_what_it_wrote(capfd: Capture, plant: Plant) -> None:
    plant(raising(OSError(errno.ENOSPC, "full", "source", None, "copy")))
    assert cli.main(["planted"]) == Exit.BLOCKED
    assert capfd.readouterr().err.startswith("vbuskit: copy: no space left\n")


def test_a_defect_of_ours_keeps_its_traceback(plant: Plant) -> None:
    plant(raising(PermissionError(errno.EACCES, "denied", "key")))
    with pytest.raises(PermissionError):
        cli.main(["planted"])


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_output_that_nobody_reads_ends_quietly(
    ends: str, capfd: Capture, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body() -> Exit:
        print("a line")
        if ends == "badly":
            raise Blocked("no mirror")
        return Exit.OK

    plant(body)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert cli.main(["planted"]) == (Exit.UNREAD if ends == "well" else Exit.BLOCKED)
    assert capfd.readouterr().err == ("" if ends == "well" else "vbuskit: no mirror\n")


def test_output_to_a_full_disk_is_told_once() -> None:
    help_to_nowhere = f"{sys.executable} -m vbuskit.ci.cli >/dev/full"
    done = Runner().attempt(["sh", "-c", help_to_nowhere])
    assert (done.code, done.err.splitlines()[0]) == (Exit.BLOCKED, "vbuskit: disk: no space left")
    assert "Exception ignored" not in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_cancelled_job_unwinds_like_ctrl_c(number: signal.Signals, tmp_path: Path) -> None:
    ready, undone = tmp_path / "ready", tmp_path / "undone"
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import pathlib, signal, sys, time
from vbuskit.ci import cli
# Who runs the tests under nohup, or behind a shell's &, passes on what it ignores.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
def dispatch(words, secret):
    try:
        pathlib.Path({str(ready)!r}).touch()
        time.sleep(60)
    finally:
        pathlib.Path({str(undone)!r}).touch()
cli.dispatch = dispatch
sys.exit(cli.start())
"""
    )
    with Runner().start([sys.executable, script], output=tmp_path / "output") as process:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill(number)
        assert process.wait(20) == Exit.INTERRUPTED
    assert undone.exists()
    assert "Traceback" not in (tmp_path / "output").read_text()
