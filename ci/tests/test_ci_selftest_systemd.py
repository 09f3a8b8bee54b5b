# SPDX-License-Identifier: MIT
"""ci/selftest/systemd.sh against a systemd that is played: what it calls held, broken, and not tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.artifact import write
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner

SCRIPT = ROOT / "ci/selftest/systemd.sh"
# Each death gives vbusd another process; "bus" is there while $state/bus is.
PROGRAMS = {
    "dpkg-query": "exit 1",
    "sleep": ":",
    "apt-get": 'echo "$*" >>"$state/apt"',
    "apparmor_parser": 'echo "$*" >>"$state/parser"',
    "journalctl": ":",
    "vbuskit": """case "$*" in
'package host --out '*) echo "$state/vbusd.deb" ;;
'host add '*) touch "$state/bus" ;;
'host remove '*) rm -f "$state/bus" ;;
'host status --json') [ ! -e "$state/bus" ] || echo '[{"name": "selftest"}]' ;;
*) exit 2 ;;
esac""",
    "systemctl": """dies() { echo x >>"$state/deaths"; }
case "$*" in
*--version) echo "systemd ${VERSION:-254} (254.1)" ;;
'show --property MainPID '*) echo "$((100 + $(wc -l <"$state/deaths")))" ;;
'show --property NFileDescriptorStore '*) echo "${KEPT:-3}" ;;
'kill '*|'restart vbusd.service'|'stop '*) dies ;;
*) : ;;
esac""",
}
Play = Callable[..., Finished]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    if Path("/run/vbuskit/vbusd.sock").exists():
        pytest.skip("a vbusd runs here, which the script would not touch")
    write(tmp_path / "deaths", "")
    write(tmp_path / "vbusd.deb", "")

    def go(*words: str, env: dict[str, str] | None = None, **programs: str) -> Finished:
        for name, body in {
            **PROGRAMS,
            **{name.replace("_", "-"): body for name, body in programs.items()},
        }.items():
            write(tmp_path / "bin" / name, f"#!/bin/sh\nset -e\nstate={tmp_path}\n{body}\n", 0o755)
        path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
        ours = str(tmp_path / "bin/vbuskit")
        return Runner().attempt(
            ["sh", SCRIPT, ours, tmp_path, *words], env={**path, **(env or {})}, seconds=60
        )

    return go


def last(done: Finished) -> str:
    return done.out.splitlines()[-1]


def test_it_holds_and_leaves_neither_bus_nor_package(play: Play, tmp_path: Path) -> None:
    done = play()
    assert (done.code, last(done)) == (0, "held: 3 descriptors were kept")
    assert not (tmp_path / "bus").exists()
    assert (tmp_path / "apt").read_text().splitlines()[-1].endswith("purge -y vbusd")
    assert len((tmp_path / "deaths").read_text().splitlines()) == 3


def test_an_older_systemd_is_not_asked_to_keep_what_it_forgets(play: Play, tmp_path: Path) -> None:
    assert play(env={"VERSION": "252"}).code == 0
    assert len((tmp_path / "deaths").read_text().splitlines()) == 2


FORGETS = PROGRAMS["systemctl"].replace("dies() {", 'dies() { rm -f "$state/bus";')
STAYS = PROGRAMS["systemctl"].replace("dies() {", "dies() { return 0;")


@pytest.mark.parametrize(
    ("programs", "env", "said"),
    [
        ({"systemctl": FORGETS}, {}, "30 s after its death by SIGKILL vbusd, or its bus, is not back"),
        ({"systemctl": STAYS}, {}, "30 s after its death by SIGKILL vbusd, or its bus, is not back"),
        ({}, {"KEPT": "0"}, "systemd keeps no descriptor of vbusd"),
        ({"systemctl": "exit 3"}, {}, "vbusd does not run after its installation"),
        ({"vbuskit": PROGRAMS["vbuskit"].replace("touch", ":")}, {}, "a bus that was added is not there"),
    ],
)
def test_what_does_not_hold_is_said_and_undone(
    play: Play, tmp_path: Path, programs: dict[str, str], env: dict[str, str], said: str
) -> None:
    done = play(env=env, **programs)
    assert (done.code, last(done)) == (1, said)
    assert "purge" in (tmp_path / "apt").read_text()


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        (
            {"dpkg_query": "echo installed"},
            "the package vbusd is installed already, and this would purge it",
        ),
        ({"vbuskit": "exit 1"}, "the package vbusd could not be built"),
    ],
)
def test_what_cannot_be_tried_changes_nothing(
    play: Play, tmp_path: Path, programs: dict[str, str], said: str
) -> None:
    done = play(**programs)
    assert (done.code, last(done)) == (3, said)
    assert not (tmp_path / "apt").exists()


def test_apparmors_rules_watch_and_are_unloaded(play: Play, tmp_path: Path) -> None:
    assert play("apparmor").code == 0
    assert [line.split()[0] for line in (tmp_path / "parser").read_text().splitlines()] == ["-r", "-R"]
    done = play("apparmor", journalctl='echo \'apparmor="ALLOWED" operation="open" profile="vbusd"\'')
    assert done.code == 1
    assert last(done).startswith('AppArmor would have refused: apparmor="ALLOWED" operation="open"')
