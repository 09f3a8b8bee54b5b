# SPDX-License-Identifier: MIT
"""A north without a guest: drivers/client/vbus_client.h, from Python, for tests, fuzzers and benches."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self
from uuid import UUID

from vbuskit.base.errors import VbuskitError

ENTRIES = 64  # of a device list; vbusd has 16 a bus
DATA = 224  # VBUS_CALL_DATA
FRAME_MAX = 65557  # VENET_FRAME_MAX
FOREVER = -1


class Call(IntEnum):
    """The calls of docs/protocol.md."""

    NEGOTIATE = 0
    QREG = 1
    ENUMERATE = 2
    DEVOPEN = 3
    DEVCLOSE = 4
    DEVCALL = 5
    DEVSHM = 6
    SIGROUTE = 7


class Code(IntEnum):
    """What vbus_client_*() return: the host's answers from 0 on, the library's own errors below."""

    OK = 0
    STALE = 1
    INVALID = 2
    NO_ENTRY = 3
    BUSY = 4
    VERSION = 5
    NO_SPACE = 6
    UNSUPPORTED = 7
    IO = 8
    AGAIN = -1
    BAD_ARGUMENT = -2
    SYSTEM = -3
    REFUSED = -4
    SILENT = -5
    ENDED = -6
    CORRUPT = -7
    POOL_USED_UP = -8


class ClientError(VbuskitError):
    """The host, the library or the system said no; `code` is the number, a `Code` when it is known."""

    def __init__(self, what: str, code: int, text: str) -> None:
        super().__init__(f"{what}: {text}")
        self.code = Code(code) if code in list(Code) else code


class Stale(ClientError):
    """The host lost the connection's state: negotiate, open and send again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One device of the list."""

    uuid: UUID
    type: str
    version: int
    instance: int


class RawEntry(ctypes.Structure):
    _fields_ = [
        ("uuid", ctypes.c_uint8 * 16),
        ("type", ctypes.c_char * 24),
        ("version", ctypes.c_uint32),
        ("instance", ctypes.c_uint32),
    ]


class RawReply(ctypes.Structure):
    _fields_ = [
        ("seq", ctypes.c_uint32),
        ("status", ctypes.c_uint16),
        ("len", ctypes.c_uint16),
        ("epoch", ctypes.c_uint64),
        ("nonce", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64),
        ("data", ctypes.c_uint8 * DATA),
    ]


