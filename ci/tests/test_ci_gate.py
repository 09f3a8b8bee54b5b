# SPDX-License-Identifier: MIT
"""`vbuskit gate` from the command line: its verbs, what they print, and exit codes for scripts."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.ci.commands import gate

Capture = pytest.CaptureFixture[str]
CARD = "00000000-0000-0000-0000-000000000007"
BITS = {"0": 0x4F, "1": 1, "2": 0x4F, "3": 7}
ABOUT = {"schema": 1, "release": "0.2.0", "captured": "2026-11-24T00:00:00Z", "arch": "x86_64"}
GUEST: dict[str, Any] = {
    **ABOUT,
    "kind": "guest",
    "identity": "00000000-0000-0000-0000-000000000001",
    "name": "vm1",
    "machine": "pc-q35-7.2",
    "cpu": "qemu64",
    "bus": {"version": 1, "window": 16, "vectors": 8},
    "devices": [
        {"uuid": CARD, "type": "venet", "version": 1, "class": "venet-tap", "open": True, "active": BITS}
    ],
}
HOST: dict[str, Any] = {
    **ABOUT,
    "kind": "host",
    "identity": "00000000-0000-0000-0000-000000000002",
    "name": "host2",
    "qemu": "7.2.22",
    "libvirt": "9.0.0",
    "bus": {"version": 1},
    "machines": ["pc-q35-7.2"],
    "cpus": ["qemu64"],
    "classes": [{"name": "venet-tap", "type": "venet", "version": 1, "groups": BITS}],
}
OLDER = {**HOST, "classes": [{**HOST["classes"][0], "groups": {**BITS, "0": 0xF}}]}
MASKING = {**HOST, "mask": {"venet": {"0": 0x40}}}


def files(folder: Path, host: dict[str, Any]) -> list[str]:
    made = []
    for name, words in (("vm1.json", GUEST), ("host2.json", host)):
        (folder / name).write_text(json.dumps(words))
        made.append(str(folder / name))
    return made


@pytest.mark.parametrize(
    ("host", "code", "said"),
    [
        (HOST, Exit.OK, "yes: vm1 to host2\n"),
        (MASKING, Exit.FAILED, f"yes-if: vm1 to host2\n  yes-if: device {CARD}: venet sg.uso: "),
        (OLDER, Exit.REFUSED, f"no: vm1 to host2\n  no: device {CARD}: venet sg.uso: "),
    ],
)
def test_a_verdict_is_the_first_line_and_an_exit_code(
    host: dict[str, Any], code: Exit, said: str, tmp_path: Path, capsys: Capture
) -> None:
    assert cli.main(["gate", "check", *files(tmp_path, host)]) == code
    assert capsys.readouterr().out.startswith(said)


def test_a_program_gets_verdict_and_findings_as_one_object(tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["gate", "check", "--json", *files(tmp_path, MASKING)]) == Exit.FAILED
    told = json.loads(capsys.readouterr().out)
    assert (told["guest"], told["host"], told["verdict"]) == ("vm1", "host2", "yes-if")
    (finding,) = told["findings"]
    assert (finding["rule"], finding["subject"], finding["device"], finding["side"]) == (
        "feature-masked",
        "venet sg.uso",
        CARD,
        "destination",
    )


def test_what_is_no_profile_is_refused_and_what_is_not_there_blocks(tmp_path: Path, capsys: Capture) -> None:
    guest, host = files(tmp_path, HOST)
    assert cli.main(["gate", "check", host, host]) == Exit.REFUSED
    assert capsys.readouterr().err.startswith(f"vbuskit: {host}: ")
    assert cli.main(["gate", "check", guest, str(tmp_path / "none")]) == Exit.BLOCKED


@pytest.mark.parametrize("words", [["fly"], ["check"], ["check", "a", "b", "c"], ["--json", "check"], []])
def test_words_that_no_verb_takes_are_a_usage_error(words: list[str], capsys: Capture) -> None:
    assert cli.main(["gate", *words]) == Exit.USAGE
    assert "usage: vbuskit gate" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(gate.VERBS))
def test_every_verb_has_arguments_and_main_and_is_in_the_help(name: str, capsys: Capture) -> None:
    module = importlib.import_module(f"vbuskit.ci.gates.{name}")
    module.arguments(argparse.ArgumentParser())
    assert callable(module.main)
    assert cli.main(["gate", "--help"]) == Exit.OK
    assert f"  {name} " in capsys.readouterr().out
    assert cli.main(["gate", name, "--help"]) == Exit.OK
    assert capsys.readouterr().out.startswith(f"usage: vbuskit gate {name} ")
