# SPDX-License-Identifier: MIT
"""One way to a host: a URI as libvirt has it, and one ssh connection that all sessions share."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from vbuskit.base.errors import UsageError, printable
from vbuskit.base.run import Arg
from vbuskit.compat.host import STAGE

IDENTITY, KNOWN_HOSTS = "VBUSKIT_SSH_IDENTITY", "VBUSKIT_SSH_KNOWN_HOSTS"

PREFIX, TIE = "vbw-", "tie"

# The first value wins, so nothing in the user's own file takes any of these back.
CONFIG = """\
Host *
    BatchMode yes
    StrictHostKeyChecking yes
    ForwardAgent no
    ForwardX11 no
    PermitLocalCommand no
    EscapeChar none
    ConnectTimeout 20
    ServerAliveInterval 5
    ServerAliveCountMax 6
    ControlMaster no
    ControlPersist no
    ControlPath {folder}/master
{more}
Match all
    Include ~/.ssh/config
    Include /etc/ssh/ssh_config
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URI says. `host` is empty when it is a libvirt of this machine."""

    uri: str
    host: str = ""
    user: str = ""
    port: int = 0
    path: str = ""
    identity: str = ""
    known_hosts: str = ""

    @classmethod
    def of(cls, uri: str) -> Address:
        """`keyfile` and `known_hosts` are libvirt's own words; without them the environment is asked."""
        hint = "like qemu+ssh://USER@HOST/system, or qemu:///system for this machine"
        try:
            parts = urlsplit(uri)
            port = parts.port or 0
        except ValueError as error:
            raise UsageError(f"{uri}: is no URI: {error}", hint=hint) from error
        if not parts.hostname and parts.scheme and "ssh" not in parts.scheme:
            return cls(uri=uri)
        if parts.scheme != "qemu+ssh" or not parts.hostname or parts.password is not None:
            raise UsageError(f"{uri}: is no host of a pool", hint=hint)
        if not re.fullmatch(r"[\w.:-]+", parts.hostname) or parts.hostname.startswith("-"):
            raise UsageError(f"{parts.hostname}: is no host's name", hint=hint)
        more = dict(parse_qsl(parts.query))
        found = cls(
            uri=uri,
            host=parts.hostname,
            user=parts.username or "",
            port=port,
            path=parts.path,
            identity=more.get("keyfile", os.environ.get(IDENTITY, "")),
            known_hosts=more.get("known_hosts", os.environ.get(KNOWN_HOSTS, "")),
        )
        words = found.identity + found.known_hosts
        if not re.fullmatch(r"[\w.@+-]*", found.user) or '"' in words or not words.isprintable():
            raise UsageError(
                f"{printable(uri)}: its user is no name, or a file's name is none for ssh",
                hint="file names have neither quotes nor control characters",
            )
        return found


class Way:
    """How commands get to a host; `close` when nobody needs it any more.

    tie: a pipe that ends when we do
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.folder, self._held = own_folder()
        self.tie = self.folder / TIE
        if address.host:
            (self.folder / "config").write_text(CONFIG.format(folder=self.folder, more=chosen(address)))
            wrapper = self.folder / "ssh"
            wrapper.write_text(f'#!/bin/sh\nexec ssh -F {self.folder}/config "$@"\n')
            wrapper.chmod(0o700)

    def words(self, args: Sequence[Arg], *, master: bool = False) -> list[Arg]:
        """The same command, there. `master`: the session whose connection the others use, and end with."""
        plain = [str(arg) for arg in args]
        if not self.address.host:
            return list(plain)
        shared = ["-o", "ControlMaster=yes"] if master else []
        config = self.folder / "config"
        return ["ssh", "-T", "-F", config, *shared, "--", self.address.host, shlex.join(plain)]

    @property
    def uri(self) -> str:
        """For libvirt: it starts ssh with the same settings, over the same connection."""
        if not self.address.host:
            return self.address.uri
        query = urlencode({"command": self.folder / "ssh", "no_tty": "1"}, quote_via=quote)
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        return f"qemu+ssh://{host}{self.address.path}?{query}"

    def close(self) -> None:
        os.close(self._held)
        shutil.rmtree(self.folder, ignore_errors=True)


def own_folder() -> tuple[Path, int]:
    """A folder with a pipe in it, and the pipe; folders whose owner was killed go.

    Its path is short: ssh's and vbusd's sockets lie below it, and a UNIX path has 107 bytes.
    """
    place = STAGE if STAGE.is_mount() else Path(tempfile.gettempdir())
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # its owner was quicker
            if folder.stat().st_uid == os.geteuid() and not has_reader(folder / TIE):
                shutil.rmtree(folder, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=".vbw", dir=place))
    os.mkfifo(draft / TIE)
    held = os.open(draft / TIE, os.O_RDWR | os.O_CLOEXEC)
    return draft.rename(place / draft.name.replace(".vbw", PREFIX)), held  # found only when it is held


def has_reader(pipe: Path) -> bool:
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.ENXIO
    return True


def chosen(address: Address) -> str:
    lines = []
    if address.user:
        lines.append(f"User {address.user}")
    if address.port:
        lines.append(f"Port {address.port}")
    if address.identity:
        lines += [f'IdentityFile "{address.identity}"', "IdentitiesOnly yes"]
    if address.known_hosts:
        lines += [f'UserKnownHostsFile "{address.known_hosts}"', "GlobalKnownHostsFile /dev/null"]
    return "".join(f"    {line}\n" for line in lines)
