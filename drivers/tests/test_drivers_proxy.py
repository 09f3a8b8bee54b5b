# SPDX-License-Identifier: MIT
"""A vbusd behind `vbuskit host proxy` is a vbusd, and what is no proxy is told in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import Refused
from vbuskit.base.places import Places
from vbuskit.base.run import Arg, Runner
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Host, RequestRefused, VbusdSilent, serving
from vbuskit.drivers.proxy import RemoteHost

CARD = UUID("5a4e6f7e-0000-4000-8000-000000000001")
SERVE = "import sys; from pathlib import Path; from vbuskit.drivers import proxy; "
SERVE += "proxy.serve(Path(sys.argv[1]), sys.stdin, sys.stdout)"


@pytest.fixture
def vbusd(tmp_path: Path) -> Iterator[Path]:
    program = host_programs(Runner(), Places.from_environment())["vbusd"].path
    with serving(Runner(), program, tmp_path / "s", output=tmp_path / "log"):
        yield tmp_path / "s"


def far(path: Path, *words: Arg) -> RemoteHost:
    run: list[Arg] = [*words] or [sys.executable, "-c", SERVE, path]
    return RemoteHost(Runner(), run, path.parent / "errors")


def test_a_bus_moves_from_a_near_vbusd_to_a_far_one(vbusd: Path, tmp_path: Path) -> None:
    program = host_programs(Runner(), Places.from_environment())["vbusd"].path
    (tmp_path / "far").mkdir()
    there = tmp_path / "far/s"
    with (
        serving(Runner(), program, there, output=tmp_path / "far/log"),
        Host(vbusd) as near,
        far(there) as other,
    ):
        near.add_bus("vm", tmp_path / "q")
        ticket = other.add_bus("vm", tmp_path / "far/q", held=True)
        other.add_device("vm", CARD, "venet-loopback", mac="52:54:00:00:00:01")
        assert other.bus("vm").held and [each.uuid for each in other.devices("vm")] == [CARD]
        with pytest.raises(RequestRefused):
            other.start("vm", f"{'0' * 32}:{'0' * 16}")
        receipt = near.release("vm", ticket)
        other.start("vm", receipt)
        assert (near.bus("vm").held, other.bus("vm").held) == (True, False)


def test_a_ticket_is_left_for_its_guest_and_for_root_only(vbusd: Path, tmp_path: Path) -> None:
    with far(vbusd) as other:
        other.leave_ticket(CARD, "ab" * 16)
        left = tmp_path / "tickets" / str(CARD)
        assert left.read_text() == "ab" * 16 + "\n"
        assert left.stat().st_mode & 0o777 == 0o600
        other.withdraw_ticket(CARD)
        other.withdraw_ticket(CARD)
        assert not left.exists()


def test_what_the_far_vbusd_refuses_is_refused_here_and_the_next_question_is_answered(vbusd: Path) -> None:
    with far(vbusd) as other:
        with pytest.raises(RequestRefused, match="none"):
            other.remove_bus("none")
        assert other.buses() == []


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["sh", "-c", "echo ssh: no route to host >&2; exit 255"], VbusdSilent, "ssh: no route to host"),
        (["echo", "Welcome to host2"], Refused, "says what no proxy does: Welcome to host2"),
        (["echo", '{"proxy": 2}'], Refused, "no proxy of this release"),
    ],
)
def test_what_is_no_proxy_is_told_in_one_line(
    tmp_path: Path, words: list[Arg], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as told:
        far(tmp_path / "s", *words)
    assert said in str(told.value) and "\n" not in str(told.value)


def test_nonsense_is_answered_and_the_proxy_goes_on(vbusd: Path) -> None:
    lines = 'x\n[]\n{"ask": "fly"}\n{"ask": "vbusd", "raw": "zz"}\n{"ask": "withdraw", "uuid": "../x"}\n'
    done = Runner()([sys.executable, "-c", SERVE, vbusd], stdin=lines)
    hello, *answers = done.splitlines()
    assert hello == '{"proxy": 1}'
    assert len(answers) == 5 and all(each.startswith('{"error": ') for each in answers)


def test_a_vbusd_that_ends_behind_its_proxy_is_told_as_one_that_is_gone(vbusd: Path) -> None:
    with far(vbusd) as other:
        with Host(vbusd) as near:
            near.end()
        with pytest.raises(VbusdSilent):
            other.buses()
