# SPDX-License-Identifier: MIT
"""Hosts: how commands get into one, and that a private one is not made outside the sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked
from vbuskit.base.run import Runner
from vbuskit.compat.host import ForeignHost, PrivateHost

BODY = """
import sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.compat.host import PrivateHost
sandbox.enter()
run = Runner()
logs = Path(sys.argv[1])
with PrivateHost(run, "one", logs / "one") as one, PrivateHost(run, "two", logs / "two") as two:
    for host in (one, two):
        run(host.command(["touch", f"/run/vbus/{host.name}"]))
        names = sorted(p.name for p in host.seen("/run/vbus").iterdir())
        links = run(host.command(["ip", "-br", "link"])).split()[0]
        uri = host.connection.uri
        print(run(host.command(["uname", "-n"])).strip(), names, links, uri.startswith("qemu"))
"""


def test_a_private_host_outside_the_sandbox_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="sandbox"), PrivateHost(Runner(), "host", tmp_path):
        pass


def test_a_foreign_host_runs_commands_as_they_are(tmp_path: Path) -> None:
    host = ForeignHost("test:///default", tmp_path)
    with host:
        assert host.command(["ip", "link"]) == ["ip", "link"]
        assert host.seen("/run/vbus") == Path("/run/vbus")
        assert host.connection.uri == "test:///default"


def test_a_libvirt_that_is_not_there_is_blocked(tmp_path: Path) -> None:
    socket = tmp_path / "nothing"
    with (
        pytest.raises(Blocked, match="nothing"),
        ForeignHost(f"qemu+unix:///system?socket={socket}", tmp_path),
    ):
        pass


@pytest.mark.guest
def test_two_private_hosts_share_nothing(tmp_path: Path) -> None:
    out = Runner()([sys.executable, "-c", BODY, tmp_path])
    assert out == "one ['one'] lo True\ntwo ['two'] lo True\n"
