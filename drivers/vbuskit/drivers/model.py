# SPDX-License-Identifier: MIT
"""Let spin search every state of a model of the window, whole or with one barrier switched off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import VbuskitError
from vbuskit.base.run import Runner

MODELS = Path("drivers") / "model"
# Steps of one path. A deeper one is cut off and the search is not complete; `pan` says so.
DEPTH = 500_000
MEGABYTES = 2048
SECONDS = 300.0
CUT_SHORT = ("Search not completed", "max search depth too small")
# No cycles are looked for; a search that needs more memory than that ends with a line that says so.
FLAGS = ("-w", "-DSAFETY", f"-DMEMLIM={MEGABYTES}")


class SearchFailed(VbuskitError):
    """spin, the compiler or the search itself did not come to its end; nothing is known of the model."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search found.

    `broken` is None when every state that can be reached was visited and keeps every property; else
    it is the name of the property, or "deadlock" when somebody waits for ever.
    """

    broken: str | None
    states: int


def verify(
    run: Runner, model: Path, folder: Path, *, without: Sequence[str] = (), depth: int = DEPTH
) -> Verdict:
    """Search `model` in the empty `folder`, paths of up to `depth` steps.

    `without` names what is left out: "INJECT_MB" is -DNO_INJECT_MB. Raises SearchFailed when the
    search was cut short: an unfinished search proves nothing.
    """
    switches = [f"-DNO_{name}" for name in without]
    made = run(["spin", "-a", *switches, model.resolve()], cwd=folder)
    if "Error" in made:
        raise SearchFailed(f"{model.name}: {made.strip().splitlines()[0]}")
    # A model that breaks does so early: there the compiler takes longer than the search.
    optimise = "-O0" if without else "-O1"
    run(["gcc", optimise, *FLAGS, "-o", "pan", "pan.c"], cwd=folder)
    # `pan` ends with 0 whatever it found.
    return judge(model.name, run(["./pan", f"-m{depth}"], cwd=folder, seconds=SECONDS))


def judge(name: str, said: str) -> Verdict:
    """Read what `pan` printed; a word that is missing there is not taken for good news."""
    errors = re.search(r"errors: (\d+)$", said, re.MULTILINE)
    states = re.search(r"^ *(\S+) states, stored", said, re.MULTILINE)
    if errors is None or states is None:
        last = said.strip().splitlines()[-1:] or ["no output"]
        raise SearchFailed(
            f"{name}: the search did not end: {last[0]}", hint="run spin -a, gcc and pan by hand"
        )
    visited = int(float(states[1]))
    if int(errors[1]):
        return Verdict(broken=broken_property(name, said), states=visited)
    if any(words in said for words in CUT_SHORT) or "Full statespace search" not in said:
        raise SearchFailed(
            f"{name}: {visited} states were visited, not all", hint="raise DEPTH, or shrink the model"
        )
    return Verdict(broken=None, states=visited)


def broken_property(name: str, said: str) -> str:
    if found := re.search(r"assertion violated +!\(*(\w+)\)", said):
        return found[1]
    if "invalid end state" in said:
        return "deadlock"
    raise SearchFailed(f"{name}: an error that no property names: {said.strip().splitlines()[0]}")
