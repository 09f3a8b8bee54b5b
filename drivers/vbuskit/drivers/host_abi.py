# SPDX-License-Identifier: MIT
"""The messages of drivers/host/vbusd_abi.h as ctypes structures; a test has the compiler compare them."""

from __future__ import annotations

import ctypes
from enum import IntEnum

VERSION = 1
QUEUES = 32
BUS_VERSION = 1  # of the bridge
WINDOW_MIB = (1, 256)
VECTORS = (8, 32)
MTU_USUAL = 1500  # bytes; of a card that does not tell its guest
GROUPS = 8
ALL_DEVICES = 1
LINK_DOWN = 2
READ_ONLY = 4
HELD = 8
FENCED = 16
# enum vbus_sandbox, from its lowest bit on.
SANDBOX = ("user", "pid", "mount", "net", "ipc", "uts", "cgroup", "landlock", "seccomp")


class Op(IntEnum):
    BUS_ADD = 1
    BUS_REMOVE = 2
    DEVICE_ADD = 3
    DEVICE_REMOVE = 4
    MASK = 5
    LINK = 6
    BUS_STATUS = 7
    DEVICE_STATUS = 8
    RESIZE = 9
    CLASS_STATUS = 10
    CLASS_ADD = 11
    CLASS_REMOVE = 12
    RENEW = 13
    WATCH = 14
    END = 15
    RELEASE = 16
    START = 17


class Connector(IntEnum):
    IVSHMEM = 0
    FILE = 1


class Result(IntEnum):
    OK = 0
    MALFORMED = 1
    NO_ENTRY = 2
    EXISTS = 3
    RANGE = 4
    UNKNOWN = 5
    FULL = 6
    SYSTEM = 7
    BUSY = 8
    EVENT = 255


class EventKind(IntEnum):
    BUS_ADDED = 1
    BUS_REMOVED = 2
    DEVICE_ADDED = 3
    DEVICE_REMOVED = 4
    MASK_CHANGED = 5
    LINK_CHANGED = 6
    QEMU_CONNECTED = 7
    QEMU_GONE = 8
    WORKER_STARTED = 9
    WORKER_DIED = 10
    BUS_HELD = 11
    BUS_STARTED = 12


class Backend(IntEnum):
    """What vbusd opens for a device; the argument of its class names it."""

    NONE = 0
    TAP = 1
    SOCKET = 2
    IMAGE = 3


class Mask(ctypes.Structure):
    _fields_ = [
        ("gid", ctypes.c_uint32),
        ("bits", ctypes.c_uint32),
    ]


class Request(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint32),
        ("op", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("window_mib", ctypes.c_uint32),
        ("vectors", ctypes.c_uint32),
        ("mask", Mask * GROUPS),
        ("uuid", ctypes.c_uint8 * 16),
        ("mac", ctypes.c_uint8 * 8),
        ("bus", ctypes.c_char * 32),
        ("klass", ctypes.c_char * 24),
        ("argument", ctypes.c_char * 108),
        ("connector", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("serial", ctypes.c_char * 20),
        ("mtu", ctypes.c_uint32),
    ]


class Reply(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
        ("text", ctypes.c_char * 160),
    ]


class EventMessage(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("group", ctypes.c_uint32),
        ("value", ctypes.c_uint32),
        ("uuid", ctypes.c_uint8 * 16),
        ("bus", ctypes.c_char * 32),
        ("text", ctypes.c_char * 108),
    ]


class QueueCounters(ctypes.Structure):
    _fields_ = [
        ("events", ctypes.c_uint64),
        ("qnotify", ctypes.c_uint64),
        ("qinject", ctypes.c_uint64),
        ("notify", ctypes.c_uint64),
        ("inject", ctypes.c_uint64),
        ("coalesced", ctypes.c_uint64),
    ]


class QueueStatus(ctypes.Structure):
    _fields_ = [
        ("priority", ctypes.c_uint32),
        ("signals", ctypes.c_uint32),
        ("coalesce_events", ctypes.c_uint32),
        ("coalesce_us", ctypes.c_uint32),
    ]


class BusCounters(ctypes.Structure):
    _fields_ = [
        ("negotiations", ctypes.c_uint64),
        ("buscalls", ctypes.c_uint64),
        ("bridgecalls", ctypes.c_uint64),
        ("stale", ctypes.c_uint64),
        ("violations", ctypes.c_uint64),
        ("ignored", ctypes.c_uint64),
        ("foreign", ctypes.c_uint64),
        ("queue", QueueCounters * QUEUES),
    ]


class BusStatus(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * 32),
        ("path", ctypes.c_char * 108),
        ("window_mib", ctypes.c_uint32),
        ("vectors", ctypes.c_uint32),
        ("devices", ctypes.c_uint32),
        ("connected", ctypes.c_uint32),
        ("negotiated", ctypes.c_uint32),
        ("confirmed", ctypes.c_uint32),
        ("worker", ctypes.c_int32),
        ("restarts", ctypes.c_uint32),
        ("sessions", ctypes.c_uint32),
        ("handovers", ctypes.c_uint32),
        ("sandbox", ctypes.c_uint32),
        ("epoch", ctypes.c_uint64),
        ("nonce", ctypes.c_uint64),
        ("counters", BusCounters),
        ("takeovers", ctypes.c_uint32),
        ("lost", ctypes.c_uint32),
        ("connector", ctypes.c_uint32),
        ("held", ctypes.c_uint32),
        ("queue", QueueStatus * QUEUES),
    ]