class RawShare(ctypes.Structure):
    _fields_ = [
        ("handle", ctypes.c_uint32),
        ("region", ctypes.c_uint32),
        ("queue", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("north", ctypes.c_uint64),
        ("south", ctypes.c_uint64),
        ("north_len", ctypes.c_uint32),
        ("south_len", ctypes.c_uint32),
    ]


class Client:
    """One connection to a bus of vbusd, from `with` to its end; not for two threads at once.

    `library` is libvbus_client.so (`host_programs()` builds it), `path` what vbusd serves for QEMU.
    Every method may raise `ClientError`, `Stale` among them.
    """

    def __init__(self, library: Path, path: Path) -> None:
        self._library = ctypes.CDLL(str(library), use_errno=True)
        for name in ("size", "net_size"):
            getattr(self._library, f"vbus_client_{name}").restype = ctypes.c_size_t
        for name in ("epoch", "alloc"):
            getattr(self._library, f"vbus_client_{name}").restype = ctypes.c_uint64
        self._library.vbus_client_text.restype = ctypes.c_char_p
        self._state = ctypes.create_string_buffer(self._library.vbus_client_size())
        self._path = path
        self._ask(f"{path}: no connection", "connect", os.fsencode(path))

    def close(self) -> None:
        self._library.vbus_client_close(self._state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when `wait(0)` has something to do; it has said False once before that counts."""
        return int(self._library.vbus_client_fd(self._state))

    @property
    def epoch(self) -> int:
        """As the window tells it now."""
        return int(self._library.vbus_client_epoch(self._state))

    def negotiate(self) -> None:
        """A new connection to the south: whatever was open is open no more."""
        self._ask("negotiate", "negotiate")

    def wait(self, ms: int = FOREVER) -> bool:
        """Sleep until a doorbell rings, at most `ms`; False: none did."""
        return self._ask("wait", "wait", ms) != Code.AGAIN

    def call(self, func: int, data: bytes = b"") -> bytes:
        """Any call, posted as it is: at most 224 bytes each way."""
        reply = RawReply()
        self._ask(f"call {func}", "call_raw", func, data, len(data), ctypes.byref(reply))
        return bytes(reply.data)[: reply.len]

    def devices(self) -> list[Entry]:
        """The whole list, of one generation."""
        raw, count = (RawEntry * ENTRIES)(), ctypes.c_uint32()
        self._ask("devices", "devices", raw, ENTRIES, ctypes.byref(count))
        return [
            Entry(UUID(bytes=bytes(entry.uuid)), entry.type.decode(), entry.version, entry.instance)
            for entry in raw[: count.value]
        ]

    def open(self, uuid: UUID, version: int = 1) -> int:
        """A device's handle."""
        handle = ctypes.c_uint32()
        self._ask(f"device {uuid}", "dev_open", uuid.bytes, version, ctypes.byref(handle), None)
        return handle.value

    def close_device(self, handle: int) -> None:
        self._ask(f"handle {handle:#x}", "dev_close", handle)

    def device_call(self, handle: int, func: int, data: bytes = b"") -> bytes:
        """A function of the device's type: at most 216 bytes, and 224 back."""
        return self.call(Call.DEVCALL, bytes((ctypes.c_uint32 * 2)(handle, func)) + data)

    def allocate(self, size: int) -> int:
        """A window offset of `size` bytes in whole pages."""
        at = int(self._library.vbus_client_alloc(self._state, ctypes.c_uint64(size)))
        if not at:
            raise self._error(f"{size} bytes", Code.POOL_USED_UP)
        return at

    def free(self, at: int, size: int) -> None:
        self._library.vbus_client_free(self._state, ctypes.c_uint64(at), ctypes.c_uint64(size))

    def share(
        self,
        handle: int,
        region: int,
        *,
        queue: int,
        north: int = 0,
        north_len: int = 0,
        south: int = 0,
        south_len: int = 0,
    ) -> int:
        """Share parts of the pool with a device (offsets and bytes); the region's signal."""
        signal = ctypes.c_uint32()
        raw = RawShare(handle, region, queue, 0, north, south, north_len, south_len)
        self._ask(f"region {region}", "share", ctypes.byref(raw), ctypes.byref(signal))
        return signal.value

    def venet(self, uuid: UUID) -> Venet:
        """Open an Ethernet device, link up."""
        state = ctypes.create_string_buffer(self._library.vbus_client_net_size())
        self._ask(f"device {uuid}", "net_open", state, uuid.bytes)
        return Venet(self, state)

    def _ask(self, what: str, name: str, *arguments: object) -> int:
        """0 or AGAIN; anything else is an error."""
        return self.judge(what, getattr(self._library, f"vbus_client_{name}")(self._state, *arguments))

    def judge(self, what: str, code: int) -> int:
        if code in (Code.OK, Code.AGAIN):
            return code
        raise self._error(what, code)

    def _error(self, what: str, code: int) -> ClientError:
        text = str(self._library.vbus_client_text(code).decode())
        if code == Code.SYSTEM:
            text += f" ({os.strerror(ctypes.get_errno())})"
        kind = Stale if code == Code.STALE else ClientError
        return kind(what, code, text)


class Venet:
    """An open Ethernet device of a `Client`; void when that one negotiates again."""

    def __init__(self, client: Client, state: ctypes.Array[ctypes.c_char]) -> None:
        self._client, self._state = client, state
        self._room = ctypes.create_string_buffer(FRAME_MAX)

    def close(self) -> None:
        self._client.judge("close", self._client._library.vbus_client_net_close(self._state))

    def send(self, frame: bytes, ms: int = FOREVER) -> bool:
        """One frame of 14 bytes to the MTU's and 22; False: no room within `ms`."""
        send = self._client._library.vbus_client_net_send
        while self._client.judge("send", send(self._state, frame, len(frame), ctypes.c_bool(False))):
            if not self._client.wait(ms):
                return False
        return True

    def receive(self, ms: int = FOREVER) -> bytes | None:
        """The next frame; None: none within `ms` of the last doorbell."""
        receive, length = self._client._library.vbus_client_net_receive, ctypes.c_uint32()
        while self._client.judge("receive", receive(self._state, self._room, ctypes.byref(length))):
            if not self._client.wait(ms):
                return None
        return self._room.raw[: length.value]
