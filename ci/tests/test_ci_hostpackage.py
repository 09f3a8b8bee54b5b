# SPDX-License-Identifier: MIT
"""`vbuskit package host` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.ci import cli, hostpackage
from vbuskit.drivers.build import host_programs
from vbuskit.kmp.changelog import current_release

VERSION = current_release(ROOT).debian_version


@pytest.mark.parametrize(
    ("kind", "name"), [("deb", f"vbusd_{VERSION}_amd64.deb"), ("rpm", f"vbusd-{VERSION}-1.x86_64.rpm")]
)
def test_the_hosts_package_needs_no_key_and_is_not_made_twice(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = host_programs(Runner(), Places.from_environment())
    monkeypatch.setattr(hostpackage, "host_programs", lambda *_: programs)
    monkeypatch.setenv("VBUSKIT_STATE", str(tmp_path / "state"))
    words = ["package", "host", "--format", kind, "--out", str(tmp_path / "out")]
    assert cli.main(words) == Exit.OK
    monkeypatch.setitem(hostpackage.FORMATS, kind, (pytest.fail, hostpackage.FORMATS[kind][1]))
    assert cli.main(words) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / name)] * 2
    assert not (tmp_path / "state").exists()
