# SPDX-License-Identifier: MIT
"""A guest that is slow to do what it is asked."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner
from vbuskit.base.virt import UNKNOWN, Connection, VirtError
from vbuskit.base.wait import patience
from vbuskit.compat.domain import Hardware
from vbuskit.compat.guest import KEXEC, OFF, Guest, qemu_of
from vbuskit.compat.guests import INITS


class Tray:
    """Refuses to open the first `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.open = False

    def update(self, device: ET.Element) -> None:
        self.times -= 1
        if self.times >= 0:
            raise VirtError("timed out waiting to open tray of 'sda'", 84)
        self.open = True


def guest(tray: Tray, tmp_path: Path) -> Guest:
    made = Guest(
        cast(Connection, SimpleNamespace(launch=lambda xml: tray)),
        Hardware(name="slow", disk=None, kernel=tmp_path, initrd=tmp_path, serial=tmp_path / "serial"),
    )
    cast(Any, made)._domain = tray
    return made


class Port:
    """A guest's port: it lets go of a device the `times`th time that somebody looks."""

    def __init__(self, times: int = 0) -> None:
        self.times = times
        self.there: list[ET.Element] = []
        self.leaving = False

    def attach(self, device: ET.Element) -> None:
        self.there.append(device)

    def detach(self, device: ET.Element) -> None:
        assert ET.tostring(device) == ET.tostring(self.there[0])
        self.leaving = True

    def devices(self, tag: str) -> list[ET.Element]:
        self.times -= self.leaving
        if self.leaving and self.times < 0:
            self.there.clear()
        return self.there


def plugged(port: Port, tmp_path: Path) -> Guest:
    made = guest(Tray(0), tmp_path)
    cast(Any, made)._domain = port
    made.plug(Path("/run/vbus/s"))
    return made


def test_a_bus_that_is_plugged_in_is_there_after_a_restart_too_and_one_that_is_out_is_not(
    tmp_path: Path,
) -> None:
    one = plugged(Port(3), tmp_path)
    assert (one.hardware.bus, one.hardware.pluggable) == (Path("/run/vbus/s"), True)
    one.unplug()
    assert one.hardware.bus is None


def test_a_guest_that_keeps_the_bus_is_an_error(tmp_path: Path) -> None:
    one = plugged(Port(10_000), tmp_path)
    with pytest.raises(VbuskitError, match="has not let go of the bus"):
        one.unplug(seconds=0.1)
    assert one.hardware.bus is not None


def test_a_bus_on_the_root_bus_cannot_be_unplugged(tmp_path: Path) -> None:
    one = plugged(Port(), tmp_path)
    one.hardware = replace(one.hardware, pluggable=False)
    with pytest.raises(VbuskitError, match="no bus that can be unplugged"):
        one.unplug()


def test_a_tray_that_takes_long_to_open_is_asked_again(tmp_path: Path) -> None:
    tray = Tray(2)
    with patience(6):
        guest(tray, tmp_path).eject()
    assert tray.open


def test_a_tray_that_never_opens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VirtError, match="tray of 'sda'"):
        guest(Tray(10_000), tmp_path).eject()


def test_what_fails_while_a_disc_is_in_is_told_and_not_the_tray_that_stays_shut(tmp_path: Path) -> None:
    slow = guest(Tray(0), tmp_path)
    cast(Any, slow)._agent = SimpleNamespace(execute=lambda *words: Finished(0, "", ""))
    with pytest.raises(VbuskitError, match="no such package"), slow.disc(tmp_path):
        cast(Any, slow)._domain = Tray(10_000)
        raise VbuskitError("no such package")


@pytest.mark.parametrize(("program", "rests"), [("sleep 600", True), ("while :; do :; done", False)])
def test_a_guest_whose_qemu_has_nothing_to_do_rests(tmp_path: Path, program: str, rests: bool) -> None:
    idle = guest(Tray(0), tmp_path)
    assert idle.rests() is None
    with Runner().start(["sh", "-c", f"{program}; :"], output=tmp_path / "x") as qemu:
        idle.qemu = qemu.pid
        assert idle.rests() is rests


class Stuck:
    """A domain of a libvirtd that is dead."""

    uuid = f"no-{os.getpid()}-such-guest"

    def destroy(self) -> None:
        raise VirtError("client socket is closed", 38)

    def state(self) -> str:
        return UNKNOWN


def test_a_guest_whose_libvirtd_is_dead_is_ended_all_the_same(tmp_path: Path) -> None:
    with Runner().start(["sh", "-c", "sleep 600; :", Stuck.uuid], output=tmp_path / "x") as qemu:
        with guest(cast(Any, Stuck()), tmp_path):
            assert qemu_of(Stuck.uuid) == qemu.pid
        assert qemu.wait(10) == -signal.SIGKILL
    with guest(cast(Any, Stuck()), tmp_path):
        assert qemu_of(Stuck.uuid) == 0


@pytest.mark.parametrize("program", [program for program in INITS.values() if program])
def test_an_init_of_ours_hears_what_systemd_hears(program: Path) -> None:
    text = (ROOT / program).read_text()
    assert f"trap 'leave systemctl poweroff --force --force' {OFF}\n" in text
    assert f"trap 'leave kexec -x -y -e' {KEXEC}\n" in text
