# SPDX-License-Identifier: MIT
"""Small images written by hand, byte by byte, for tests that break one thing of them at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from vbuskit.base.cpio import CRC, NEWC, TRAILER

FOLDER, FILE, LINK = 0o040755, 0o100644, 0o120777
RELEASE = "6.1.0-56-cloud-amd64"
VERMAGIC = "SMP preempt mod_unload modversions"


def entry(
    name: str, body: bytes = b"", mode: int = FILE, *, inode: int = 0, links: int = 1, crc: bool = False
) -> bytes:
    """One entry of a cpio archive, newc or crc."""
    raw = name.encode() + b"\0"
    checksum = sum(body) if crc else 0
    fields = (inode, mode, 0, 0, links, 0, len(body), 0, 0, 0, 0, len(raw), checksum)
    head = (CRC if crc else NEWC) + b"".join(b"%08x" % field for field in fields)
    return padded(padded(head + raw) + body)


def padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def archive(entries: Iterable[bytes], *, trailer: bool = True) -> bytes:
    return b"".join(entries) + (entry(TRAILER) if trailer else b"")


def tree(files: Mapping[str, bytes | str], *, crc: bool = False) -> bytes:
    """An archive of files (bytes) and symbolic links (text), with an entry for every folder."""
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents} - {"."}
    links = {name: body for name, body in files.items() if isinstance(body, str)}
    plain = {name: body for name, body in files.items() if isinstance(body, bytes)}
    return archive(
        [
            *(entry(name, mode=FOLDER, crc=crc) for name in sorted(folders - links.keys())),
            *(entry(name, target.encode(), LINK) for name, target in links.items()),
            *(entry(name, body, crc=crc) for name, body in plain.items()),
        ]
    )


def module(**fields: str) -> bytes:
    """An ELF file that has little more than the section .modinfo; aliases are told apart by a digit."""
    info = b"".join(f"{key.rstrip('0123456789')}={value}".encode() + b"\0" for key, value in fields.items())
    names = b"\0.modinfo\0.shstrtab\0"
    headers = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)
        for name, kind, offset, size in (
            (0, 0, 0, 0),
            (1, 1, 64, len(info)),
            (10, 3, 64 + len(info), len(names)),
        )
    )
    table = 64 + len(info) + len(names)
    # e_type 1: relocatable; e_machine 62: x86-64
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    return head + info + names + headers


def modules(release: str = RELEASE) -> dict[str, bytes]:
    """Our three, as far as modprobe looks at them."""
    vermagic = f"{release} {VERMAGIC}"
    return {
        "vbus": module(
            name="vbus", depends="", vermagic=vermagic, alias="pci:v00001AF4d00001110sv*sd*bc*sc*i*"
        ),
        "vblk": module(name="vblk", depends="vbus", vermagic=vermagic, alias="vbus:vblk"),
        "venet": module(name="venet", depends="vbus", vermagic=vermagic, alias="vbus:venet"),
    }


def files(release: str = RELEASE) -> dict[str, bytes | str]:
    """Files of an image of initramfs-tools that reaches its root disk, with usr/lib behind lib."""
    below = f"usr/lib/modules/{release}"
    rules = Path(__file__).parents[2] / "udev/61-vblk.rules"
    return {
        "lib": "usr/lib",
        "conf/initramfs.conf": b"MODULES=most\n",
        "conf/modules": b"# none\n",
        "usr/lib/systemd/systemd-udevd": b"\x7fELF",
        "usr/lib/udev/rules.d/80-drivers.rules": b"# kmod\n",
        "usr/lib/udev/rules.d/61-vblk.rules": rules.read_bytes(),
        **{f"{below}/updates/{name}.ko": raw for name, raw in modules(release).items()},
        f"{below}/modules.dep": (
            b"updates/vbus.ko:\nupdates/vblk.ko: updates/vbus.ko\nupdates/venet.ko: updates/vbus.ko\n"
        ),
        f"{below}/modules.alias": (
            b"# Aliases\nalias pci:v00001AF4d00001110sv*sd*bc*sc*i* vbus\n"
            b"alias vbus:vblk vblk\nalias vbus:venet venet\n"
        ),
    }
