# SPDX-License-Identifier: MIT
"""The client library from Python, against a real vbusd."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.drivers import client as mirror
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.client import Call, Client, ClientError, Code, Stale
from vbuskit.drivers.host import Host, serving
from vbuskit.drivers.host_abi import Connector

CARD = UUID("5a4e6f7e-0000-4000-8000-000000000001")
MAC = "52:54:00:00:00:01"
DEADLINE_MS = 20_000
FRAME = bytes(6) + bytes(range(54))


@dataclass
class Rig:
    """A bus with one loopback card, and the library to speak to it."""

    host: Host
    library: Path
    path: Path

    def client(self) -> Client:
        return Client(self.library, self.path)


@pytest.fixture(scope="session")
def library() -> Path:
    return host_programs(Runner(), Places.from_environment())["libvbus_client.so"].path


@pytest.fixture(params=list(Connector), ids=lambda connector: connector.name)
def rig(library: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Over a socket, and over a folder."""
    if request.param is Connector.FILE:
        (tmp_path / "q").mkdir(0o700)
    vbusd = host_programs(Runner(), Places.from_environment())["vbusd"].path
    with serving(Runner(), vbusd, tmp_path / "s", output=tmp_path / "log"), Host(tmp_path / "s") as host:
        host.add_bus("vm", tmp_path / "q", connector=request.param, window_mib=1)
        host.add_device("vm", CARD, "venet-loopback", mac=MAC)
        yield Rig(host, library, tmp_path / "q")


