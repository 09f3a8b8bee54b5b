# SPDX-License-Identifier: MIT
"""vbusd, a worker and vbus-control are killed at each of their steps: a build of its own, never shipped."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import PROGRAMS, compiled, configured, host_programs, logged

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")

SUITE = [
    "host-failpoints",
    "host-control",
    "host-held-uring",
    "host-held-pool",
    "host-vblk-uring",
    "host-vblk-pool",
]


def build() -> Path:
    places = Places.from_environment()
    folder = configured(Runner(), places, "failpoints", options=["-Dfailpoints=true"])
    compiled(Runner(), places, folder)
    return folder


def test_a_program_killed_at_any_step_loses_no_frame_no_sector_and_no_name() -> None:
    folder = build()
    command: list[str | Path] = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", *SUITE]
    output = logged(Runner(), Places.from_environment(), folder, command)
    assert re.search(rf"^Ok: +{len(SUITE)}\b", output, re.M), output


def test_what_is_shipped_has_no_fail_point() -> None:
    shipped = host_programs(Runner(), Places.from_environment())
    for name in ("vbusd", "vbus-worker", "vbus-control"):
        assert b"VBUS_FAIL_FILE" not in shipped[name].path.read_bytes()
        assert b"VBUS_FAIL_FILE" in (build() / PROGRAMS[name]).read_bytes()
