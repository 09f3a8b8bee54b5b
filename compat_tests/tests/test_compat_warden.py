# SPDX-License-Identifier: MIT
"""A socket of packets through two processes, as ssh carries it: who asks here is heard there."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vbuskit.base.run import Arg, Runner
from vbuskit.base.wait import until
from vbuskit.compat import warden

JOIN: list[Arg] = [sys.executable, "-P", warden.__file__, "join"]
# In a session's place: one that ends before it has begun, but for the last time.
MUTE = 'echo >>"$0"; [ "$(wc -l <"$0")" -gt "$1" ] || exit; shift; exec "$@"'
# One that takes long to begin, and goes on when nobody waits for it any more: $0 is a FIFO.
SLOW = '(read -r go <"$0"; exec "$@"); :'


@contextmanager
def far_end(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.settimeout(20)
        server.bind(str(path))
        server.listen()
        yield server


@contextmanager
def near_end(path: Path, *words: Arg) -> Iterator[socket.socket]:
    """A client of `listen`, whose sessions are these words."""
    program: list[Arg] = [sys.executable, "-P", warden.__file__, "listen", path, *words]
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(20)
    with Runner().converse(program, errors=path.with_name("errors")), client:
        assert until(lambda: client.connect_ex(str(path)) == 0, 10)
        yield client


def test_packets_go_both_ways_as_they_were_sent(tmp_path: Path) -> None:
    with (
        far_end(tmp_path / "far") as server,
        near_end(tmp_path / "near", *JOIN, tmp_path / "far") as client,
    ):
        client.send(b"one")
        client.send(b"two" * 20_000)
        far, _ = server.accept()
        assert (far.recv(1 << 17), far.recv(1 << 17)) == (b"one", b"two" * 20_000)
        far.send(b"three")
        assert client.recv(100) == b"three"
        far.close()
        assert client.recv(100) == b""


def test_a_session_that_ends_before_it_has_begun_is_asked_for_again(tmp_path: Path) -> None:
    session: list[Arg] = ["sh", "-c", MUTE, tmp_path / "sessions", "2", *JOIN, tmp_path / "far"]
    with far_end(tmp_path / "far") as server, near_end(tmp_path / "near", *session) as client:
        client.send(b"once")
        far, _ = server.accept()
        assert far.recv(100) == b"once"
        far.close()
        assert client.recv(100) == b""
    assert (tmp_path / "sessions").read_text() == "\n" * 3


def test_a_far_end_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    session: list[Arg] = ["sh", "-c", MUTE, tmp_path / "sessions", "0", *JOIN, tmp_path / "far"]
    with near_end(tmp_path / "near", *session) as client:
        assert client.recv(100) == b""
    assert (tmp_path / "sessions").read_text() == "\n"
    assert "far: No such file or directory" in (tmp_path / "errors").read_text()


def test_what_somebody_asked_who_has_gone_since_is_not_passed_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    session: list[Arg] = ["sh", "-c", SLOW, tmp_path / "gate", *JOIN, tmp_path / "far"]
    with far_end(tmp_path / "far") as server, near_end(tmp_path / "near", *session) as client:
        client.send(b"end")
        with (tmp_path / "gate").open("w") as gate:  # the session is there when this returns
            client.close()
            gate.write("go\n")
        far, _ = server.accept()
        with far:
            assert far.recv(100) == b""
