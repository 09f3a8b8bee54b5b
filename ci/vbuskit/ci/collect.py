# SPDX-License-Identifier: MIT
"""The results of shards put together, and what no shard has tried although the plan has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vbuskit.base.errors import Blocked, Refused
from vbuskit.ci import results
from vbuskit.ci.facts import Guest, Host, RunFacts
from vbuskit.ci.verdict import cell_id
from vbuskit.compat.cells import Blame, Cell, Outcome
from vbuskit.compat.plan import Planned

NAMES = "shard-*"  # folders, each what `./vbuskit matrix run --out` left


def collected(out: Path) -> tuple[RunFacts, list[Cell]]:
    """All shards below `out` as one run; Refused when they are no parts of one."""
    shards = [results.read(path.parent) for path in sorted(out.glob(f"{NAMES}/results.json"))]
    if not shards:
        raise Blocked(
            f"{out}/{NAMES}: no shard left results there", hint="./vbuskit matrix run --shard 1/2 --out ..."
        )
    cells = [cell for _, cells in shards for cell in cells]
    twice = [cell for cell, count in Counter(map(cell_id, cells)).items() if count > 1]
    if twice:
        raise Refused(f"{twice[0]}: several shards tried it", hint="are results of another run there?")
    return together([facts for facts, _ in shards]), cells


def together(facts: Sequence[RunFacts]) -> RunFacts:
    """What several machines say of one run."""
    first = facts[0]
    for each in facts:
        if (each.version, each.commit) != (first.version, first.commit):
            raise Refused(
                f"shards of {first.version} {first.commit[:12]} and of {each.version} {each.commit[:12]}",
                hint="results of one commit belong together",
            )
    guests = {guest.name: guest for each in facts for guest in each.guests}
    return replace(
        first,
        dirty=any(each.dirty for each in facts),
        host=Host(
            system=listed(each.host.system for each in facts),
            kernel=listed(each.host.kernel for each in facts),
            qemu=listed(each.host.qemu for each in facts),
            libvirt=listed(each.host.libvirt for each in facts),
        ),
        accelerator=listed(each.accelerator for each in facts),
        started=min(each.started for each in facts),
        guests=tuple(guests.values()),
        steps=tuple(step for each in facts for step in each.steps),
        artifacts=tuple(made for each in facts for made in each.artifacts),
        quarantine={id: why for each in facts for id, why in each.quarantine.items()},
    )


def listed(texts: Iterable[str]) -> str:
    """What they say, each once."""
    return ", ".join(dict.fromkeys(text for text in texts if text))


def untried(planned: Iterable[Planned], cells: Iterable[Cell]) -> list[Cell]:
    """A red cell for each of the plan that nobody tells of."""
    told = {cell_id(cell) for cell in cells}
    return [
        Cell(
            each.coordinates.scenario,
            "tried by one of the shards",
            each.coordinates.guest,
            Outcome.RED,
            reason="no shard tried it: a job was cut short, or its shards were planned in another way",
            axes=each.coordinates.axes,
            blame=Blame.INFRASTRUCTURE,
            evidence=["it is in the plan, and in no results.json"],
        )
        for each in planned
        if not each.excluded and each.coordinates.id not in told
    ]


def with_guests(facts: RunFacts, informing: Iterable[str]) -> RunFacts:
    """`informing`: guests whose cells do not count, also when their shard said nothing."""
    known = {guest.name for guest in facts.guests}
    missing = tuple(Guest(name=name, informing=True) for name in informing if name not in known)
    return replace(facts, guests=facts.guests + missing)
