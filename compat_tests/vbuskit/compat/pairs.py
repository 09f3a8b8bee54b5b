# SPDX-License-Identifier: MIT
"""Pairwise: of many combinations a few, in which each two values of two axes meet that meet at all.

Not allpairspy: with a filter it loses pairs that are allowed (its issue 2, still open). Whoever asks here
has a list of what can be tried, so a greedy cover of that list is enough, and cannot lose any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import combinations

Pair = tuple[tuple[int, str], tuple[int, str]]


def pairs(combination: Sequence[str]) -> frozenset[Pair]:
    """Each two values, with the axes that they are of."""
    return frozenset(combinations(enumerate(combination), 2))


def cover(every: Sequence[Sequence[str]], needs: Callable[[int], Iterable[int]] = lambda _: ()) -> set[int]:
    """Indices of what is kept, each with those that it `needs`; the same for the same list."""
    met = [pairs(combination) for combination in every]
    open_pairs = frozenset().union(*met)
    missing = set(open_pairs)
    kept: set[int] = set()
    heap = [(-len(found), index) for index, found in enumerate(met)]
    heapify(heap)
    while missing:
        # What a combination adds only shrinks: one that still adds the most adds more than all below it.
        _, index = heappop(heap)
        adds = len(met[index] & missing)
        if heap and (-adds, index) > heap[0]:
            heappush(heap, (-adds, index))
            continue
        for each in (index, *needs(index)):
            kept.add(each)
            missing -= met[each]
    return kept
