# SPDX-License-Identifier: MIT
"""Lab hosts: several on one machine, each with a libvirtd and an ssh server, on a network of their own.

They may be of several Debian suites, have a vbusd each, and a folder that all of them share.
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vbuskit.base.errors import Blocked, UsageError
from vbuskit.base.places import make
from vbuskit.base.run import Arg, Process, Runner
from vbuskit.base.wait import until
from vbuskit.compat.host import PrivateHost, held
from vbuskit.compat.ssh import IDENTITY, KNOWN_HOSTS
from vbuskit.drivers import host as south

MOST = 16
BRIDGE, NETWORK = "lab", "10.79.0"
HOME = Path(pwd.getpwuid(0).pw_dir)  # root's, on each host another one
# What a host of a pool writes to beside what libvirt has: locks, and what was brought there.
OWN = (str(HOME).lstrip("/"), "run/lock", "var/cache/vbuskit-host")
LIBVIRT, VBUSD = "/run/libvirt/libvirt-sock", "/run/vbus/vbusd.sock"  # on each host
SHARED = "/var/lib/libvirt/shared"  # likewise: the same folder for all


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """What one host is made of.

    suite: as Debian calls it; empty: this machine's own
    root:  a tree of that suite; None: this machine's own
    vbusd: the program, with its worker beside it; None: nobody starts one
    """

    suite: str = ""
    root: Path | None = None
    vbusd: Path | None = None


class Lab:
    """Hosts while the `with` block lasts; only in the sandbox, whose end is theirs.

    Each can reach each other one, by ssh and so by libvirt, with the lab's own key. A program that wants
    to reach them is started through `command`, with `environment`.
    """

    def __init__(
        self, run: Runner, hosts: int | Sequence[Outfit], folder: Path, *, shared: Path | None = None
    ) -> None:
        """`hosts`: how many of this machine's own suite, or what each is made of.

        folder: for its keys and its logs
        shared: what all hosts have as SHARED
        """
        self.outfits = [Outfit()] * hosts if isinstance(hosts, int) else list(hosts)
        if not 1 <= len(self.outfits) <= MOST:
            raise UsageError(f"a lab of {len(self.outfits)} hosts", hint=f"from 1 to {MOST}")
        self.hosts: list[PrivateHost] = []
        self.servers: list[Process] = []
        self._run = run
        self._folder = make(folder, 0o700)
        self._shared = shared
        self._switch: Process
        self._undo = ExitStack()

    @property
    def _numbers(self) -> range:
        return range(1, len(self.outfits) + 1)

    @property
    def switch(self) -> int:
        """A process on the network that joins the hosts."""
        return self._switch.pid

    @property
    def uris(self) -> list[str]:
        return [f"qemu+ssh://root@{address(number)}/system" for number in self._numbers]

    @property
    def environment(self) -> Mapping[str, str]:
        """What to trust, and whom to be."""
        return {
            IDENTITY: str(self._folder / "key"),
            KNOWN_HOSTS: str(self._folder / "known_hosts"),
        }

    def command(self, args: Sequence[Arg]) -> list[Arg]:
        """The same command, on their network."""
        return ["nsenter", f"--target={self._switch.pid}", "--net", "--", *args]

    def run(self, host: int, words: Sequence[Arg], seconds: float | None = None) -> str:
        """What a command prints on the host of that number, from 1; CommandFailed when it says no."""
        return self._run(self.hosts[host - 1].command(words), seconds=seconds)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._switch = undo.enter_context(held(self._run, ["--net"], self._folder / "switch.out"))
            self._make_switch()
            self._make_key()
            for number in self._numbers:
                undo.callback(self._forget)
                self._add(undo, number)
            self._introduce()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _forget(self) -> None:
        del self.hosts[:], self.servers[:]

    def _make_switch(self) -> None:
        for words in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "link", "add", BRIDGE, "type", "bridge"],
            ["ip", "address", "add", f"{NETWORK}.254/24", "dev", BRIDGE],
            ["ip", "link", "set", BRIDGE, "up"],
        ):
            self._run(self.command(words))

    def _make_key(self) -> None:
        for old in ("key", "key.pub", "known_hosts"):
            (self._folder / old).unlink(missing_ok=True)
        self._run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self._folder / "key"])

    def _add(self, undo: ExitStack, number: int) -> None:
        logs = make(self._folder / f"host{number}")
        outfit = self.outfits[number - 1]
        visible = [
            each for each in (self._shared, self._folder, outfit.vbusd and outfit.vbusd.parent) if each
        ]
        host = undo.enter_context(
            PrivateHost(
                self._run,
                f"lab{number}",
                logs,
                folders=OWN,
                settings=f'migration_host = "{address(number)}"\n',
                root=outfit.root,
                visible=visible,
            )
        )
        self.hosts.append(host)
        self._plug(host, number)
        self._admit(host)
        server = undo.enter_context(self._serve(host, number, logs))
        undo.callback(server.kill)  # unshare would not hear of anything less
        self.servers.append(server)
        if self._shared:
            make(host.seen(SHARED))
            self._run(host.command(["mount", "--bind", self._shared, SHARED]))
        if outfit.vbusd:
            self._start_vbusd(undo, host, outfit.vbusd)

    def _plug(self, host: PrivateHost, number: int) -> None:
        peer: list[Arg] = ["peer", "name", "eth0", "netns", str(host.pid)]
        self._run(self.command(["ip", "link", "add", f"host{number}", "type", "veth", *peer]))
        self._run(self.command(["ip", "link", "set", f"host{number}", "master", BRIDGE, "up"]))
        self._run(host.command(["ip", "address", "add", f"{address(number)}/24", "dev", "eth0"]))
        self._run(host.command(["ip", "link", "set", "eth0", "up"]))

    def _admit(self, host: PrivateHost) -> None:
        folder = make(host.seen(str(HOME / ".ssh")), 0o700)
        folder.parent.chmod(0o700)
        (folder / "authorized_keys").write_text((self._folder / "key.pub").read_text())

    def _introduce(self) -> None:
        """To each host all others: whom its libvirtd may enter, and whom it is to find there."""
        for host in self.hosts:
            folder = host.seen(str(HOME / ".ssh"))
            for ours, theirs in (("key", "id_ed25519"), ("known_hosts", "known_hosts")):
                (folder / theirs).touch(0o600)
                (folder / theirs).write_text((self._folder / ours).read_text())

    def _start_vbusd(self, undo: ExitStack, host: PrivateHost, program: Path) -> None:
        log = host.logs / "vbusd.log"
        daemon = self._run.start(host.command([program, "--socket", VBUSD]), output=log)
        undo.enter_context(daemon)
        undo.callback(south.end_all, daemon, host.seen(VBUSD))
        south.await_answer(daemon, host.seen(VBUSD), log)

    def _serve(self, host: PrivateHost, number: int, logs: Path) -> Process:
        """Its sessions end with it: they are in a PID namespace of its own."""
        key, listening = logs / "hostkey", f"{address(number)}:22"
        key.unlink(missing_ok=True)
        said = self._run(["dropbearkey", "-t", "ed25519", "-f", key]).splitlines()
        public = next(line for line in said if line.startswith("ssh-ed25519 "))
        with (self._folder / "known_hosts").open("a") as known:
            known.write(f"{address(number)} {' '.join(public.split()[:2])}\n")
        own: list[Arg] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        options: list[Arg] = ["-F", "-E", "-s", "-r", key, "-p", listening, "-P", logs / "dropbear.pid"]
        server = self._run.start(host.command([*own, "dropbear", *options]), output=logs / "ssh.log")
        if not until(lambda: self._run(host.command(["ss", "-Hltn", "sport = :22"])), 10):
            server.stop()
            raise Blocked(
                f"lab host {number}: its ssh server does not listen", hint=f"see {logs / 'ssh.log'}"
            )
        return server


def address(number: int) -> str:
    return f"{NETWORK}.{number}"
