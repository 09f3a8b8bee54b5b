# SPDX-License-Identifier: MIT
"""Both ends of an exchange on this machine: its loopback is the card, its shell the guest."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vbuskit.base.places import Places
from vbuskit.base.run import CommandFailed, Runner
from vbuskit.compat import traffic
from vbuskit.compat.bench import Bench
from vbuskit.compat.host import Here
from vbuskit.compat.traffic import TO_GUEST, TO_HOST, exchange

PlacesIn = Callable[[Path], Places]


class Local(Here):
    def command(self, words: list[str]) -> list[str]:
        return words


@pytest.fixture
def bench(tmp_path: Path, places_in: PlacesIn) -> Bench:
    run = Runner()
    found = SimpleNamespace(run=run, host=Local(), guest=run, places=places_in(tmp_path))
    return cast(Bench, found)


@pytest.fixture
def port() -> int:
    """One that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_both_ends_of_an_exchange_saw_the_same_bytes_and_others_each_way(bench: Bench, port: int) -> None:
    size = 1 << 20
    done = exchange(bench, "127.0.0.1", "lo", size, port)
    for sent, got in done.ends.values():
        assert sent == got
        assert sent.count == size
    assert done.ends[TO_HOST] != done.ends[TO_GUEST]
    assert done.frame > 1514  # the loopback takes 64 KiB at once
    assert not list(Path("/dev/shm").glob("exchange-lo*"))


def test_an_exchange_that_does_not_come_about_says_what_the_guest_said(
    bench: Bench, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "EXCHANGE", traffic.EXCHANGE.replace("{address}", "127.0.0.2"))
    with pytest.raises(CommandFailed, match="refused"):
        exchange(bench, "127.0.0.1", "lo", 1, port)
    assert not list(Path("/dev/shm").glob("exchange-lo*"))
