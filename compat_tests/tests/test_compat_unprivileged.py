# SPDX-License-Identifier: MIT
"""A user without root runs a guest whose network is passt: no libvirt, no tap, no privileges anywhere."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from vbuskit.base.agent import Agent
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.base.virt import NoAgent, VirtError
from vbuskit.base.wait import until
from vbuskit.compat.domain import BUS_SLOT, CMDLINE, EMULATOR, MACHINE
from vbuskit.compat.guest import SICK
from vbuskit.compat.images import Image, image_for
from vbuskit.compat.recipe import Recipe
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Host, await_answer, end_all
from vbuskit.drivers.kernel import modules, newest_release
from vbuskit.kmp import deb
from vbuskit.kmp.changelog import current_release

CARD = UUID("76627573-6b69-4000-8000-000000000001")
MAC = "02:76:62:75:73:01"
NOBODY = 65534
MIB = 1 << 20
SECONDS = 180.0

# A network without the world: passt gives the guest the address of what has the default route, and takes
# what the guest sends to the gateway to the host's loopback.
HOST = """
set -eu
cd "$1"
ip link set lo up
ip link add up0 type veth peer name up1
ip address add 10.9.0.2/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 10.9.0.1
python3 source.py &
exec passt --foreground --stderr --socket "$1/passt" --pid "$1/passt.pid"
"""

SOURCE = """
import pathlib, socket
data = pathlib.Path("data").read_bytes()
with socket.create_server(("127.0.0.1", 7000)) as server:
    with server.accept()[0] as peer:
        peer.sendall(data)
"""

# The agent's commands are all that a user without a network has to get something into a guest.
INSTALL = "dpkg --unpack /var/tmp/*.deb && depmod && modprobe vbus && modprobe venet"
# klibc's, which every Debian has for its initrd.
DHCP = "/usr/lib/klibc/bin/ipconfig -c dhcp -t 60"
OVERLAY = ("qemu-img", "create", "-q", "-f", "qcow2", "-b")
FETCH = "set -o pipefail; cat </dev/tcp/10.9.0.1/7000 | sha256sum"


class Channel:
    """The agent's socket, as libvirt would use it: synchronised before every command."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._numbers = itertools.count(1)
        self._seen = b""

    def agent(self, command: str, seconds: int) -> str:
        number = next(self._numbers)
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(b"\xff" + json.dumps(sync).encode() + b"\n")
            # Answers to questions that were given up come first.
            while self._answer() != {"return": number}:
                pass
            self._socket.sendall(command.encode() + b"\n")
            answer = self._answer()
        except TimeoutError as error:
            raise NoAgent("guest agent: no answer", 0) from error
        if "error" in answer:
            raise VirtError(f"guest agent: {answer['error']['desc']}", 0)
        return json.dumps(answer)

    def _answer(self) -> Any:
        while b"\n" not in self._seen:
            more = self._socket.recv(1 << 16)
            if not more:
                raise VirtError("guest agent: QEMU has ended", 0)
            self._seen += more
        line, _, self._seen = self._seen.partition(b"\n")
        return json.loads(line.lstrip(b"\xff"))

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Site:
    """A user's folder, in which everything runs; `chain`: pids of all that the guest needs, by name."""

    folder: Path
    host: Host
    agent: Agent
    chain: dict[str, int]

    def __call__(self, command: str, seconds: float = SECONDS) -> str:
        """Run it in the guest, by bash."""
        done = self.agent.execute(["/bin/bash", "-c", command], seconds)
        assert done.code == 0, done.err or done.out
        return done.out.strip()


def as_user() -> list[str]:
    """The words that make root an ordinary user."""
    if os.geteuid():
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]


def furnish(run: Runner, places: Places, image: Image, folder: Path) -> None:
    """All that the user gets from others: programs, an image, a package; and a folder that is their own."""
    vbusd = host_programs(run, places)["vbusd"].path
    for program in (vbusd, vbusd.with_name("vbus-worker")):
        shutil.copy(program, folder)
    for part in (image.disk.path, image.kernel.path, image.initrd.path):
        shutil.copyfile(part, folder / part.name)
    release = image.recipe.release
    built = modules(run, places, release)
    deb.build(run, ROOT, current_release(ROOT), release, built, folder)
    (folder / "source.py").write_text(SOURCE)
    (folder / "data").write_bytes(os.urandom(MIB))
    if as_user():
        os.chown(folder, NOBODY, NOBODY)


