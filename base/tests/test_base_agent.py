# SPDX-License-Identifier: MIT
"""The agent's client against a fake channel that speaks the agent's JSON."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.agent import CHUNK, RESTING, Agent, AgentError, still_moved
from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.virt import AgentAway, NoAgent, VirtError


class FakeGuest:
    """Files in a dict; one program that ends after `looks` looks at it; deaf for the first `deaf` pings."""

    def __init__(self, *, deaf: int = 0, looks: int = 0, status: dict[str, Any] | None = None) -> None:
        self.deaf, self.looks = deaf, looks
        self.status = status or {"exited": True, "exitcode": 0}
        self.files: dict[str, bytearray] = {}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._open: tuple[str, int] = ("", 0)

    def agent(self, command: str, seconds: int) -> str:
        request = json.loads(command)
        name, arguments = request["execute"], request.get("arguments", {})
        self.seen.append((name, arguments))
        return json.dumps({"return": getattr(self, name.replace("-", "_"))(**arguments)})

    def guest_ping(self) -> dict[str, Any]:
        self.deaf -= 1
        if self.deaf >= 0:
            raise NoAgent("guest: agent: is not connected", 86)
        return {}

    def guest_exec(self, **arguments: Any) -> dict[str, Any]:
        if arguments["path"] == "/nowhere":
            raise VirtError("Failed to execute child process", 1)
        return {"pid": 42}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        self.looks -= 1
        return self.status if self.looks < 0 else {"exited": False}

    def guest_file_open(self, path: str, mode: str) -> int:
        if mode == "w":
            self.files[path] = bytearray()
        self._open = (path, 0)
        return 7

    def guest_file_write(self, handle: int, **arguments: str) -> dict[str, Any]:
        raw = base64.b64decode(arguments["buf-b64"])
        self.files[self._open[0]] += raw
        return {"count": len(raw), "eof": False}

    def guest_file_read(self, handle: int, count: int) -> dict[str, Any]:
        path, start = self._open
        part = bytes(self.files[path][start : start + count])
        self._open = (path, start + len(part))
        return {
            "count": len(part),
            "buf-b64": base64.b64encode(part).decode(),
            "eof": start + len(part) == len(self.files[path]),
        }

    def guest_file_flush(self, handle: int) -> dict[str, Any]:
        return {}

    def guest_file_close(self, handle: int) -> dict[str, Any]:
        return {}

    def calls(self, name: str) -> list[dict[str, Any]]:
        return [arguments for seen, arguments in self.seen if seen == name]


def test_a_shell_line_runs_by_the_shell_and_both_outputs_come_back() -> None:
    out, err = base64.b64encode(b"6.1\n").decode(), base64.b64encode(b"\xff").decode()
    fake = FakeGuest(status={"exited": True, "exitcode": 3, "out-data": out, "err-data": err})
    done = Agent("guest", fake).execute("uname -r", stdin="x")
    assert (done.code, done.out, done.err) == (3, "6.1\n", "\N{REPLACEMENT CHARACTER}")
    asked = fake.calls("guest-exec")[0]
    assert (asked["path"], asked["arg"]) == ("/bin/sh", ["-c", "uname -r"])
    assert base64.b64decode(asked["input-data"]) == b"x"


def test_words_run_without_a_shell() -> None:
    fake = FakeGuest()
    Agent("guest", fake).execute(["echo", "$HOME; rm"])
    assert fake.calls("guest-exec")[0]["arg"] == ["$HOME; rm"]


def test_a_program_that_a_signal_ended_has_the_shells_code() -> None:
    fake = FakeGuest(status={"exited": True, "signal": 9})
    assert Agent("guest", fake).execute("x").code == 137


def test_a_program_that_does_not_end_is_killed_and_named() -> None:
    fake = FakeGuest(looks=10_000)
    with pytest.raises(VbuskitError, match=r"guest: `sleep 9` did not end within 0.05 s"):
        Agent("guest", fake).execute("sleep 9", seconds=0.05)
    assert fake.calls("guest-exec")[-1]["arg"] == ["-c", "kill -KILL 42"]


def test_a_program_that_cannot_start_is_an_error_of_the_agent() -> None:
    with pytest.raises(AgentError, match="Failed to execute"):
        Agent("guest", FakeGuest()).execute(["/nowhere"])


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_file_comes_back_as_it_was_written(size: int) -> None:
    fake = FakeGuest()
    agent = Agent("guest", fake)
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    agent.write("/srv/file", content)
    assert agent.read("/srv/file") == content
    assert len(fake.calls("guest-file-close")) == 2


def test_waiting_ends_with_the_first_answer() -> None:
    fake = FakeGuest(deaf=3)
    assert Agent("guest", fake).wait(10) < 10
    assert len(fake.calls("guest-ping")) == 4


def test_a_guest_that_never_answers_is_an_error_that_names_its_console() -> None:
    agent = Agent("guest", FakeGuest(deaf=10_000), Path("logs/serial.log"))
    with pytest.raises(VbuskitError, match=r"guest: its agent did not answer within 0.2 s") as caught:
        agent.wait(0.2)
    assert caught.value.hint == "the guest's console is in logs/serial.log"


def test_whether_a_guest_rests_is_looked_at_before_what_it_runs_is_killed() -> None:
    fake = FakeGuest(looks=10_000)
    before: list[int] = []

    def rests() -> bool:
        before.append(len(fake.calls("guest-exec")))
        return True

    with pytest.raises(TimedOut) as caught:
        Agent("guest", fake, rests=rests).execute("sleep 9", seconds=0.05)
    assert (caught.value.rested, before, len(fake.calls("guest-exec"))) == (True, [1], 2)


@pytest.mark.parametrize("moves", [True, False])
def test_whether_a_guest_still_moved_when_its_time_was_over_is_part_of_the_error(moves: bool) -> None:
    count = itertools.count() if moves else itertools.repeat(0)
    with pytest.raises(TimedOut) as caught:
        Agent("guest", FakeGuest(deaf=10_000)).wait(0.2, work=lambda: next(count))
    assert bool(caught.value.moved) is moves


def test_what_moved_long_before_does_not_count() -> None:
    assert "4.0 s before" in still_moved(4)
    assert still_moved(RESTING + 1) == ""


def test_only_an_agent_that_was_waited_for_is_late() -> None:
    class Away(FakeGuest):
        def guest_exec_status(self, pid: int) -> dict[str, Any]:
            raise AgentAway("is not connected", 86)

    with pytest.raises(VbuskitError, match="no longer answers") as caught:
        Agent("guest", Away()).execute("true")
    assert not isinstance(caught.value, TimedOut)


def test_a_guest_that_switched_itself_off_is_not_waited_for() -> None:
    with pytest.raises(VbuskitError, match="switched itself off"):
        Agent("guest", FakeGuest(deaf=10_000)).wait(60, alive=lambda: False)


def test_an_agent_that_falls_silent_later_is_an_error_that_names_the_console() -> None:
    class Silent(FakeGuest):
        def guest_exec_status(self, pid: int) -> dict[str, Any]:
            raise NoAgent("no answer", 86)

    with pytest.raises(TimedOut, match="no longer answers") as caught:
        Agent("guest", Silent(), Path("serial.log")).execute("true")
    assert "serial.log" in str(caught.value.hint)


class Liar:
    """Answers each question in its own way."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def agent(self, command: str, seconds: int) -> str:
        self.asked += 1
        assert self.asked < 1000, "it is still being asked"
        return json.dumps({"return": self.answer} if self.answer != "nothing" else {})


@pytest.mark.parametrize(
    "answer",
    [
        *("nothing", None, [], {}, 3, "x"),
        {"pid": "x", "exited": True},
        {"pid": 1, "exited": True},
        {"pid": 1, "exited": True, "exitcode": "x"},
        {"pid": 1, "exited": True, "exitcode": 0, "out-data": "x"},
        {"count": 5, "buf-b64": "x", "eof": False},
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_of_the_agent(answer: Any) -> None:
    agent = Agent("guest", Liar(answer))
    with pytest.raises(AgentError, match="guest: "):
        agent.execute("true")
    with pytest.raises(AgentError, match="guest: "):
        agent.read("/etc/passwd")


def test_a_file_that_says_it_goes_on_and_brings_nothing_has_ended() -> None:
    assert Agent("guest", Liar({"count": 5, "buf-b64": "", "eof": False})).read("/x") == b""
