# SPDX-License-Identifier: MIT
"""Which bits are masked together, and what two sides that do not agree make of a cell."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from vbuskit.compat.bus import Features
from vbuskit.compat.cells import Cell, CellRed
from vbuskit.compat.scenarios.masks import Bit, agree, bits_of, masks_of


@pytest.mark.parametrize("count", [0, 1, 2, 5, 14, 15, 16])
def test_each_bit_is_masked_alone_and_each_two_in_every_way(count: int) -> None:
    bits: list[Bit] = [(number % 4, 1 << number) for number in range(count)]
    masks = masks_of(bits)
    assert [{group: bit} for group, bit in bits] == masks[: len(bits)]
    for one, two in combinations(bits, 2):
        met = {tuple(bool(mask.get(group, 0) & bit) for group, bit in (one, two)) for mask in [*masks, {}]}
        assert met == set(product([True, False], repeat=2))


def test_pairs_take_few_sets_more_than_there_are_bits() -> None:
    assert len(masks_of([(0, 1 << number) for number in range(14)])) <= 14 + 12


def test_the_bits_are_those_that_are_offered() -> None:
    assert bits_of(Features({0: 0x45, 3: 0, 1: 1}, {})) == [(0, 1), (0, 4), (0, 0x40), (1, 1)]


USUAL = Features({0: 0x7, 1: 0x1}, {0: 0x3, 1: 0x1})
LESS = Features({0: 0x5, 1: 0x1}, {0: 0x1, 1: 0x1})


@pytest.mark.parametrize(
    ("north", "south", "reason"),
    [
        (USUAL, LESS, "offered, as the guest says"),
        (LESS, USUAL, "offered, as the host says"),
        (LESS, Features(LESS.offered, {0: 0x5, 1: 0x1}), "negotiated, both sides"),
        (*[Features(LESS.offered, USUAL.active)] * 2, "negotiated and not offered"),
    ],
)
def test_a_side_that_does_not_follow_the_mask_makes_the_cell_red(
    north: Features, south: Features, reason: str
) -> None:
    agree(Cell("masks", "x", "guest"), "card", USUAL, {0: 0x2}, LESS, LESS)
    with pytest.raises(CellRed, match=reason):
        agree(Cell("masks", "x", "guest"), "card", USUAL, {0: 0x2}, north, south)
