# SPDX-License-Identifier: MIT
"""What modprobe reads: kernel modules, compressed or not, and the indexes that depmod writes about them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import PurePosixPath

from vbuskit.base.errors import Refused
from vbuskit.initrd.unpack import Stream, unpacked

SUFFIXES = {".ko": None, ".ko.gz": b"\x1f\x8b", ".ko.xz": b"\xfd\x37", ".ko.zst": b"\x28\xb5"}
MODULE = 64 << 20  # bytes of a module, unpacked
MARKER = b"~Module signature appended~\n"  # include/linux/module_signature.h

ELF64 = b"\x7fELF\x02\x01"  # little-endian
SECTION = struct.Struct("<IIQQQQIIQQ")

# libkmod's index: numbers are big-endian; the high bits of a node's offset say what the node has.
INDEX_MAGIC, INDEX_VERSION = 0xB007F457, 2
PREFIX, VALUES, CHILDREN = 0x80000000, 0x40000000, 0x20000000
OFFSET = 0x0FFFFFFF
NODES = 1_000_000  # of a tree; that of all modules of a distribution has 50000
KEY = 4096


def suffix(path: str) -> str | None:
    """One of SUFFIXES, or None where `path` names no module."""
    name = PurePosixPath(path).name
    return next((each for each in SUFFIXES if name.endswith(each)), None)


def module_name(path: str) -> str:
    """As the kernel writes it: without folder and suffix, and with _ for -."""
    name = PurePosixPath(path).name
    return name.removesuffix(suffix(path) or "").replace("-", "_")


def unpacked_module(path: str, raw: bytes) -> bytes:
    """The module as the kernel gets it; Refused when it is damaged, or no kernel could unpack it."""
    kind = suffix(path)
    magic = SUFFIXES[kind] if kind else None
    if magic is None:
        return raw
    if not raw.startswith(magic):
        raise Refused(f"is not what {kind} says")
    parts, size = [], 0
    for part in unpacked(magic, Stream(iter([raw]))):
        parts.append(part)
        size += len(part)
        if size > MODULE:
            raise Refused(f"unpacks to more than {MODULE >> 20} MiB")
    return b"".join(parts)


def is_signed(module: bytes) -> bool:
    return module.endswith(MARKER)


def modinfo(module: bytes) -> dict[str, list[str]]:
    """The section .modinfo of an ELF file: vermagic, depends, alias and so on, each with all its values."""
    if not module.startswith(ELF64):
        raise Refused("is no kernel module: no ELF header of a 64-bit, little-endian machine")
    try:
        section = modinfo_section(module)
    except struct.error:
        raise Refused("is cut off") from None
    found: dict[str, list[str]] = {}
    for line in section.split(b"\0"):
        key, equals, value = line.decode(errors="backslashreplace").partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def modinfo_section(module: bytes) -> bytes:
    """Sections of an ELF file: a table at e_shoff, their names in the section e_shstrndx."""
    (table,) = struct.unpack_from("<Q", module, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", module, 0x3A)
    if size < SECTION.size:
        raise Refused("is no kernel module: its sections have no headers")
    headers = [SECTION.unpack_from(module, table + size * number) for number in range(count)]
    if names_at >= count:
        raise Refused("is no kernel module: its sections have no names")
    names = headers[names_at][4]
    for name, _, _, _, offset, length, *_ in headers:
        if module[names + name : names + name + 9] == b".modinfo\0":
            if offset + length > len(module):
                raise Refused("is cut off")
            return module[offset : offset + length]
    raise Refused("is no kernel module: it has no .modinfo")


def index(raw: bytes) -> Iterator[tuple[str, str]]:
    """(key, value) of modules.dep.bin or modules.alias.bin; Refused when the file is damaged."""
    try:
        magic, version, root = struct.unpack_from(">III", raw)
        if magic != INDEX_MAGIC or version >> 16 != INDEX_VERSION:
            raise Refused("is no index of modules")
        yield from index_nodes(raw, root)
    except (struct.error, ValueError):
        raise Refused("is damaged or cut off") from None


def index_nodes(raw: bytes, root: int) -> Iterator[tuple[str, str]]:
    stack, seen = [("", root)], set[int]()
    while stack:
        key, node = stack.pop()
        at = node & OFFSET
        if at in seen or len(seen) + len(stack) > NODES or len(key) > KEY:
            raise Refused("is damaged: no tree, or one without end")
        seen.add(at)
        if node & PREFIX:
            key, at = key + text(raw, at), raw.index(0, at) + 1
        if node & CHILDREN:
            first, last = struct.unpack_from("BB", raw, at)
            children = struct.unpack_from(f">{max(last - first + 1, 0)}I", raw, at + 2)
            stack += [(key + chr(first + place), child) for place, child in enumerate(children) if child]
            at += 2 + 4 * len(children)
        if node & VALUES:
            (count,) = struct.unpack_from(">I", raw, at)
            at += 4
            for _ in range(count):
                yield key, text(raw, at + 4)  # after the priority
                at = raw.index(0, at + 4) + 1


def text(raw: bytes, at: int) -> str:
    return raw[at : raw.index(0, at)].decode(errors="backslashreplace")


def dependencies(lines: Iterator[str]) -> dict[str, list[str]]:
    """modules.dep: module name -> its own path, then the paths of what it needs."""
    found = {}
    for line in lines:
        path, colon, needs = line.partition(":")
        if colon:
            found[module_name(path)] = [path, *needs.split()]
    return found


def aliases(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """modules.alias: (pattern, module name)."""
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            yield words[1], words[2].replace("-", "_")
