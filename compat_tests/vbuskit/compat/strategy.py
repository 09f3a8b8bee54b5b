# SPDX-License-Identifier: MIT
"""How a guest is brought to where a scenario can be tried, and given up when it is no longer to be trusted.

The word is labgrid's: a strategy knows the states of what is tested and the way between them. Our states
are the scenarios themselves: who needs `install` finds a guest on which `install` has been green.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import VbuskitError
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped, Outcome, judged
from vbuskit.compat.evidence import console, examined
from vbuskit.compat.health import Health
from vbuskit.compat.host import is_here
from vbuskit.compat.scenario import Scenario, scenarios
from vbuskit.compat.snapshot import stage
from vbuskit.compat.speed import unhurried

STAGED = ("boot", "install")  # what a guest that is restored has behind it


class Stand(Protocol):
    """Where a guest is tried: what it is made of is there, and each bench is a new guest on a new bus."""

    def bench(self) -> AbstractContextManager[Bench]: ...


class Strategy:
    """One guest's cells, one after the other, on one bench as long as each of them is green.

    A red cell may have left anything behind: the guest is given up, and the next cell finds another one.
    Leaving the `with` block gives up the last.
    """

    def __init__(self, stand: Stand, known: Mapping[str, type[Scenario]] | None = None) -> None:
        self._stand = stand
        self._known = known or {kind.name: kind for kind in scenarios()}
        self._undo = ExitStack()
        self._bench: Bench | None = None
        self._reached: set[str] = set()
        self._verdicts: dict[str, Cell] = {}

    def transition(self, names: Sequence[str]) -> Bench:
        """The bench, where each of `names` and of what they need has been green.

        Raises CellSkipped when one of them was a cell before this and was not green, VbuskitError when one
        does not come about now.
        """
        wanted = [self._known[name] for name in names]
        for kind in reversed(list(self._way(wanted))):
            verdict = self._verdicts.get(kind.name)
            if verdict is not None and verdict.outcome is not Outcome.GREEN:
                raise CellSkipped(f"needs `{kind.name}`, which is {verdict.outcome}")
        bench = self.bench()
        way = list(self._way(wanted))
        staged = {*STAGED} <= {kind.name for kind in way}
        if staged and not self._reached and is_here(bench.host) and bench.guest.hardware.has_ports:
            self._restore(bench)
        for kind in way:
            if kind.name not in self._reached:
                self._prepare(bench, kind)
        return bench

    def bench(self) -> Bench:
        """The one that is there, or a new one, whose guest is off."""
        if self._bench is None:
            self._undo.enter_context(unhurried())
            self._bench = self._undo.enter_context(self._stand.bench())
        return self._bench

    def tried(self, kind: type[Scenario], cell: Cell) -> Cell:
        """The same cell, judged. Raises Blocked when the machine, and not what was tried, made it red."""
        way = 0.0
        with judged(cell), examined(cell, lambda: self._bench):
            start = time.monotonic()
            try:
                bench = self.transition(kind.needs)
            finally:
                way = time.monotonic() - start
            cell.logs.append(console(bench))
            health = Health(bench)
            kind().run(bench, cell)
            health.check(cell)
        cell.seconds -= way
        self._verdicts[kind.name] = cell
        if cell.outcome is Outcome.GREEN:
            self._reached.add(kind.name)
        elif cell.outcome is Outcome.RED and self._bench is not None:
            try:
                self._bench.guest.check_room()
            finally:
                self.give_up()
        return cell

    def give_up(self) -> None:
        """Whatever is there goes; nothing is known of the next one."""
        self._bench = None
        self._reached.clear()
        self._undo.close()

    def _restore(self, bench: Bench) -> None:
        """A guest as it is after STAGED, from the cache where it is there, with a bus of its own."""
        kinds = [self._known[name] for name in STAGED]
        sources = [Artifact.of(Path(inspect.getfile(kind))).sha256 for kind in kinds]

        def prepare() -> None:
            for kind in kinds:
                self._prepare(bench, kind)

        stage(bench, [*STAGED, *sources], prepare)
        self._reached.update(STAGED)
        bench.guest.plug(bench.bus.socket)
        bench.bus.ready(bench.guest)  # or what opens later looks like a leak of the next cell

    def _prepare(self, bench: Bench, kind: type[Scenario]) -> None:
        """Its body without a cell of its own, on a bench where it has not been tried."""
        cell = Cell(kind.name, kind.title, bench.guest.name)
        try:
            kind().run(bench, cell)
        except CellSkipped as error:
            raise CellSkipped(f"needs `{kind.name}`: {error}") from error
        except VbuskitError as error:
            raise VbuskitError(f"on the way, `{kind.name}`: {error}", hint=error.hint) from error
        self._reached.add(kind.name)

    def _way(self, wanted: Sequence[type[Scenario]]) -> Iterator[type[Scenario]]:
        """What they need and they themselves, in the order in which scenarios run."""
        names: set[str] = set()
        queue = list(wanted)
        while queue:
            kind = queue.pop()
            if kind.name not in names:
                names.add(kind.name)
                queue += [self._known[name] for name in kind.needs]
        return iter(kind for kind in self._known.values() if kind.name in names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()