def test_what_vbusd_has_is_in_the_list_and_in_its_status(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        assert [(entry.uuid, entry.type) for entry in client.devices()] == [(CARD, "venet")]
        assert rig.host.bus("vm").negotiated and rig.host.bus("vm").epoch == client.epoch


def test_the_pairs_of_rings_that_a_guest_uses_are_in_the_status(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        assert rig.host.device("vm", CARD).rings == 0
        client.venet(CARD)
        assert rig.host.device("vm", CARD).rings == 1 and rig.host.device("vm", CARD).running


def test_frames_come_back_in_order_with_their_contents(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        card = client.venet(CARD)
        for number in range(500):
            frame = FRAME + bytes([number & 255]) * (number % 1400)
            assert card.send(frame, DEADLINE_MS)
            assert card.receive(DEADLINE_MS) == frame
        assert rig.host.device("vm", CARD).counters["rx_frames"] == 500


def test_a_frame_of_a_length_that_no_wire_has_is_refused(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        card = client.venet(CARD)
        for size in (0, 13, 1523):
            with pytest.raises(ClientError) as refusal:
                card.send(bytes(size))
            assert refusal.value.code is Code.BAD_ARGUMENT


def test_a_device_answers_its_functions_and_is_open_once_only(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        handle = client.open(CARD)
        assert client.device_call(handle, 2).hex(":") == MAC
        with pytest.raises(ClientError, match="done already") as refusal:
            client.open(CARD)
        assert refusal.value.code is Code.BUSY
        client.close_device(handle)
        assert client.open(CARD) != handle


def test_a_call_that_the_host_does_not_know_is_its_status(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        with pytest.raises(ClientError) as refusal:
            client.call(99)
        assert refusal.value.code is Code.UNSUPPORTED


def test_a_region_is_shared_on_pages_of_the_pool_and_refused_elsewhere(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        handle = client.open(CARD)
        page = client.allocate(8)
        client.call(Call.DEVCALL, bytes((ctypes.c_uint32 * 4)(handle, 3, 1, 1)))  # the status region
        with pytest.raises(ClientError) as refusal:
            client.share(handle, 101, queue=2, south=0x5000, south_len=8)
        assert refusal.value.code is Code.INVALID
        assert client.share(handle, 101, queue=2, south=page, south_len=8) > 0


def test_a_pool_that_is_used_up_says_so_and_is_free_again(rig: Rig) -> None:
    with rig.client() as client:
        whole = (1 << 20) - 0x10000
        at = client.allocate(whole)
        with pytest.raises(ClientError, match="used up"):
            client.allocate(1)
        client.free(at, whole)
        assert client.allocate(whole) == at


def test_a_worker_that_died_is_noticed_and_the_card_is_opened_again(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        card = client.venet(CARD)
        before = client.epoch
        os.kill(rig.host.bus("vm").worker, signal.SIGKILL)
        with pytest.raises(Stale):
            while client.wait(DEADLINE_MS):
                pass
        client.negotiate()
        assert client.epoch != before
        card = client.venet(CARD)
        assert card.send(FRAME, DEADLINE_MS) and card.receive(DEADLINE_MS) == FRAME


def test_the_descriptor_is_readable_when_a_frame_came(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        card = client.venet(CARD)
        while client.wait(0) or card.receive(0):
            pass
        assert card.send(FRAME, DEADLINE_MS)
        assert select.select([client], [], [], DEADLINE_MS / 1000)[0] == [client]
        assert card.receive(DEADLINE_MS) == FRAME


def test_a_second_client_is_refused_and_the_first_goes_on(rig: Rig) -> None:
    with rig.client() as client:
        assert until(lambda: rig.host.bus("vm").connected, DEADLINE_MS / 1000)
        with pytest.raises(ClientError, match="serves somebody else") as refusal:
            rig.client()
        assert refusal.value.code is Code.REFUSED
        client.negotiate()


def test_the_end_of_the_bus_is_told(rig: Rig) -> None:
    with rig.client() as client:
        client.negotiate()
        rig.host.remove_bus("vm")
        with pytest.raises(ClientError) as end:
            while client.wait(DEADLINE_MS):
                pass
        assert end.value.code is Code.ENDED


def test_the_example_of_the_guide_compiles_and_gets_its_frame_back(rig: Rig, tmp_path: Path) -> None:
    example = re.search(r"```c\n(.*?)```", (ROOT / "docs/client.md").read_text(), re.DOTALL)
    assert example
    source, program = tmp_path / "example.c", tmp_path / "example"
    source.write_text(example[1])
    warnings = ["-Wall", "-Wextra", "-Werror", f"-Wl,-rpath,{rig.library.parent}"]
    Runner()(["gcc", "-std=gnu11", *warnings, *INCLUDE, source, rig.library, "-o", program])
    done = Runner().attempt([program, rig.path])
    assert (done.code, done.err) == (0, "done\n")


def test_where_nobody_listens_the_error_says_why(library: Path, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="No such file or directory"):
        Client(library, tmp_path / "nobody")


INCLUDE = [f"-I{ROOT / 'drivers' / name}" for name in ("include", "core", "client")]


def compile_c(lines: list[str], folder: Path) -> int:
    file = folder / "mirror.c"
    file.write_text("\n".join(['#include "vbus_client.h"', *lines]) + "\n")
    return Runner().attempt(["gcc", "-std=gnu11", "-fsyntax-only", "-Werror", *INCLUDE, file]).code


MIRRORED: dict[str, type[ctypes.Structure]] = {
    "vbus_device_entry": mirror.RawEntry,
    "vbus_call_reply": mirror.RawReply,
    "vbus_devshm_request": mirror.RawShare,
}


@pytest.mark.parametrize("tag", MIRRORED)
def test_the_compiler_agrees_with_every_offset_of_the_mirror(tag: str, tmp_path: Path) -> None:
    raw = MIRRORED[tag]
    lines = [
        f'_Static_assert(offsetof(struct {tag}, {name}) == {getattr(raw, name).offset}, "{name}");'
        for name, *_ in raw._fields_
    ]
    assert (
        compile_c([*lines, f'_Static_assert(sizeof(struct {tag}) == {ctypes.sizeof(raw)}, "");'], tmp_path)
        == 0
    )


C_NAMES = {Code.BAD_ARGUMENT: "VBUS_CLIENT_INVALID", Code.POOL_USED_UP: "VBUS_CLIENT_NO_SPACE"}


def c_name(code: Code) -> str:
    return C_NAMES.get(code, f"VBUS_{'STATUS' if code >= 0 else 'CLIENT'}_{code.name}")


def test_the_numbers_are_those_of_the_headers(tmp_path: Path) -> None:
    wanted = {c_name(code): code.value for code in Code}
    wanted |= {f"VBUS_CALL_{call.name}": call.value for call in Call}
    wanted |= {"VBUS_CALL_DATA": mirror.DATA, "VENET_FRAME_MAX": mirror.FRAME_MAX}
    assert (
        compile_c([f'_Static_assert({name} == {value}, "");' for name, value in wanted.items()], tmp_path)
        == 0
    )
    assert compile_c(['_Static_assert(VBUS_CLIENT_AGAIN == -2, "");'], tmp_path) != 0
