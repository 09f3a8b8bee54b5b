# SPDX-License-Identifier: MIT
"""The shape of a scenario; to add one is to add a file to the folder scenarios/."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from vbuskit.base.errors import UsageError
from vbuskit.compat.cells import Cell

if TYPE_CHECKING:
    from vbuskit.compat.bench import Bench

REGISTERED: dict[str, type[Scenario]] = {}


class Scenario(ABC):
    """One thing that is tried on a bench.

    name:  one word, for `--only`
    title: one line for the report
    order: scenarios run by rising order
    needs: names of scenarios that must have been green; everything but `boot` itself needs `boot`
    cold:  boots a guest, and so takes longer than the others, which share one that runs
    soak:  takes many minutes, and is run only when it is named
    long:  takes a good part of a minute, and is left out where every change is tried
    provokes: a regular expression, for lines of logs that are what it is there to bring about
    packages: of Debian, that the guest's image must have for it
    families: guests that it is for (compat/guests.py)
    far:   can be tried on a host of a pool: none of its files and programs has to be on this machine
    not_on: why it is tried with an axis' usual value only, or not with one: by `drivers` or `machine=i440fx`
    """

    name: ClassVar[str]
    title: ClassVar[str]
    order: ClassVar[int]
    needs: ClassVar[tuple[str, ...]] = ("boot",)
    cold: ClassVar[bool] = False
    soak: ClassVar[bool] = False
    long: ClassVar[bool] = False
    provokes: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    families: ClassVar[tuple[str, ...]] = ("deb",)
    far: ClassVar[bool] = False
    not_on: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = REGISTERED.get(cls.name)
        if known is not None and known.__module__ != cls.__module__:
            raise RuntimeError(f"scenario {cls.name}: both in {known.__module__} and in {cls.__module__}")
        REGISTERED[cls.name] = cls

    @abstractmethod
    def run(self, bench: Bench, cell: Cell) -> None:
        """Try it; every comparison goes through the cell. An expected failure makes the cell red."""


def scenarios() -> list[type[Scenario]]:
    """All of them, in their order."""
    package = importlib.import_module("vbuskit.compat.scenarios")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return sorted(REGISTERED.values(), key=lambda kind: (kind.order, kind.name))


def choose(names: Sequence[str] | None, *, long: bool = False) -> list[type[Scenario]]:
    """The named ones and what they need; without names all but soaks, and `long` ones only when asked for.

    Raises UsageError for a word that names none.
    """
    known = scenarios()
    if not names:
        return [kind for kind in known if not kind.soak and (long or not kind.long)]
    by_name = {kind.name: kind for kind in known}
    wanted: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in by_name:
            raise UsageError(f"{name}: no such scenario", hint=f"there are: {', '.join(by_name)}")
        if name not in wanted:
            wanted.add(name)
            queue.extend(by_name[name].needs)
    return [kind for kind in known if kind.name in wanted]
