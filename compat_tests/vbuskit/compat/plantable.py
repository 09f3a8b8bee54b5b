# SPDX-License-Identifier: MIT
"""A plan for people: what would run, why each other cell would not, and how long it takes."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapreplace

from vbuskit.compat.plan import Planned

WIDTH = 120


def table(planned: Sequence[Planned], workers: int = 1) -> str:
    runs = by_group(each for each in planned if not each.excluded)
    out = by_group(each for each in planned if each.excluded)
    lines = [
        f"{counted(runs)} would run, in {plural(len(runs), 'group')}; {counted(out)} would not",
        *(line for group, cells in runs.items() for line in row(group, cells, max(map(len, runs)))),
        *(line for reason, cells in by_reason(planned).items() for line in left_out(reason, cells, planned)),
        times(runs, workers),
    ]
    return "\n".join(lines) + "\n"


def by_group(planned: Iterable[Planned]) -> dict[str, list[Planned]]:
    found: dict[str, list[Planned]] = defaultdict(list)
    for each in planned:
        found[each.group].append(each)
    return found


def by_reason(planned: Iterable[Planned]) -> dict[str, list[Planned]]:
    found: dict[str, list[Planned]] = defaultdict(list)
    for each in planned:
        if each.excluded:
            found[each.excluded].append(each)
    return found


def row(group: str, cells: Sequence[Planned], width: int) -> list[str]:
    """A group with its scenarios, in the order in which they share its boots."""
    title = f"  {group:{width}} {said(seconds(cells)):>11}  "
    return wrapped(title, " ".join(each.coordinates.scenario for each in cells))


def left_out(reason: str, cells: Sequence[Planned], planned: Sequence[Planned]) -> list[str]:
    """One reason; groups that miss the same scenarios for it share a line."""
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group, missed in by_group(cells).items():
        same[tuple(each.coordinates.scenario for each in missed)].append(group)
    every = list(dict.fromkeys(each.coordinates.scenario for each in planned))
    lines = [f"not tried, {len(cells)}: {reason}"]
    for scenarios, groups in same.items():
        lines += wrapped("  ", f"{' '.join(guests(groups, planned))}: {shortly(scenarios, every)}")
    return lines


def shortly(scenarios: Sequence[str], every: Sequence[str]) -> str:
    """`all`, all but the few that are not among them, or each by its name."""
    others = [name for name in every if name not in scenarios]
    if len(others) < len(scenarios):
        return f"all but {' '.join(others)}" if others else "all"
    return " ".join(scenarios)


def guests(groups: Sequence[str], planned: Sequence[Planned]) -> Iterator[str]:
    """The same groups; `debian-12[*]` for all of a guest that has several."""
    its: dict[str, set[str]] = defaultdict(set)
    for each in planned:
        its[each.coordinates.guest].add(each.group)
    whole = {guest for guest, mine in its.items() if len(mine) > 1 and mine <= set(groups)}
    yield from dict.fromkeys(
        f"{guest}[*]" if (guest := group.partition("[")[0]) in whole else group for group in groups
    )


def times(runs: Mapping[str, Sequence[Planned]], workers: int) -> str:
    """In total, and until the last of several workers is done, which take a group whenever they are free."""
    busy = [0.0] * workers
    for cells in runs.values():
        heapreplace(busy, busy[0] + seconds(cells))
    total = sum(map(seconds, runs.values()))
    together = f", {said(max(busy))} on {workers} workers" if workers > 1 else ""
    return f"expected: {said(total)} in total{together}; images and drivers are not in it"


def seconds(cells: Iterable[Planned]) -> float:
    return sum(each.seconds for each in cells)


def said(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def counted(groups: Mapping[str, Sequence[Planned]]) -> str:
    return plural(sum(map(len, groups.values())), "cell")


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def wrapped(title: str, words: str) -> list[str]:
    indent = " " * max(4, len(title))
    return textwrap.wrap(
        title + words, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
