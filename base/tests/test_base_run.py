# SPDX-License-Identifier: MIT
from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.base.run import CommandFailed, Runner


def wait_for(path: Path) -> None:
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def is_running(pid: int) -> bool:
    """A zombie that nobody has reaped yet no longer runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    for _ in range(500):
        if not is_running(pid):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")


def test_standard_output_comes_back() -> None:
    assert Runner()(["echo", "two words"]) == "two words\n"


def test_standard_input_folder_and_environment_arrive(tmp_path: Path) -> None:
    script = "cat; pwd; echo $BUS"
    done = Runner()(["sh", "-c", script], stdin="in\n", cwd=tmp_path, env={"BUS": "vbus"})
    assert done.splitlines() == ["in", str(tmp_path), "vbus"]


def test_programs_of_the_sbin_folders_are_found_by_whoever_has_them_not_in_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert Runner()(["modinfo", "--version"])
    with pytest.raises(Blocked, match="not installed"):
        Runner()(["modinfo", "--version"], env={"PATH": "/usr/bin:/bin"})


def test_output_that_is_not_utf_8_is_kept_as_far_as_it_goes() -> None:
    assert Runner()(["printf", r"a\377b"]) == "a\ufffdb"


def test_a_missing_program_is_blocked_and_one_line() -> None:
    with pytest.raises(Blocked, match=r"^no-such-program: not installed$") as caught:
        Runner()(["no-such-program"])
    assert caught.value.hint


def test_a_missing_folder_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="cannot be started"):
        Runner()(["true"], cwd=tmp_path / "gone")


def test_a_failing_program_is_quoted_with_its_last_line() -> None:
    with pytest.raises(CommandFailed) as caught:
        Runner()(["sh", "-c", "echo first >&2; echo last words >&2; echo >&2; exit 5"], hint="try this")
    assert str(caught.value) == "sh: exit code 5: last words"
    assert (caught.value.code, caught.value.hint) == (5, "try this")


def test_a_silent_failure_says_so() -> None:
    with pytest.raises(CommandFailed, match=r"^false: exit code 1: no output$"):
        Runner()(["false"])


def test_an_attempt_may_fail() -> None:
    done = Runner().attempt(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")


def test_a_program_that_is_late_is_ended_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    with pytest.raises(VbuskitError, match=r"^sh: no answer within 0.5 s and was ended$") as caught:
        Runner()(["sh", "-c", f"sleep 60 & echo $! >{child}; wait"], seconds=0.5)
    assert "run it by hand" in str(caught.value.hint)
    wait_until_gone(int(child.read_text()))


def test_the_log_has_command_output_and_exit_code(tmp_path: Path) -> None:
    log = tmp_path / "log"
    Runner(log).attempt(["sh", "-c", "echo out; exit 2"])
    assert log.read_text() == "$ sh -c 'echo out; exit 2'\nout\n[exit code 2]\n"


def test_the_log_tells_of_a_program_that_was_late(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(VbuskitError):
        Runner(log)(["sh", "-c", "echo half; sleep 60"], seconds=0.3)
    assert log.read_text().splitlines()[1:] == ["half", "[no answer within 0.3 s and was ended]"]


def test_leaving_the_block_ends_the_process_and_what_it_left_behind(tmp_path: Path) -> None:
    child, output = tmp_path / "child", tmp_path / "output"
    script = f"echo said; sleep 60 & echo $! >{child}.new; mv {child}.new {child}; wait"
    with Runner().start(["sh", "-c", script], output=output) as process:
        wait_for(child)
        assert process.poll() is None
    assert process.poll() == -signal.SIGTERM
    wait_until_gone(int(child.read_text()))
    assert output.read_text() == "said\n"


def test_stop_insists_when_asking_does_not_help(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"
    process = Runner().start(["sh", "-c", script], output=tmp_path / "output")
    wait_for(ready)
    assert process.stop(grace=0.2) == -signal.SIGKILL


def test_stopping_what_has_ended_gives_its_exit_code(tmp_path: Path) -> None:
    process = Runner().start(["sh", "-c", "exit 9"], output=tmp_path / "output")
    assert (process.wait(10), process.stop(), process.stop()) == (9, 9, 9)


def test_waiting_too_long_is_an_expected_failure(tmp_path: Path) -> None:
    with (
        Runner().start(["sleep", "60"], output=tmp_path / "output") as process,
        pytest.raises(VbuskitError, match=r"still running after 0\.1 s$"),
    ):
        process.wait(0.1)


def test_a_background_program_that_is_missing_is_blocked(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="not installed"):
        Runner().start(["no-such-program"], output=tmp_path / "output")


def test_a_program_that_finds_the_disk_full_is_blocked_and_has_not_failed() -> None:
    with pytest.raises(Blocked, match="sh: the disk is full"):
        Runner()(["sh", "-c", "echo x | cat >/dev/full"])


def test_a_dialogue_hears_line_by_line_and_says_when_it_is_over(tmp_path: Path) -> None:
    words = ["sh", "-c", r"printf 'first\nsecond\n'; read word; echo $word; printf unfinished"]
    with Runner().converse(words, errors=tmp_path / "errors") as dialogue:
        assert (dialogue.heard(10), dialogue.heard(0), dialogue.heard(0)) == ("first", "second", None)
        assert not dialogue.is_over
        dialogue.say("third\n")
        assert (dialogue.heard(10), dialogue.heard(10)) == ("third", None)


def test_a_dialogue_ends_when_it_is_hung_up(tmp_path: Path) -> None:
    dialogue = Runner().converse(["cat"], errors=tmp_path / "errors")
    assert dialogue.stop() == 0
    with (
        Runner().converse(["true"], errors=tmp_path / "errors") as deaf,
        pytest.raises(Blocked, match="listens no more"),
    ):
        deaf.say("x" * (1 << 20))
