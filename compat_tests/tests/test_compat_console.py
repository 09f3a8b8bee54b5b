# SPDX-License-Identifier: MIT
"""A guest's console, written by a test in the guest's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.compat import console as console_module
from vbuskit.compat.console import KEPT, STARTS, Console, Floods, KeepsRestarting

BOOT = "[    0.048000] tsc: Unable to calibrate\r\nLoading, please wait...\r\n"


def write(path: Path, text: str) -> None:
    with path.open("a", newline="") as file:
        file.write(text)


def test_a_console_of_a_usual_length_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "MOST", 100)
    console = Console("guest", tmp_path / "serial")
    console.check()
    write(tmp_path / "serial", "x" * 100)
    console.check()
    console.cut()
    assert console.size == 100


def test_a_flood_is_an_error_that_names_the_guest_and_its_two_ends_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "MOST", 1 << 19)
    path = tmp_path / "serial"
    write(path, "first" + "x" * (1 << 20) + "last")
    console = Console("guest", path)
    with pytest.raises(Floods, match=r"^guest: floods its serial port, 1 MiB so far, and was stopped$"):
        console.check()
    console.cut()
    text = path.read_text()
    assert (text[:5], text[-4:]) == ("first", "last")
    assert console.size < 2 * KEPT + 100


@pytest.mark.parametrize("last", ["[    0.900000] x\r\n", "[    0.048000] reboot: Restarting system\r\n"])
def test_a_guest_that_starts_again_and_again_is_an_error(tmp_path: Path, last: str) -> None:
    path = tmp_path / "serial"
    console = Console("guest", path)
    for _ in range(STARTS - 1):
        write(path, BOOT + last)
        console.check_starts()
    write(path, BOOT + last + BOOT)
    with pytest.raises(KeepsRestarting, match=r"^guest: has started 6 times, its agent has not answered"):
        console.check_starts()


def test_starts_are_counted_from_where_it_was_switched_on(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    console = Console("guest", path)
    write(path, (BOOT + "[    9.000000] x\r\n") * 2 * STARTS)
    console.restart()
    write(path, BOOT)
    console.check_starts()


def test_a_clock_that_is_a_little_out_of_order_is_no_start(tmp_path: Path) -> None:
    console = Console("guest", tmp_path / "serial")
    write(tmp_path / "serial", "[    1.000002] x\n[    1.000001] y\n" * 2 * STARTS)
    console.check_starts()


def test_a_line_that_is_not_whole_yet_is_read_once_it_is(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    console = Console("guest", path)
    for _ in range(STARTS):
        for part in (BOOT[:9], BOOT[9:] + "[    9.0", "00000] x\r\n"):
            write(path, part)
            console.check_starts()
    write(path, BOOT)
    with pytest.raises(KeepsRestarting):
        console.check_starts()
