# SPDX-License-Identifier: MIT
"""A window is shown with what happens in it, and without what passes through it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.client import Call, Client
from vbuskit.drivers.host import Host, serving
from vbuskit.drivers.window import dump, mapped, memory_of, number

CARD = UUID("5a4e6f7e-0000-4000-8000-000000000001")
SECRET = b"a password that passes by "
FRAME = bytes(6) + bytes(range(6, 54)) + SECRET * 20


@contextmanager
def used(folder: Path) -> Iterator[tuple[Host, Client]]:
    """A bus with a card through which a secret has passed, and passes still."""
    programs = host_programs(Runner(), Places.from_environment())
    with (
        serving(Runner(), programs["vbusd"].path, folder / "s", output=folder / "log"),
        Host(folder / "s") as host,
    ):
        host.add_bus("vm", folder / "q", window_mib=1)
        host.add_device("vm", CARD, "venet-loopback", mac="52:54:00:ab:cd:ef")
        with Client(programs["libvbus_client.so"].path, folder / "q") as client:
            client.negotiate()
            card = client.venet(CARD)
            for _ in range(3):
                assert card.send(FRAME, 20_000)
                assert card.receive(20_000) == FRAME
            assert card.send(FRAME, 20_000)
            yield host, client


def test_a_window_in_use_is_shown_with_its_indices_and_without_a_byte_of_payload(tmp_path: Path) -> None:
    with used(tmp_path) as (host, client):
        epoch = client.epoch
        with mapped(memory_of([host.bus("vm").worker])) as raw:
            text = dump(raw)
            assert SECRET in raw[:]
    assert f"epoch {epoch:#x}" in text.splitlines()[0]
    assert f"epoch {epoch:#x}" in text.splitlines()[1]
    assert "ring at 0x" in text and "64 slots, valid 0x4, inuse" in text
    assert "answered OK" in text
    for piece in (SECRET.decode(), SECRET.hex(), "ab:cd:ef", "abcdef", CARD.hex):
        assert piece not in text


def test_a_process_that_has_no_window_is_an_error_in_words() -> None:
    with pytest.raises(VbuskitError, match="no process has it"):
        memory_of([1, 1 << 22])


def test_anything_at_all_in_a_window_is_shown_in_bounds() -> None:
    chance = random.Random(6)
    raw = bytearray(chance.randbytes(1 << 20))
    for at in range(number("VBUS_POOL"), len(raw), number("VBUS_PAGE_SIZE")):
        raw[at : at + 4] = number("IOQ_MAGIC").to_bytes(4, "little")
        raw[at + 8 : at + 12] = (1 << chance.randrange(12)).to_bytes(4, "little")
    assert len(dump(bytes(raw))) < 1 << 20


@pytest.mark.parametrize("func", list(Call))
def test_the_data_of_calls_and_the_pool_are_not_shown(func: Call) -> None:
    raw = bytearray((SECRET * (1 << 16))[: 1 << 20])
    raw[: number("VBUS_POOL")] = bytes(number("VBUS_POOL"))
    for base in (number("VBUS_CALLS_NORTH"), number("VBUS_CALLS_SOUTH")):
        raw[base] = 1
        raw[base + 32 : base + 256] = bytes(40) + (SECRET * 9)[:184]
    raw[number("VBUS_CALLS_NORTH") + 4] = func
    text = dump(bytes(raw))
    assert f"call 0: 1 {func.name}, answered OK" in text
    pieces = [SECRET[at : at + 4] for at in range(len(SECRET) - 4)]
    shown = [piece for piece in pieces if piece.decode() in text or piece.hex() in text]
    assert shown + [piece for piece in pieces if piece[::-1].hex() in text] == []


def test_what_is_too_short_to_be_a_window_is_refused() -> None:
    with pytest.raises(VbuskitError, match="4096 bytes"):
        dump(bytes(4096))
