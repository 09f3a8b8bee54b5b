# SPDX-License-Identifier: MIT
"""What a scenario finds on its bench, and the order in which scenarios are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat.bus import Bus
from vbuskit.compat.cells import Cell, Outcome, judged
from vbuskit.compat.guest import Guest
from vbuskit.compat.health import Health
from vbuskit.compat.host import Host
from vbuskit.compat.images import Image
from vbuskit.compat.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a user of one kernel release gets.

    release:  as `uname -r` says it
    kernel:   its packages, as Debian has them
    headers:  likewise, what modules for it are built with; none where the guest builds none
    symbols:  Module.symvers, what it exports
    packages: ours for it, of the guest's family
    """

    release: str
    kernel: Mapping[str, Artifact]
    headers: Mapping[str, Artifact]
    symbols: Artifact
    packages: Mapping[str, Artifact]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One host with a bus and one guest on it; the guest is off until the first scenario boots it.

    iso:     the driver ISO
    version: of the drivers that are on it
    signer:  common name of the certificate that signed them
    first:   makes what comes with the guest's kernel
    update:  what comes with a newer one; None: this guest gets none
    """

    run: Runner
    places: Places
    host: Host
    guest: Guest
    image: Image
    bus: Bus
    iso: Path
    version: str
    signer: str
    first: Callable[[], Delivery] | None = None
    update: Callable[[], Delivery] | None = None


def tried(bench: Bench, chosen: Iterable[type[Scenario]]) -> Iterator[Cell]:
    """One cell a scenario, as soon as it is judged; after a red one that others need, those are skipped.

    Raises Blocked when the machine, and not what was tried, made one red.
    """
    red: dict[str, Cell] = {}
    for kind in chosen:
        cell = Cell(kind.name, kind.title, bench.guest.name, logs=[bench.guest.serial])
        lacking = next((name for name in kind.needs if name in red), None)
        if lacking is not None:
            cell.reason = f"needs `{lacking}`, which is {red[lacking].outcome}"
        else:
            with judged(cell):
                health = Health(bench)
                kind().run(bench, cell)
                health.check(cell)
        if cell.outcome is Outcome.RED:
            bench.guest.check_room()
        if cell.outcome is not Outcome.GREEN:
            red[kind.name] = cell
        yield cell
