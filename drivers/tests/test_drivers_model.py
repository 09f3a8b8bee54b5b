# SPDX-License-Identifier: MIT
"""The models of signals, rings, calls, fence and epoch hold, and without any one barrier they break."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.drivers.model import MODELS, SearchFailed, Verdict, judge, verify

# Model and switch, and the property that breaks without it.
NEEDED = {
    ("signals", "PAYLOAD_WMB"): "stale_read",
    ("signals", "SUMMARY_WMB"): "lost_wakeup",
    ("signals", "INJECT_MB"): "lost_wakeup",
    ("signals", "SEQUENCE_RMB"): "stale_read",
    ("signals", "ENABLE_MB"): "lost_wakeup",
    ("signals", "SUMMARY_RMB"): "lost_wakeup",
    ("signals", "WAKEUP_MB"): "lost_wakeup",
    ("ring", "PUBLISH_WMB"): "stale_descriptor",
    ("ring", "TAKE_RMB"): "stale_descriptor",
    ("ring", "POP_RMB"): "stale_completion",
    ("ring", "GIVE_WMB"): "stale_completion",
    ("calls", "REQUEST_WMB"): "stale_request",
    ("calls", "REQUEST_RMB"): "stale_request",
    ("calls", "REPLY_WMB"): "stale_reply",
    ("calls", "REPLY_RMB"): "stale_reply",
    ("fence", "FENCE"): "double_writer",
    ("fence", "OWN_IMAGE"): "double_writer",
    ("fence", "REAP"): "stale_completion",
    ("epoch", "REQUEST_EPOCH"): "stale_request",
    ("epoch", "WINDOW_EPOCH"): "deaf",
    ("epoch", "TAKEN_AT_NEGOTIATE"): "executed_twice",
}

# A second line of defence: the model holds without these, for the reasons in docs/model.md.
SPARE = [
    ("epoch", ("REPLY_EPOCH", "REPLY_NONCE")),
    ("epoch", ("REQUEST_NONCE",)),
    ("epoch", ("NUMBERS_GO_ON",)),
    ("fence", ("COMPLETION_EPOCH",)),
    ("fence", ("NETWORK_CARD", "REAP")),
]

# What x86 reorders, a store and a later load, needs these; the others only bind the compiler there.
X86 = ("INJECT_MB", "ENABLE_MB", "WAKEUP_MB")
COMPILER_ONLY = [
    ("signals", ("PAYLOAD_WMB", "SUMMARY_WMB", "SUMMARY_RMB", "SEQUENCE_RMB")),
    ("ring", ("PUBLISH_WMB", "TAKE_RMB", "POP_RMB", "GIVE_WMB")),
    ("calls", ("REQUEST_WMB", "REQUEST_RMB", "REPLY_WMB", "REPLY_RMB")),
]

# What changes a model otherwise: see docs/model.md.
OPTIONS = {("memory", "REORDERING")}

# Every barrier of these sources, in the order in which they stand there, and its switches.
SITES = {
    "core/shm_signal.c": [
        ("shm_signal_inject", "wmb", ["PAYLOAD_WMB"]),
        ("shm_signal_inject", "wmb", ["SUMMARY_WMB"]),
        ("shm_signal_inject", "mb", ["INJECT_MB"]),
        ("is_dirty", "rmb", ["SEQUENCE_RMB"]),
        ("shm_signal_enable", "mb", ["ENABLE_MB"]),
        ("hear_news", "rmb", ["SUMMARY_RMB"]),
        ("shm_signal_wakeup", "mb", ["WAKEUP_MB"]),
    ],
    "core/ioq.c": [
        ("ioq_push_publish", "wmb", ["PUBLISH_WMB"]),
        ("judge", "rmb", ["TAKE_RMB", "POP_RMB"]),
        ("ioq_give_publish", "wmb", ["GIVE_WMB"]),
    ],
    "linux/call.c": [
        ("write_request", "wmb", ["REQUEST_WMB"]),
        ("read_reply", "rmb", ["REPLY_RMB"]),
    ],
    "host/worker_calls.c": [
        ("reply", "wmb", ["REPLY_WMB"]),
        ("serve", "rmb", ["REQUEST_RMB"]),
    ],
}

PASSED = """\
Full statespace search for:
State-vector 20 byte, depth reached 3, errors: 0
        7 states, stored
