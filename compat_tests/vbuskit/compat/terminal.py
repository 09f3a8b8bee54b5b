# SPDX-License-Identifier: MIT
"""A guest's serial console on this terminal; Ctrl-] leaves."""

from __future__ import annotations

import os
import select
import socket
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it
CHUNK = 4096


def attach(place: Path, terminal: int, out: int) -> None:
    """Pass on what is typed at `terminal`, show on `out` what the guest prints, until either side ends."""
    with socket.socket(socket.AF_UNIX) as line, raw(terminal):
        line.connect(str(place))
        while True:
            ready, _, _ = select.select([line.fileno(), terminal], [], [])
            if line.fileno() in ready:
                with suppress(ConnectionResetError):
                    said = line.recv(CHUNK)
                    show(out, said)
                    if said:
                        continue
                return
            typed = os.read(terminal, CHUNK)
            before, leave, _ = typed.partition(LEAVE)
            line.sendall(before)
            if leave or not typed:
                return


def show(out: int, said: bytes) -> None:
    while said:
        said = said[os.write(out, said) :]


@contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Each key goes to the guest as it is, also Ctrl-C; afterwards the terminal is as it was."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def fitted(terminal: int, device: str) -> str:
    """What a guest's shell is told, so that its lines are as long as the terminal's."""
    size = os.get_terminal_size(terminal)
    return f"stty -F {device} rows {size.lines} columns {size.columns}"
