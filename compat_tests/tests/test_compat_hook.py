# SPDX-License-Identifier: MIT
"""libvirt's hook makes a guest's bus from the domain's metadata before QEMU starts, and removes it after."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

# A machine without disk or kernel: its firmware finds nothing to boot, and QEMU connects all the same.
BODY = """
import sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.virt import VirtError
from vbuskit.base.wait import until
from vbuskit.compat.host import PrivateHost
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Host, await_answer
import xml.etree.ElementTree as ET

root, logs = Path(sys.argv[1]), Path(sys.argv[2])
sandbox.enter()
run = Runner()
admin = "/run/vbus/vbusd.sock"
hook = f'#!/bin/sh\\nexec {root}/vbuskit host --socket {admin} hook "$@"\\n'
vbusd = host_programs(run, Places.from_environment())["vbusd"].path
with PrivateHost(run, "one", logs, hook=hook) as one:
    with run.start(one.command([vbusd, "--socket", admin]), output=logs / "vbusd.log") as daemon:
        await_answer(daemon, one.seen(admin), logs / "vbusd.log")
        with Host(one.seen(admin)) as host:
            print(host.buses())
            domain = one.connection.launch(ET.fromstring(sys.stdin.read()))
            (bus,) = host.buses()
            print(bus.name, bus.window_mib, bool(until(lambda: host.bus("vm").connected, 20)))
            print([device.klass for device in host.devices("vm")])
            try:
                one.connection.launch(ET.fromstring(WRONG))
            except VirtError as error:
                print(error)
            domain.destroy()
            print(until(lambda: not host.buses(), 20))
"""
DOMAIN = """
<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>{name}</name>
  <metadata>
    <vbus:bus xmlns:vbus="https://vbuskit.invalid/xmlns/bus/1" window="{window}">
      <vbus:device uuid="5a4e6f7e-0000-4000-8000-000000000001" class="venet-loopback"/>
    </vbus:bus>
  </metadata>
  <memory unit="MiB">64</memory>
  <vcpu current="1">2</vcpu>
  <os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <shmem name="vbus0" role="master">
      <model type="ivshmem-doorbell"/>
      <server path="/run/vbus/{name}.sock"/>
      <msi vectors="8" ioeventfd="on"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x10" function="0x0"/>
    </shmem>
  </devices>
</domain>
"""


@pytest.mark.guest
def test_a_bus_comes_and_goes_with_its_guest_and_a_wrong_word_keeps_the_guest_from_starting(
    tmp_path: Path,
) -> None:
    wrong = DOMAIN.format(name="other", window="five")
    body = f"WRONG = {wrong!r}\n{BODY}"
    out = Runner()([sys.executable, "-c", body, ROOT, tmp_path], stdin=DOMAIN.format(name="vm", window="4"))
    lines = out.splitlines()
    assert lines[:3] == ["[]", "vm 4 True", "['venet-loopback']"]
    assert "window: 'five' is no number" in lines[3]
    assert lines[4] == "True"
