# SPDX-License-Identifier: MIT
"""What a host offers and what a guest consumes: the two JSON documents that the gate judges.

Their schema is published as docs/schema/{host,guest}-profile.json, which a test makes from these classes.
A field that this release does not know, at any depth, is kept in `unknown` by its JSON path, and
writing.py puts it back there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

SCHEMA = 1  # raise it when a document restricts what an older reader would let pass
EMULATED = "tcg:"  # before a CPU model that QEMU runs without KVM

# What msgspec does not check stands in the schema alone, and decoding.py checks it, and more: numbers beyond
# 63 bits, text that cannot be shown.
SHOWN = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
Bits = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF, description="Feature bits.")]
Wide = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": 0xFFFF_FFFF_FFFF_FFFF})]
Name = Annotated[str, Meta(min_length=1, max_length=256, extra_json_schema=SHOWN)]
Text = Annotated[str, Meta(max_length=4096, extra_json_schema=SHOWN)]  # as long as a path may be
Count = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Groups = Annotated[
    dict[Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)], Bits],
    Meta(
        max_length=8,
        description="Feature bits by the number of their group.",
        extra_json_schema={"propertyNames": {"pattern": "^(0|[1-9][0-9]*)$"}},
    ),
]
Limits = Annotated[
    dict[Name, Count],
    Meta(description="`pairs`, `queues`, `mtu` (bytes), `segments`: at most, or what is counted on."),
]
Masks = Annotated[
    dict[UUID, Groups],
    Meta(
        description="Feature bits that the administrator takes from single devices, by UUID.",
        extra_json_schema={"propertyNames": {"format": "uuid"}},
    ),
]
Schema = Annotated[int, Meta(ge=1, le=SCHEMA)]
# Not written as such: each stands in a file where it was found, which is its JSON path here.
Unknown = Annotated[
    dict[str, Any],
    Meta(
        description="Empty: a field that a reader does not know stands where it belongs.",
        extra_json_schema={"maxProperties": 0},
    ),
]


class DeviceClass(Struct, frozen=True, kw_only=True):
    """A device class of a host. `groups`: feature bits by group as the class has them, before any mask."""

    name: Name
    type: Name
    version: Count
    groups: Groups = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)


class Image(Struct, frozen=True, kw_only=True):
    """A disk's image that a host reaches. `lock` is how it is held: `none` keeps nobody out.

    `shared`: one and the same file at all hosts that name the same `path`; a lock on a local file is local.
    size and block_size: bytes; a block_size is the smallest logical block that it can be read by, 0: any
    """

    path: Annotated[Text, Meta(min_length=1)]
    size: Wide = 0
    writable: bool = True
    shared: bool = False
    lock: Literal["ofd", "local", "none"] = "ofd"
    block_size: Count = 0


class HostBus(Struct, frozen=True, kw_only=True):
    """The bridge. `features`: its bits in NEGOTIATE; windows in MiB, powers of two.

    rom: bytes of the bar that its option ROM gets when nobody says a romsize; 0: it has none
    """

    version: Count
    features: Wide = 0
    connectors: tuple[Name, ...] = ("ivshmem",)
    window_min: Count = 1
    window_max: Count = 256
    vectors_min: Count = 8
    vectors_max: Count = 32
    queues_max: Count = 32
    rom: Count = 0


class HostProfile(Struct, frozen=True, kw_only=True, tag_field="kind", tag="host"):
    """A host. `machines`: canonical machine types; `cpus`: models that its QEMU can run here.

    mask:     feature bits by type and group that the administrator takes from every device
    masks:    the same of single devices, by UUID
    networks: what a card's back end may name here (taps that are up, sockets)
    held:     those of them that a device here has open, by the device's UUID: nobody else can
    unknown:  JSON paths of fields that this release does not know, with their values
    """

    schema: Schema
    identity: UUID
    name: Name
    release: Name
    captured: Name
    arch: Name
    qemu: Name
    libvirt: Name
    bus: HostBus
    machines: tuple[Name, ...] = ()
    cpus: tuple[Name, ...] = ()
    classes: tuple[DeviceClass, ...] = ()
    mask: dict[Name, Groups] = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)
    networks: tuple[Name, ...] = ()
    held: dict[Name, UUID] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    unknown: Unknown = field(default_factory=dict)


class GuestDevice(Struct, frozen=True, kw_only=True):
    """A device of a guest. `active`: feature bits by group, agreed on; none when it is closed.

    `backend` is what its class stands on: an interface, a socket, an image's path.
    `limits` are those that the guest counts on: its MTU in bytes, its rings. capacity: bytes
    """

    uuid: UUID
    type: Name
    version: Count
    klass: Name = field(name="class")
    is_open: bool = field(name="open", default=False)
    active: Groups = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)
    backend: Text = ""
    mac: Text = ""
    read_only: bool = False
    block_size: Count = 0
    capacity: Wide = 0
    serial: Text = ""


class GuestBus(Struct, frozen=True, kw_only=True):
    """The bridge as the guest has it. name: that vbusd knows it by; none: the guest's own.

    window in MiB; rom: bytes of the option ROM's bar, 0: none.

    romsize: its domain says that size, so that the file may be smaller
    master: how its domain says master=on: <qemu:override>, or -global in <qemu:commandline>
    """

    version: Count
    features: Wide = 0
    name: Text = ""
    connector: Name = "ivshmem"
    window: Count
    vectors: Count
    queues: Count = 0
    rom: Count = 0
    romsize: bool = False
    master: Literal["override", "global"] = "override"


class GuestProfile(Struct, frozen=True, kw_only=True, tag_field="kind", tag="guest"):
    """A guest. `host`, `host_name`: of the one that it runs on; `drivers`: versions by name, as it says."""

    schema: Schema
    identity: UUID
    name: Name
    release: Name
    captured: Name
    host: UUID | None = None
    host_name: Text = ""
    arch: Name
    machine: Name
    cpu: Name
    bus: GuestBus
    drivers: dict[Name, Name] = field(default_factory=dict)
    devices: tuple[GuestDevice, ...] = ()
    unknown: Unknown = field(default_factory=dict)