def qemu(folder: Path) -> list[str | Path]:
    """Two possible vCPUs, one present: with one possible, QEMU's TCG leaves the guest's barriers out."""
    return [
        *as_user(),
        *(EMULATOR, "-machine", MACHINE, "-accel", "tcg", "-cpu", "qemu64", "-m", "512"),
        *("-smp", "1,maxcpus=2", "-nodefaults", "-no-user-config", "-display", "none"),
        *(
            "-kernel",
            folder / "vmlinuz",
            "-initrd",
            folder / "initrd",
            "-append",
            f"root=/dev/vda {CMDLINE}",
        ),
        *("-drive", f"file={folder}/overlay,if=virtio,format=qcow2,cache=unsafe"),
        *("-serial", f"file:{folder}/serial.log", "-device", "virtio-serial"),
        *("-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
        *("-chardev", f"socket,id=bus,path={folder}/bus"),
        *("-device", f"ivshmem-doorbell,chardev=bus,vectors=8,master=on,addr={BUS_SLOT:#x}"),
    ]


@pytest.fixture
def site() -> Iterator[Site]:
    run, places = Runner(), Places.from_environment()
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    if run.attempt([*as_user(), "unshare", "--user", "--map-root-user", "--net", "true"]).code:
        pytest.skip("a user without privileges gets no namespaces here")
    image = image_for(run, places, Recipe(newest_release("cloud-amd64")))
    with tempfile.TemporaryDirectory(prefix="vbuskit-user-") as name, ExitStack() as undo:
        folder = Path(name)
        furnish(run, places, image, folder)
        network: list[str | Path] = [*as_user(), "unshare", "--user", "--map-root-user", "--net"]
        network += ["sh", "-c", HOST, "sh", str(folder)]
        undo.enter_context(run.start(network, output=folder / "host.log"))
        assert until((folder / "passt").exists, SECONDS), (folder / "host.log").read_text()
        words: list[str | Path] = [*as_user(), folder / "vbusd", "--socket", folder / "admin"]
        vbusd = undo.enter_context(run.start(words, output=folder / "vbusd.log"))
        await_answer(vbusd, folder / "admin", folder / "vbusd.log")
        undo.callback(end_all, vbusd, folder / "admin")
        host = undo.enter_context(Host(folder / "admin"))
        host.add_bus("vm", folder / "bus")
        host.add_device("vm", CARD, "venet-passt", mac=MAC, argument=str(folder / "passt"))
        run([*as_user(), *OVERLAY, folder / "disk.qcow2", "-F", "qcow2", folder / "overlay"])
        machine = undo.enter_context(run.start(qemu(folder), output=folder / "qemu.log"))
        assert until((folder / "agent").exists, SECONDS), (folder / "qemu.log").read_text()
        agent = Agent("vm", undo.enter_context(closing(Channel(folder / "agent"))), folder / "serial.log")
        agent.wait(SECONDS, lambda: machine.poll() is None)
        chain = {"vbusd": vbusd.pid, "vbus-worker": host.bus("vm").worker, "qemu-system-x86": machine.pid}
        yield Site(folder, host, agent, chain | {"passt": int((folder / "passt.pid").read_text())})


@pytest.mark.guest
def test_a_guest_of_an_ordinary_user_gets_its_network_from_passt(site: Site) -> None:
    for package in site.folder.glob("*.deb"):
        site.agent.write(f"/var/tmp/{package.name}", package.read_bytes())
    site(INSTALL)
    card = site(f"until ls /sys/bus/vbus/devices/{CARD}/net; do sleep 0.1; done 2>/dev/null")
    site(f"{DHCP} {card}")
    assert "10.9.0.2/24" in site(f"ip -brief address show {card}")
    before = site.host.device("vm", CARD).counters["rx_bytes"]
    assert site(FETCH).split()[0] == hashlib.sha256((site.folder / "data").read_bytes()).hexdigest()
    assert site.host.device("vm", CARD).counters["rx_bytes"] - before > MIB
    assert not SICK.search(site("dmesg"))
    for name, pid in site.chain.items():
        status = Path(f"/proc/{pid}/status").read_text()
        assert Path(f"/proc/{pid}/comm").read_text().startswith(name), name
        assert owners(status) == {os.geteuid() or NOBODY}, name


def owners(status: str) -> set[int]:
    """Real, effective, saved and file system uid, of /proc/PID/status, as whoever reads it sees them."""
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return {int(word) for word in line.split()[1:]}
