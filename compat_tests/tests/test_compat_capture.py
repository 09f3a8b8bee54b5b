# SPDX-License-Identifier: MIT
"""What a real libvirt with QEMU says of a host; `profile` tries a guest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vbuskit.base.run import Runner
from vbuskit.compat.domain import MACHINE

BODY = """
import sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat.host import PrivateHost
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Host, serving
from vbuskit.migration.capture import capture_host
sandbox.enter()
run, folder = Runner(), Path(sys.argv[1])
vbusd = host_programs(run, Places.from_environment())["vbusd"].path
with (
    PrivateHost(run, "one", folder / "logs") as one,
    serving(run, vbusd, folder / "s", output=folder / "log"),
    Host(folder / "s") as host,
):
    first, second = (capture_host(host, one.connection) for _ in range(2))
    settings = one.seen("/etc/libvirt/libvirtd.conf").read_text()
    print(first.name, f'"{first.identity}"' in settings, first.identity == second.identity)
    print(sys.argv[2] in first.machines, "q35" in first.machines, "tcg:qemu64" in first.cpus)
    print(f"libvirt {first.libvirt}, QEMU {first.qemu}" == one.connection.versions())
"""


@pytest.mark.guest
def test_a_host_is_told_as_its_libvirt_has_it(tmp_path: Path) -> None:
    out = Runner()([sys.executable, "-c", BODY, tmp_path, MACHINE])
    assert out == "one True True\nTrue False True\nTrue\n"
