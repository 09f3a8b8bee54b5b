# SPDX-License-Identifier: MIT
"""Scenarios: found by their file, in their order, chosen with what they need."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

from vbuskit.base.errors import UsageError
from vbuskit.compat import scenario
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.guest import SICK
from vbuskit.compat.scenario import Scenario, choose, scenarios
from vbuskit.compat.scenarios.leaks import ours


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(scenario, "REGISTERED", {kind.name: kind for kind in scenarios()})


def made(name: str, *, needs: tuple[str, ...] = (), **words: object) -> type[Scenario]:
    def run(self: Scenario, bench: Bench, cell: Cell) -> None:
        cell.compare("x", expected=1, seen=1)

    body: dict[str, Any] = {"name": name, "title": name, "order": 99, "needs": needs, "run": run} | words
    return type(name, (Scenario,), body)


def test_boot_is_first_and_needs_nothing() -> None:
    assert (scenarios()[0].name, scenarios()[0].needs) == ("boot", ())


def test_only_brings_what_is_needed_along() -> None:
    made("two", needs=("boot",))
    assert [kind.name for kind in choose(["two"])] == ["boot", "two"]


def test_long_ones_are_chosen_when_asked_for_and_soaks_only_by_their_name() -> None:
    made("one", long=True)
    made("two", soak=True)
    assert not {"one", "two"} & {kind.name for kind in choose(None)}
    assert {"one", "two"} & {kind.name for kind in choose(None, long=True)} == {"one"}
    assert [kind.name for kind in choose(["one", "two"])] == ["one", "two"]


def test_a_word_that_names_no_scenario_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="bot: no such scenario") as caught:
        choose(["bot"])
    assert "boot" in str(caught.value.hint)


def test_two_scenarios_of_one_name_are_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="scenario boot"):
        made("boot")


@pytest.mark.parametrize(
    "line",
    [
        "[ 1.0] BUG: unable to handle page fault",
        "[ 1.0] WARNING: CPU: 0 PID: 1 at x.c:1",
        "[ 1.0] Call Trace:",
        "[ 1.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
        "[ 1.0] INFO: task kworker blocked for more than 120 seconds.",
        "[ 1.0] Oops: 0000 [#1]",
        "[ 1.0] BUG: KASAN: slab-use-after-free in venet_poll+0x1/0x2 [venet]",
        "[ 1.0] BUG: sleeping function called from invalid context at call.c:1",
        "[ 1.0] BUG kmalloc-64 (Tainted: G           OE     ): Poison overwritten",
        "[ 1.0] WARNING: possible circular locking dependency detected",
        "[ 1.0] WARNING: suspicious RCU usage",
        "[ 1.0] INFO: trying to register non-static key.",
        "[ 1.0] INFO: lockdep is turned off.",
        "[ 1.0] BUG: MAX_LOCKDEP_ENTRIES too low!",
        "[ 1.0] turning off the locking correctness validator.",
        "[ 1.0] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "[ 1.0] kmemleak: Kernel memory leak detector disabled",
        "[ 1.0] list_del corruption. prev->next should be a, but was b",
    ],
)
def test_lines_of_a_sick_kernel_are_seen(line: str) -> None:
    assert SICK.search(line)


def test_lines_of_a_healthy_kernel_are_not() -> None:
    assert not SICK.search("[ 0.0] DEBUG_PAGEALLOC off")
    assert not SICK.search("[ 0.0] Warning: unable to open an initial console.")
    assert not SICK.search(
        "[ 0.0] kmemleak: Kernel memory leak detector initialized (mem pool available: 9)"
    )
    assert not SICK.search("[ 0.0] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar")


LEAKS = """\
unreferenced object 0xffff888005f38a00 (size 64):
  comm "modprobe", pid 210, jiffies 4294898130 (age 8.020s)
  backtrace:
    [<00000000b1b28c4d>] kmalloc_trace+0x26/0x90
    [<000000004da93e3a>] vbus_calls_init+0x1c/0x90 [vbus]
unreferenced object 0xffff888005f38b00 (size 64):
  comm "modprobe", pid 211, jiffies 4294898131 (age 8.010s)
  backtrace:
    [<00000000b1b28c4d>] kmalloc_trace+0x26/0x90
    [<00000000a0b1c2d3>] 0xffffffffc0009ab1
unreferenced object 0xffff888005f38c00 (size 8):
  comm "swapper/0", pid 1, jiffies 4294892130 (age 9.020s)
  backtrace:
    [<00000000b1b28c4d>] kmalloc_trace+0x26/0x90
    [<00000000d1b28c4d>] acpi_init+0x26/0x90
"""


def test_of_what_was_lost_the_drivers_have_what_they_took_also_when_they_are_gone() -> None:
    assert [text.split()[2] for text in ours(LEAKS)] == ["0xffff888005f38a00", "0xffff888005f38b00"]
    assert ours("") == []


def test_who_boots_a_guest_is_called_cold_and_nobody_else() -> None:
    for module in {kind.__module__ for kind in scenarios()}:
        cold = any(kind.cold for kind in scenarios() if kind.__module__ == module)
        boots = re.search(r"\.(boot|restart)\(", inspect.getsource(importlib.import_module(module)))
        assert cold == bool(boots), module