class GroupStatus(ctypes.Structure):
    _fields_ = [
        ("gid", ctypes.c_uint32),
        ("offered", ctypes.c_uint32),
        ("active", ctypes.c_uint32),
        ("masked", ctypes.c_uint32),
    ]


class DeviceCounters(ctypes.Structure):
    _fields_ = [
        ("opens", ctypes.c_uint64),
        ("violations", ctypes.c_uint64),
        ("rx_frames", ctypes.c_uint64),
        ("rx_bytes", ctypes.c_uint64),
        ("tx_frames", ctypes.c_uint64),
        ("tx_bytes", ctypes.c_uint64),
        ("drops", ctypes.c_uint64),
        ("reads", ctypes.c_uint64),
        ("read_bytes", ctypes.c_uint64),
        ("writes", ctypes.c_uint64),
        ("write_bytes", ctypes.c_uint64),
        ("flushes", ctypes.c_uint64),
        ("discards", ctypes.c_uint64),
        ("errors", ctypes.c_uint64),
        ("in_flight", ctypes.c_uint64),
        ("filtered", ctypes.c_uint64),
    ]


class DeviceStatus(ctypes.Structure):
    _fields_ = [
        ("uuid", ctypes.c_uint8 * 16),
        ("klass", ctypes.c_char * 24),
        ("argument", ctypes.c_char * 108),
        ("mac", ctypes.c_uint8 * 8),
        ("state", ctypes.c_uint32),
        ("link", ctypes.c_uint32),
        ("running", ctypes.c_uint32),
        ("groups", ctypes.c_uint32),
        ("mtu", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("serial", ctypes.c_char * 20),
        ("reserved", ctypes.c_uint32),
        ("group", GroupStatus * GROUPS),
        ("counters", DeviceCounters),
    ]


class ClassStatus(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * 24),
        ("type", ctypes.c_char * 24),
        ("path", ctypes.c_char * 108),
        ("version", ctypes.c_uint32),
        ("backend", ctypes.c_uint32),
        ("devices", ctypes.c_uint32),
        ("feature", Mask * GROUPS),
        ("rings", ctypes.c_uint32),
        ("mtu", ctypes.c_uint32),
        ("segments", ctypes.c_uint32),
    ]


# The C name of each; what the test goes through.
MIRRORED: dict[str, type[ctypes.Structure]] = {
    "vbus_mask": Mask,
    "vbusd_request": Request,
    "vbusd_reply": Reply,
    "vbusd_event_message": EventMessage,
    "vbusd_queue_counters": QueueCounters,
    "vbusd_queue_status": QueueStatus,
    "vbusd_bus_counters": BusCounters,
    "vbusd_bus_status": BusStatus,
    "vbusd_group_status": GroupStatus,
    "vbusd_device_counters": DeviceCounters,
    "vbusd_device_status": DeviceStatus,
    "vbusd_class_status": ClassStatus,
}
