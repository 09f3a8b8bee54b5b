# SPDX-License-Identifier: MIT
"""`vbuskit gate state`: exit codes, and one line a change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.migration.releases import NEXT

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("was", "now", "code"),
    [
        ("VBUS_STATUS_IO = 8", "VBUS_STATUS_IO = 8", Exit.OK),
        ("VBUSD_RECORD_VERSION = 3", "VBUSD_RECORD_VERSION = 9", Exit.FAILED),
        ("VBUS_STATUS_IO = 8", "VBUS_STATUS_IO = 9", Exit.REFUSED),
    ],
)
def test_the_worst_change_is_the_exit_code(
    was: str, now: str, code: Exit, tmp_path: Path, capsys: Capture
) -> None:
    assert was in NEXT.read_text()
    (tmp_path / "other.json").write_text(NEXT.read_text().replace(was, now))
    assert cli.main(["gate", "state", "next", str(tmp_path / "other.json")]) == code
    first, *changes = capsys.readouterr().out.splitlines()
    assert first.endswith("the same" if was == now else "1 changes") and len(changes) == (was != now)
    assert cli.main(["gate", "state", "--json", "next", str(tmp_path / "other.json")]) == code
    assert len(json.loads(capsys.readouterr().out)["changes"]) == len(changes)
