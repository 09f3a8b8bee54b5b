# SPDX-License-Identifier: MIT
"""The line that tries a red cell again: it means that cell, with all that its run was given for it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from vbuskit.ci.again import again
from vbuskit.ci.commands import matrix, run
from vbuskit.compat.cells import Cell
from vbuskit.compat.plan import Coordinates

NOTHING = {"here": False, "connect": None, "defect": "none", "golden": None, "image": None, "hosts": None}
COMMANDS = {"matrix": matrix, "run": run}


def meant(where: Coordinates, **given: object) -> argparse.Namespace:
    """What `./vbuskit` makes of the line, which is one of that cell and of these options."""
    line = again(Cell(where.scenario, "x", where.guest, axes=where.axes), SimpleNamespace(**NOTHING | given))
    program, command, *words = shlex.split(line)
    assert program == "./vbuskit"
    parser = argparse.ArgumentParser()
    COMMANDS[command].arguments(parser)
    found = parser.parse_args(words)
    found.command = command
    return found


def test_without_anything_given_it_names_guest_and_scenario() -> None:
    said = meant(Coordinates("debian-12", "kill"))
    assert (said.command, said.verb, said.guest, said.only) == ("matrix", "run", ["debian-12"], ["kill"])
    assert (said.defect, said.golden, said.image, said.hosts) == ("none", None, None, None)


def test_it_has_the_defect_and_the_hosts() -> None:
    hosts = ["qemu+ssh://one/system", "qemu+ssh://two/system"]
    said = meant(Coordinates("debian-12", "kill", machine="i440fx"), defect="late", hosts=hosts)
    assert (said.defect, said.hosts, said.machine) == ("late", hosts, ["i440fx"])
    assert (said.guest, said.only) == (["debian-12"], ["kill"])


def test_it_has_the_goldens_and_the_image_of_this_cell_and_of_no_other_from_wherever_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "golden": ["0.1=what was shipped", "0.2=/elsewhere"],
        "image": ["windows-11=my disk.qcow2", "windows-10=other.qcow2"],
    }
    said = meant(Coordinates("windows-11", "kill", drivers="0.1", host="0.1"), **given)
    assert said.golden == [f"0.1={tmp_path / 'what was shipped'}"]
    assert said.image == [f"windows-11={tmp_path / 'my disk.qcow2'}"]
    assert (said.drivers, said.host) == (["0.1"], ["0.1"])
    said = meant(Coordinates("debian-12", "kill"), **given)
    assert (said.golden, said.image) == (None, None)


def test_a_cell_of_vbuskit_run_is_one_again_with_its_drivers_for_this_machines_kernel() -> None:
    said = meant(Coordinates("debian-12", "kill"), here=True, defect="wakeup", connect="qemu:///system")
    assert (said.command, said.only) == ("run", ["kill"])
    assert (said.defect, said.connect) == ("wakeup", "qemu:///system")
