# SPDX-License-Identifier: MIT
"""What modprobe reads: kernel modules, compressed or not, and the indexes that depmod writes about them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from vbuskit.base.errors import Refused
from vbuskit.base.unpack import METHODS, Budget, whole

SUFFIXES = {".ko": None, ".ko.gz": b"\x1f\x8b", ".ko.xz": b"\xfd\x37", ".ko.zst": b"\x28\xb5"}
MODULE = 64 << 20  # bytes of a module, unpacked
MARKER = b"~Module signature appended~\n"  # include/linux/module_signature.h

ELF64 = b"\x7fELF\x02\x01"  # little-endian
SECTION = struct.Struct("<IIQQQQIIQQ")

# libkmod's index: numbers are big-endian; the high bits of a node's offset say what the node has.
INDEX_MAGIC, INDEX_VERSION = 0xB007F457, 2
PREFIX, VALUES, CHILDREN = 0x80000000, 0x40000000, 0x20000000
OFFSET = 0x0FFFFFFF
KEY = 4096

MODINFO = 1 << 20  # bytes; of Debian's modules, the largest has 50 KiB
PATTERN = 256  # characters of an alias
PATTERNS = 2_000  # that begin as one device's modalias does; Debian has 200
LITERAL = re.compile(r"[^*?\[]*")


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
    return whole(METHODS[magic][1], raw, MODULE)


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
            if length > MODINFO:
                raise Refused(f"has more than {MODINFO >> 20} MiB of .modinfo, so it is no kernel module")
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
    """No byte belongs to two nodes, so that reading all of them reads no more bytes than there are."""
    budget = Budget(len(raw) - 12, "is damaged: no tree, or one without end")
    stack = [("", iter([(0, root)]))]
    while stack:
        before, nodes = stack[-1]
        step, node = next(nodes, (0, 0))
        if not node:
            stack.pop()
            continue
        key, at = before + chr(step) * bool(step), node & OFFSET
        if node & PREFIX:
            prefix = text(raw, at, budget)
            key, at = key + prefix, raw.index(0, at) + 1
        if len(key) > KEY:
            raise Refused("is damaged: a key without end")
        if node & CHILDREN:
            first, last = struct.unpack_from("BB", raw, at)
            count = max(last - first + 1, 0)
            budget.spend(2 + 4 * count)
            children = struct.unpack_from(f">{count}I", raw, at + 2)
            stack.append((key, iter([(first + n, child) for n, child in enumerate(children) if child])))
            at += 2 + 4 * count
        if node & VALUES:
            (count,) = struct.unpack_from(">I", raw, at)
            budget.spend(4)
            at += 4
            for _ in range(count):
                yield key, text(raw, at + 4, budget)  # after the priority
                at = raw.index(0, at + 4) + 1


def text(raw: bytes, at: int, budget: Budget) -> str:
    end = raw.index(0, at)
    budget.spend(end - at + 1)
    return raw[at:end].decode(errors="backslashreplace")


def dependencies(lines: Iterator[str], names: Iterable[str]) -> dict[str, list[str]]:
    """modules.dep, as far as it is about `names`: name -> the module's path, then those of what it needs."""
    found = {}
    for line in lines:
        path, colon, needs = line.partition(":")
        if colon and (name := module_name(path)) in names:
            found[name] = [path, *needs.split()]
    return found


def fitting(aliases: Iterable[tuple[str, str]], modalias: str) -> Iterator[str]:
    """Names of the modules one of whose patterns the modalias fits."""
    budget = Budget(PATTERNS, f"has more than {PATTERNS} aliases that begin like {modalias}")
    for pattern, module in aliases:
        literal = LITERAL.match(pattern)
        if literal and len(pattern) <= PATTERN and modalias.startswith(literal[0]):
            budget.spend(1)
            if fnmatchcase(modalias, pattern):
                yield module


def aliases(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """modules.alias: (pattern, module name)."""
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            yield words[1], words[2].replace("-", "_")
