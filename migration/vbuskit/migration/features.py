# SPDX-License-Identifier: MIT
"""Names of feature bits, and which bits need others: drivers/include/*_abi.h; a test compares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

GROUPS: Mapping[str, Mapping[int, str]] = {
    "venet": {0: "sg", 1: "eventq", 2: "l4ro", 3: "config"},
    "vblk": {1: "commands", 3: "config"},
}
OFFLOADS: Mapping[int, str] = {0x1: "csum", 0x2: "tso4", 0x4: "tso6", 0x8: "ecn", 0x40: "uso"}
BITS: Mapping[tuple[str, int], Mapping[int, str]] = {
    ("venet", 0): OFFLOADS,
    ("venet", 1): {0x1: "linkstate"},
    ("venet", 2): OFFLOADS,
    ("venet", 3): {0x1: "mtu", 0x2: "pairs", 0x4: "rxmode"},
    ("vblk", 1): {0x1: "flush", 0x2: "discard", 0x4: "zeroes"},
    ("vblk", 3): {0x1: "resize", 0x2: "queues"},
}
CSUM, TSO4, TSO6, ECN = 0x1, 0x2, 0x4, 0x8
OFFLOAD_GROUPS = (("venet", 0), ("venet", 2))


def each_bit(bits: int) -> Iterator[int]:
    """The numbers that have one of these bits, from the lowest."""
    while bits:
        yield bits & -bits
        bits &= bits - 1


def bit_name(kind: str, group: int, bit: int) -> str:
    """`venet sg.tso4`; what has no name yet is named by number: `venet group 3 bit 0x80`."""
    group_name, name = GROUPS.get(kind, {}).get(group), BITS.get((kind, group), {}).get(bit)
    return f"{kind} {group_name}.{name}" if group_name and name else f"{kind} group {group} bit {bit:#x}"


def whole(kind: str, group: int, bits: int) -> int:
    """Those that can be active: a bit that needs another one is not offered without it."""
    if (kind, group) not in OFFLOAD_GROUPS:
        return bits
    if not bits & CSUM:
        return 0
    return bits if bits & (TSO4 | TSO6) else bits & ~ECN


def needs(kind: str, group: int, bit: int) -> int:
    """The bits that it is not offered without; of TSO4 and TSO6 one is enough for ECN."""
    if (kind, group) not in OFFLOAD_GROUPS or bit == CSUM:
        return 0
    return CSUM | TSO4 | TSO6 if bit == ECN else CSUM
