# SPDX-License-Identifier: MIT
"""A user without privileges, real passt, and a real network stack as the guest, over the window."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import Blocked
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Host, RequestRefused

CARD = UUID(bytes=b"\1" * 16)  # what drivers/host/tests/cable.c asks for
MAC = "52:54:00:00:00:01"
NOBODY = 65534
SECONDS = 60.0

# The host's side: a network without the world, passt, a server, vbusd as a user who may nothing.
HOST = """
set -eu
cd "$1"
ip link set lo up
ip link add up0 type veth peer name up1
ip address add 10.9.0.2/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 10.9.0.1
python3 echo.py 127.0.0.1 7000 &
until [ -e echoes ]; do sleep 0.01; done
# Whoever is outside has no name in there, and looks like 65534: like vbusd's own user.
unshare --user --map-user=65534 --map-group=65534 ./vbusd --socket "$1/admin" >vbusd.log 2>&1 &
unshare --net sh -eu guest.sh "$1" >guest.log 2>&1 &
while :; do
    passt --foreground --stderr --socket "$1/passt" --pid "$1/passt.pid" >>passt.log 2>&1 || :
done
"""

# The guest: a network of its own, in which the card is the only way out.
GUEST = """
until [ -S qemu ]; do sleep 0.01; done
ip link add card address 52:54:00:00:00:01 type veth peer name plug
ip link set card up
ip link set plug up
# Never more under way than the plug's queue holds: a veth does not push back, it drops.
echo 4096 16384 65536 >/proc/sys/net/ipv4/tcp_wmem
./cable "$1/qemu" card &
ip address add 10.9.0.2/24 dev card
ip route add default via 10.9.0.1
while :; do
    until mv go going 2>/dev/null; do sleep 0.01; done
    python3 ask.py 10.9.0.1 7000 "$(cat going)" || :
done
"""

ECHO = """
import contextlib, pathlib, socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    pathlib.Path("echoes").touch()
    while True:
        # A passt that is killed resets what it had not closed yet; the next one is served all the same.
        with server.accept()[0] as peer, contextlib.suppress(ConnectionError):
            while data := peer.recv(1 << 16):
                peer.sendall(data)
"""

ASK = """
import random, socket, sys, threading
data = random.Random(1).randbytes(int(sys.argv[3]))
back = bytearray()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) as peer:
    thread = threading.Thread(target=peer.sendall, args=(data,))
    thread.start()
    while len(back) < len(data) and (some := peer.recv(1 << 16)):
        back += some
    thread.join()
print("all", len(back), "bytes came back" if back == data else "bytes, but others")
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A folder in which everything runs, and the vbusd in it."""

    folder: Path
    host: Host

    def transfer(self, count: int) -> None:
        """Have the guest start one, of so many bytes each way."""
        (self.folder / "new").write_text(str(count))
        (self.folder / "new").rename(self.folder / "go")

    def all_came_back(self, count: int) -> bool:
        line = f"all {count} bytes came back"
        if until(lambda: line in (self.folder / "guest.log").read_text(), SECONDS):
            return True
        for name in ("guest.log", "vbusd.log", "passt.log"):
            print(f"{name}:\n{(self.folder / name).read_text()[-2000:]}")
        print(self.host.bus("vm"), self.host.device("vm", CARD))
        return False

    def sent(self) -> int:
        return self.host.device("vm", CARD).counters["tx_bytes"]

    def passt(self) -> int:
        return int((self.folder / "passt.pid").read_text())


def as_user() -> list[str]:
    """The words that make root an ordinary user."""
    if os.geteuid():
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except (Blocked, RequestRefused):
        return False
    return True


@pytest.fixture
def site() -> Iterator[Site]:
    run = Runner()
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    if run.attempt([*as_user(), "unshare", "--user", "--map-root-user", "--net", "true"]).code:
        pytest.skip("a user without privileges gets no namespaces here")
    vbusd = host_programs(run, Places.from_environment())["vbusd"].path
    with tempfile.TemporaryDirectory(prefix="vbuskit-passt-") as name:
        folder = Path(name)
        for program in (vbusd, vbusd.with_name("vbus-worker"), vbusd.parent / "tests/cable"):
            shutil.copy(program, folder)
        for file, text in {"guest.sh": GUEST, "echo.py": ECHO, "ask.py": ASK}.items():
            (folder / file).write_text(text)
        if as_user():
            os.chown(folder, NOBODY, NOBODY)
        words: list[str | Path] = [
            *as_user(),
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
        ]
        words += ["sh", "-c", HOST, "sh", str(folder)]
        with run.start(words, output=folder / "host.log"):
            assert until(lambda: succeeds(lambda: Host(folder / "admin").close()), SECONDS)
            with Host(folder / "admin") as host:
                host.add_bus("vm", folder / "qemu", window_mib=1)
                assert until(lambda: succeeds(lambda: add_card(host, folder)), SECONDS)
                assert until(lambda: host.device("vm", CARD).running, SECONDS)
                yield Site(folder, host)


def add_card(host: Host, folder: Path) -> None:
    host.add_device("vm", CARD, "venet-passt", mac=MAC, argument=str(folder / "passt"))


def test_a_guest_of_an_ordinary_user_talks_tcp_through_passt(site: Site) -> None:
    site.transfer(2_000_000)
    assert site.all_came_back(2_000_000)
    assert site.sent() > 2_000_000
    for process in (site.host.bus("vm").worker, site.passt()):
        assert Path(f"/proc/{process}").stat().st_uid != 0


def test_a_connection_outlives_the_worker_that_served_it(site: Site) -> None:
    site.transfer(50_000_000)
    assert until(lambda: site.sent() > 1_000_000, SECONDS)
    os.kill(site.host.bus("vm").worker, signal.SIGKILL)
    assert site.sent() < 50_000_000, "it was over before anything happened to it"
    assert site.all_came_back(50_000_000)
    assert site.host.bus("vm").restarts == 1


def test_a_guest_has_its_network_again_when_passt_was_started_again(site: Site) -> None:
    site.transfer(1_000)
    assert site.all_came_back(1_000)
    os.kill(site.passt(), signal.SIGKILL)
    site.transfer(3_000)
    assert site.all_came_back(3_000)
    assert site.host.bus("vm").restarts == 0
    assert (site.folder / "vbusd.log").read_text().count("the stream is given up") == 1
