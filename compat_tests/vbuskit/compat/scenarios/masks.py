# SPDX-License-Identifier: MIT
"""Every feature bit of a card and of a disk masked in turn, and pairwise: each works without them.

Which bits there are is what is offered where nothing is masked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card, Features, groups
from vbuskit.compat.cells import Cell
from vbuskit.compat.disks import MIB, Disk, Plugged, plugged, sysfs
from vbuskit.compat.pairs import cover
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import bring_up, exchange

CARD = Card(name="masks", number=7)
DISK = Disk(name="masks", number=7, mib=8)
SIZE = MIB
PLAIN = 1514  # bytes of the longest frame that nobody has to segment
SG, TSO = 0, 0x2  # venet_abi.h: segments of TCP over IPv4

Bit = tuple[int, int]  # a group, and a number that has this one bit
Mask = dict[int, int]  # bits by group

# Written past the page cache and read back so; then zeroes over the first half, and all of it given back.
WRITES = """
set -e
head -c {size} /dev/urandom >/dev/shm/masks
dd if=/dev/shm/masks of=/dev/{node} bs=256K oflag=direct conv=fsync status=none
dd if=/dev/{node} bs=256K count={size} iflag=direct,count_bytes status=none | cmp - /dev/shm/masks
sha256sum </dev/shm/masks
rm /dev/shm/masks
"""
ZEROES = """
set -e
blkdiscard -z -l {half} /dev/{node}
cmp -n {half} /dev/{node} /dev/zero
blkdiscard /dev/{node} 2>/dev/null || [ "$(cat /sys/block/{node}/queue/discard_max_bytes)" = 0 ]
"""


class Masks(Scenario):
    name = "masks"
    title = "every feature bit of card and disk masked in turn, and pairwise: agreed on, and works without"
    order = 62
    needs = ("negotiate",)
    long = True
    not_on = (("host=0.1", "a worker of 0.1 masks no bit of feature group 0"),)

    def run(self, bench: Bench, cell: Cell) -> None:
        usual = bench.bus.features_in(bench.guest, bench.bus.net)
        cell.compare("card, offered, both sides", expected=bench.bus.features(bench.bus.net), seen=usual)
        for mask in masks_of(bits_of(usual)):
            with masked(bench, mask):
                card(bench, cell, usual, mask)
        with plugged(bench, DISK) as disk:
            usual = of_disk(bench, disk)[0]
        for mask in masks_of(bits_of(usual)):
            with masked(bench, mask), plugged(bench, DISK) as disk:
                agree(cell, f"disk {said(mask)}", usual, mask, *of_disk(bench, disk))
                keep(bench, cell, f"disk {said(mask)}", disk)
            cell.compare(f"disk {said(mask)}: removed", expected="gone", seen=disk.vanishes())


def bits_of(usual: Features) -> list[Bit]:
    """Each bit that is offered."""
    return [
        (group, 1 << number)
        for group, bits in sorted(usual.offered.items())
        for number in range(bits.bit_length())
        if bits >> number & 1
    ]


def masks_of(bits: Sequence[Bit]) -> list[Mask]:
    """Each bit alone, and sets in which each two bits are both, neither, and each without the other.

    They are chosen from as many as the bits have numbers of that many digits: a set has those bits whose
    number has an odd count of digits in common with the set's.
    """
    digits = len(bits).bit_length()
    sets = [
        [(number & chosen).bit_count() % 2 for number, _ in enumerate(bits, 1)]
        for chosen in range(1 << digits)
    ]
    kept = cover([[str(each) for each in flags] for flags in sets])
    chosen = [[bit for bit, flag in zip(bits, sets[each], strict=True) if flag] for each in sorted(kept)]
    found: list[Mask] = []
    for together in [[bit] for bit in bits] + [each for each in chosen if len(each) > 1]:
        mask: Mask = {}
        for group, bit in together:
            mask[group] = mask.get(group, 0) | bit
        if mask not in found:
            found.append(mask)
    return found


@contextmanager
def masked(bench: Bench, mask: Mask) -> Iterator[None]:
    with ExitStack() as undo:
        for group, bits in mask.items():
            undo.enter_context(bench.bus.masked(group, bits))
        yield


def said(mask: Mask) -> str:
    """`without 0:0x2 3:0x1`, in the form that sysfs has."""
    return "without " + " ".join(f"{group}:{bits:#x}" for group, bits in mask.items())


def agree(cell: Cell, what: str, usual: Features, mask: Mask, north: Features, south: Features) -> None:
    """Both sides say that just the masked bits are not offered, and the same of what was agreed on."""
    left = {group: bits & ~mask.get(group, 0) for group, bits in usual.offered.items()}
    cell.compare(f"{what}: offered, as the guest says", expected=left, seen=north.offered)
    cell.compare(f"{what}: offered, as the host says", expected=left, seen=south.offered)
    cell.compare(f"{what}: negotiated, both sides", expected=south.active, seen=north.active)
    more = {group: bits & ~left[group] for group, bits in north.active.items() if bits & ~left[group]}
    cell.compare(f"{what}: negotiated and not offered", expected={}, seen=more)


def card(bench: Bench, cell: Cell, usual: Features, mask: Mask) -> None:
    """A card of its own comes, carries traffic both ways, and goes."""
    what = f"card {said(mask)}"
    bench.bus.add(CARD)
    cell.compare(f"{what}: in the guest", expected="open", seen=bench.bus.appears(bench.guest, CARD))
    north, south = bench.bus.features_in(bench.guest, CARD), bench.bus.features(CARD)
    agree(cell, what, usual, mask, north, south)
    done = exchange(bench, CARD.host_address, bring_up(bench, CARD), SIZE)
    for direction, (sent, got) in done.ends.items():
        cell.compare(f"{what}, {direction}: got what was sent", expected=(SIZE, sent), seen=(got.count, got))
    may = bool(north.active.get(SG, 0) & TSO)
    expected = f"{'more than' if may else 'at most'} {PLAIN}"
    holds = (done.frame > PLAIN) is may
    cell.check(f"{what}: bytes a frame", expected=expected, seen=done.frame, holds=holds)
    bench.bus.remove(CARD)
    cell.compare(f"{what}: removed", expected="gone", seen=bench.bus.vanishes(bench.guest, CARD))


def of_disk(bench: Bench, disk: Plugged) -> tuple[Features, Features]:
    """What the guest says, and the host."""
    offered, active = bench.guest(f"cd {sysfs(disk.disk)} && cat offered negotiated").splitlines()
    told = disk.device().groups
    return Features(groups(offered), groups(active)), Features(
        {group: each.offered for group, each in told.items()},
        {group: each.active for group, each in told.items()},
    )


def keep(bench: Bench, cell: Cell, what: str, disk: Plugged) -> None:
    """What the guest has written is in the image once it is flushed, and zeroes are zeroes."""
    sent = bench.guest(WRITES.format(size=SIZE, node=disk.node)).split()[0]
    with disk.image.open("rb") as file:
        seen = hashlib.sha256(file.read(SIZE)).hexdigest()
    cell.compare(f"{what}: in the image", expected=sent, seen=seen)
    done = bench.guest.execute(ZEROES.format(half=SIZE // 2, node=disk.node))
    cell.compare(f"{what}: zeroes and discards", expected=(0, ""), seen=(done.code, done.err.strip()))
