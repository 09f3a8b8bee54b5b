# SPDX-License-Identifier: MIT
"""What changed in the layout of what moves, in words; the wire of v0.1 as it is, and changes made to it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vbuskit.drivers.wire import recorded
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.release import Release
from vbuskit.migration.releases import named, released
from vbuskit.migration.state import compare, verdict

OLD = named("0.1")
ENABLED = "struct shm_signal_page.enabled: uint8_t at 256, 512 bytes"
GENERATION = "struct vblk_status.generation: vbus_le32 at 0, 4 bytes"
LINK = "struct vbusd_record_device.link: uint8_t at 1, 1 bytes"
VERSION = "VBUSD_RECORD_VERSION = 2"


def edited(was: str, *now: str) -> Release:
    """OLD with other lines in place of one, which must be there."""
    lines: dict[str, tuple[str, ...]] = {}
    for part in ("wire", "saved"):
        lines[part] = tuple(
            each for line in getattr(OLD, part) for each in (now if line == was else (line,))
        )
    assert was in (*OLD.wire, *OLD.saved)
    return replace(OLD, wire=lines["wire"], saved=lines["saved"])


def test_a_release_reads_what_it_left_itself() -> None:
    assert compare(OLD, OLD) == () and verdict(()) is Verdict.YES


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (edited("VENET_SG_USO = 64"), "no: window: removed: VENET_SG_USO: 64: the later one"),
        (edited("VENET_SG_USO = 64", "VENET_SG_USO = 16"), "no: window: changed: VENET_SG_USO: 64 -> 16: "),
        (
            edited(ENABLED, ENABLED.replace("256", "260")),
            "no: window: moved: struct shm_signal_page.enabled: uint8_t at 256, 512 bytes -> uint8_t at ",
        ),
        (
            edited(ENABLED, ENABLED.replace("512", "256")),
            "no: window: resized: struct shm_signal_page.enabled: ",
        ),
        (edited(ENABLED), "no: window: removed: struct shm_signal_page.enabled: "),
        (
            edited(ENABLED, ENABLED.replace("enabled", "armed")),
            "yes: window: renamed: struct shm_signal_page.armed: enabled -> armed: ",
        ),
        (
            edited(GENERATION, GENERATION, "struct vblk_status.flags: vbus_le32 at 4, 4 bytes"),
            "yes: window: named: struct vblk_status.flags: vbus_le32 at 4, 4 bytes: it was reserved",
        ),
        (
            edited(GENERATION, GENERATION, "struct vblk_status.flags: vbus_le32 at 2, 4 bytes"),
            "no: window: new: struct vblk_status.flags: vbus_le32 at 2, 4 bytes: it lies where",
        ),
        (
            edited(GENERATION, GENERATION, "struct vblk_status.flags: vbus_le32 at 16, 4 bytes"),
            "no: window: new: struct vblk_status.flags: ",
        ),
        (
            edited("VBUS_STATUS_IO = 8", "VBUS_STATUS_IO = 8", "VBUS_STATUS_LATE = 9"),
            "yes: window: new: VBUS_",
        ),
        (
            edited("struct vblk_status: 16 bytes", "struct vblk_status: 24 bytes"),
            "no: window: changed: struct vblk_status: 16 bytes -> 24 bytes: ",
        ),
        (edited(LINK, LINK.replace("at 1", "at 2")), "no: host: moved: struct vbusd_record_device.link: "),
        (
            edited("VBUS_WORKER_RESIZE = 10", "VBUS_WORKER_RESIZE = 10", "VBUS_WORKER_TOLD = 11"),
            "yes-if: host: new: VBUS_WORKER_TOLD: 11: ",
        ),
        (
            edited(VERSION, "VBUSD_RECORD_VERSION = 3"),
            "yes-if: host: changed: VBUSD_RECORD_VERSION: 2 -> 3: told by VBUSD_RECORD_VERSION: a vbusd",
        ),
        (
            edited(VERSION, VERSION, "once upon a time"),
            "yes-if: host: new: once upon a time: not understood",
        ),
    ],
)
def test_each_change_is_told_in_words_with_its_verdict(now: Release, line: str) -> None:
    (found,) = compare(OLD, now)
    assert str(found).startswith(line)


def test_a_structure_that_is_new_is_one_line_whatever_it_has() -> None:
    now = replace(OLD, wire=(*OLD.wire, "struct vrng: 8 bytes", "struct vrng.seed: vbus_le64 at 0, 8 bytes"))
    (found,) = compare(OLD, now)
    assert (found.word, found.verdict) == ("new", Verdict.YES)


def test_a_record_that_says_that_it_is_another_is_not_misread() -> None:
    lines = [line.replace("at 1", "at 2") if line == LINK else line for line in OLD.saved]
    told = replace(OLD, saved=tuple(line.replace(VERSION, "VBUSD_RECORD_VERSION = 3") for line in lines))
    assert verdict(compare(OLD, replace(OLD, saved=tuple(lines)))) is Verdict.NO
    assert verdict(compare(OLD, told)) is Verdict.IF


def test_a_record_that_no_longer_says_which_it_is_may_be_misread() -> None:
    assert verdict(compare(OLD, edited(VERSION))) is Verdict.NO


def test_fields_of_a_structure_whose_size_nobody_tells_are_compared() -> None:
    old, new = (replace(OLD, wire=(f"struct vrng.seed: vbus_le64 at {at}, 8 bytes",)) for at in (0, 8))
    assert compare(old, old) == ()
    assert [each.word for each in compare(old, new)] == ["moved"]


def test_a_window_that_is_misread_one_way_is_misread_the_other_way() -> None:
    moved = edited(ENABLED, ENABLED.replace("256", "260"))
    assert verdict(compare(OLD, moved)) is verdict(compare(moved, OLD)) is Verdict.NO


def test_every_release_and_this_tree_read_each_others_windows() -> None:
    now = named("next")
    assert now.wire == tuple(recorded())
    for old in released():
        assert [str(each) for each in compare(old, now) if each.verdict is Verdict.NO] == []
