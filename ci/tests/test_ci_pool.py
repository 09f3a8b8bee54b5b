# SPDX-License-Identifier: MIT
"""A real guest on a host of a pool: all that it needs goes there by ssh, and libvirt is qemu+ssh."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vbuskit.base.run import Runner

LAB = """
import sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.compat.lab import Lab
sandbox.enter()
run, folder = Runner(), Path(sys.argv[1])
with Lab(run, 1, folder / "lab") as lab:
    words = [sys.executable, "-c", sys.argv[2], folder, *lab.uris]
    print(run(lab.command(words), env=lab.environment), end="")
"""

BENCH = """
import json, sys
from pathlib import Path
from cryptography.x509.oid import NameOID
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.pipeline import Factory
from vbuskit.compat.bench import Bench, tried
from vbuskit.compat.bus import Bus
from vbuskit.compat.domain import Hardware, Nic, has_kvm
from vbuskit.compat.guest import Guest
from vbuskit.compat.images import image_for
from vbuskit.compat.pool import leased_host, noted
from vbuskit.compat.recipe import Recipe
from vbuskit.compat.scenario import choose
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.kernel import modules, newest_release
from vbuskit.kmp.keyring import chosen_key

folder, hosts = Path(sys.argv[1]), sys.argv[2:]
run, places = Runner(folder / "commands.log"), Places.from_environment(folder / "out")
release, key = newest_release("cloud-amd64"), chosen_key(places)
iso = Factory(run=run, places=places, key=key, kernel=release, build=modules).iso()
image, programs = image_for(run, places, Recipe(release)), host_programs(run, places)
said = {}
with leased_host(run, hosts, folder / "run", "debian-12") as host:
    disk, kernel, initrd = host.bring(image.disk.path, image.kernel.path, image.initrd.path)
    [there] = host.bring(iso.path)
    brought = host.bring(*(each.path for each in programs.values()))
    overlay, console = host.place(folder / "disk.qcow2"), folder / "console.log"
    run(host.command(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay]))
    names = dict(zip(programs, brought))
    bus = Bus(run=run, host=host, name="debian-12", programs=names, logs=folder / "logs")
    with bus:
        hardware = Hardware(
            name="debian-12", disk=overlay, kernel=kernel, initrd=initrd, serial=host.place(console),
            bus=bus.socket, stranger=True, nic=Nic(), kvm=has_kvm(),
        )
        signer = key.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        version = (places.tree / "VERSION").read_text().strip()
        with Guest(host.connection, hardware) as guest:
            bench = Bench(
                run=run, places=places, host=host, guest=guest, image=image, bus=bus, iso=there,
                version=version, signer=signer,
            )
            for kind in choose(["transfer", "kill"]):
                noted(host, kind.name)
                [cell] = tried(bench, [kind])
                said[cell.name] = [cell.outcome, cell.reason]
        host.fetch(console)
    cached = [each.is_relative_to("/var/cache/vbuskit-host") for each in (disk, there)]
    said["files"] = cached == [True, True] and not disk.exists() and not there.exists()
said["console"] = "Mounting root file system" in console.read_text(errors="replace")
print(json.dumps(said))
"""


@pytest.mark.guest
def test_a_guest_on_a_host_of_a_pool_boots_installs_transfers_and_loses_its_worker(tmp_path: Path) -> None:
    said = json.loads(Runner()([sys.executable, "-c", LAB, tmp_path, BENCH]).splitlines()[-1])
    green = ["green", ""]
    assert said == {
        "boot": green,
        "install": green,
        "negotiate": green,
        "transfer": green,
        "kill": green,
        "files": True,
        "console": True,
    }