"""


def barriers(source: str) -> list[tuple[str, str]]:
    """[(function, kind of barrier)] of a C source, in its order."""
    found, function = [], ""
    for line in source.splitlines():
        if head := re.match(r"(?:[a-z_][\w ]*[ *])(\w+)\(", line):
            function = head[1]
        found += [(function, kind) for kind in re.findall(r"\bvbus_([rw]?mb)\(\);", line)]
    return found


def search(name: str, folder: Path, *without: str) -> Verdict:
    return verify(Runner(), ROOT / MODELS / f"{name}.pml", folder, without=without)


@pytest.mark.parametrize("name", sorted({model for model, _ in NEEDED}))
def test_the_whole_model_holds_in_every_state(name: str, tmp_path: Path) -> None:
    verdict = search(name, tmp_path)
    assert verdict.broken is None
    assert verdict.states > 100


@pytest.mark.parametrize(("name", "switch"), NEEDED)
def test_without_it_the_model_breaks(name: str, switch: str, tmp_path: Path) -> None:
    assert search(name, tmp_path, switch).broken == NEEDED[name, switch]


@pytest.mark.parametrize(("name", "switches"), SPARE)
def test_a_second_line_of_defence_is_not_needed_while_the_first_holds(
    name: str, switches: tuple[str, ...], tmp_path: Path
) -> None:
    assert search(name, tmp_path, *switches).broken is None


@pytest.mark.parametrize("switch", X86)
def test_a_full_barrier_is_needed_even_where_only_loads_overtake_stores(switch: str, tmp_path: Path) -> None:
    assert search("signals", tmp_path, "REORDERING", switch).broken == "lost_wakeup"


@pytest.mark.parametrize(("name", "switches"), COMPILER_ONLY)
def test_the_other_barriers_are_not_needed_where_only_loads_overtake_stores(
    name: str, switches: tuple[str, ...], tmp_path: Path
) -> None:
    assert search(name, tmp_path, "REORDERING", *switches).broken is None


@pytest.mark.parametrize("source", SITES)
def test_every_barrier_of_the_source_is_in_the_model(source: str) -> None:
    sites = [(function, kind) for function, kind, _ in SITES[source]]
    assert barriers((ROOT / "drivers" / source).read_text()) == sites


def test_the_core_has_no_other_source_with_barriers() -> None:
    core = ROOT / "drivers" / "core"
    assert {f"core/{path.name}" for path in core.glob("*.[ch]") if barriers(path.read_text())} == {
        name for name in SITES if name.startswith("core/")
    }


def test_every_switch_of_the_models_is_tried() -> None:
    in_models = {
        (path.stem, switch)
        for path in (ROOT / MODELS).glob("*.pml")
        for switch in re.findall(r"NO_([A-Z_]+)", path.read_text())
    }
    spare = {(name, switch) for name, switches in SPARE for switch in switches}
    assert in_models == {*NEEDED, *spare, *OPTIONS}
    at_sites = {switch for sites in SITES.values() for *_, switches in sites for switch in switches}
    assert at_sites <= {switch for _, switch in NEEDED}


def test_a_barrier_without_a_switch_is_noticed() -> None:
    source = (ROOT / "drivers" / "core" / "ioq.c").read_text()
    planted = source.replace("\tq->valid++;", "\tvbus_wmb();\n\tq->valid++;", 1)
    assert barriers(planted)[0] == ("ioq_push", "wmb")


def test_a_search_that_is_not_deep_enough_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SearchFailed, match="not all"):
        verify(Runner(), ROOT / MODELS / "ring.pml", tmp_path, depth=50)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "pan: out of memory",
        PASSED + "error: max search depth too small\n",
        PASSED + "Warning: Search not completed\n",
        PASSED.replace("Full statespace", "Bit statespace"),
    ],
)
def test_a_search_that_was_cut_short_proves_nothing(said: str) -> None:
    assert judge("whole.pml", PASSED).broken is None
    with pytest.raises(SearchFailed):
        judge("short.pml", said)
