# SPDX-License-Identifier: MIT
"""JSON paths as text, such as `$.devices[0].active['0']`, and where in a document they lead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

Step = str | int
# Compiled when they are needed, which is seldom: a gate check is measured in milliseconds.
PLAIN = r"[A-Za-z_][A-Za-z0-9_-]*"
STEP = rf"\.(?P<plain>{PLAIN})|\[(?P<index>\d+)\]|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]"
AT = r" - at (?P<key>`key` in )?`(?P<path>\$[^`]*)`$"
LEFT_OUT = "[...]"  # what msgspec writes for the name of a member that no class has as a field


def joined(steps: Sequence[Step]) -> str:
    return "$" + "".join(shown(each) for each in steps)


def shown(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if re.fullmatch(PLAIN, step):
        return f".{step}"
    quoted = step.replace("\\", r"\\").replace("'", r"\'")
    return f"['{quoted}']"


def steps_of(path: str) -> list[Step]:
    """Of what `joined` makes."""
    found: list[Step] = []
    for each in re.finditer(STEP, path):
        if each["index"]:
            found.append(int(each["index"]))
        else:
            found.append(each["plain"] or re.sub(r"\\(.)", r"\1", each["quoted"]))
    return found


def at(document: Any, steps: list[Step]) -> Any:
    """Raises LookupError or TypeError when there is no such place."""
    for step in steps:
        document = document[step]
    return document


def exact(document: Any, kind: type, said: str) -> tuple[str, list[Step]]:
    """What msgspec has `said` of the document, and where, with the names that it leaves out."""
    found = re.search(AT, said)
    if not found:
        return said, []
    parts = found["path"].split(LEFT_OUT)
    steps = steps_of(parts[0])
    for rest in [*parts[1:], ""] if found["key"] else parts[1:]:
        name = culprit(document, kind, steps, said)
        document = narrowed(document, steps, [name])
        steps += [name, *steps_of(rest)]
    return ("its name: " if found["key"] else "") + said[: found.start()], steps


def culprit(document: Any, kind: type, steps: list[Step], said: str) -> str:
    """The first member of the object there of which this is said, by halves: it may have many."""
    names = list(at(document, steps))
    while len(names) > 1:
        half = len(names) // 2
        first = names[:half]
        names = first if complaint(narrowed(document, steps, first), kind) == said else names[half:]
    return str(names[0])


def narrowed(document: Any, steps: list[Step], names: list[str]) -> Any:
    """A copy in which the object there has these members only."""
    if not steps:
        return {name: document[name] for name in names}
    copy = document.copy()
    copy[steps[0]] = narrowed(copy[steps[0]], steps[1:], names)
    return copy


def complaint(document: Any, kind: type) -> str:
    try:
        msgspec.convert(document, kind, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        return str(error)
    return ""
