# SPDX-License-Identifier: MIT
"""Real situations, judged; `python -m vbuskit.migration.situations` writes docs/gate-situations.md."""

from __future__ import annotations

import copy
import json
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vbuskit.base.places import ROOT
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Finding, Judgement, Verdict
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import parse

DATA = ROOT / "migration" / "tests" / "situations.toml"
PAGE = ROOT / "docs" / "gate-situations.md"
NAMES = ("name", "path", "type")  # of a list's member
BITS = ("active", "groups", "mask", "masks")  # told in hexadecimal
WIDTH = 140

HEAD = """\
# Situations

What happened to users of other software when they moved guests, told as it would be on vbus; each is
a test. A thread is named so that it can be read there: what it says is put in our words, and nothing
but the facts is taken over. `migration/tests/situations.toml` has two profiles, and of each situation
what differs from them. This page is made of it, and of what the judge says:

    .venv/bin/python -m vbuskit.migration.situations

The rules are in [gate.md](gate.md#rules); `./vbuskit gate explain RULE` says more of one.
"""


@dataclass(frozen=True, slots=True)
class Situation:
    """thread: repository#number; there, here: what happened, the same on vbus; guest, host: what differs.

    verdict and rules are what is expected, in the order of the judge; a rule is named once.
    """

    thread: str
    there: str
    here: str
    verdict: Verdict
    rules: tuple[str, ...]
    guest: Mapping[str, Any]
    host: Mapping[str, Any]
    judgement: Judgement


def situations() -> list[Situation]:
    words = tomllib.loads(DATA.read_text())
    return [situation(words["guest"], words["host"], each) for each in words["situation"]]


def situation(guest: dict[str, Any], host: dict[str, Any], words: dict[str, Any]) -> Situation:
    differs = {side: words.get(side, {}) for side in ("guest", "host")}
    raw = {
        "guest": json.dumps(changed(guest, differs["guest"])).encode(),
        "host": json.dumps(changed(host, differs["host"])).encode(),
    }
    found = judge(
        parse(raw["guest"], GuestProfile, words["thread"]), parse(raw["host"], HostProfile, words["thread"])
    )
    return Situation(
        thread=words["thread"],
        there=words["there"],
        here=words["here"],
        verdict=Verdict(words["verdict"]),
        rules=tuple(words["rules"]),
        guest=differs["guest"],
        host=differs["host"],
        judgement=found,
    )


def changed(profile: dict[str, Any], differs: Mapping[str, Any]) -> dict[str, Any]:
    """The document with a value put at each path, and without the members that are left out."""
    made = copy.deepcopy(profile)
    for path, value in differs.items():
        if path != "without":
            *way, last = path.split(" ")
            at(made, way)[last] = value
    for path in differs.get("without", ()):
        *way, last = path.split(" ")
        place = at(made, way)
        del place[index(place, last)]
    return made


def at(place: Any, way: list[str]) -> Any:
    for step in way:
        place = place[index(place, step)] if isinstance(place, list) else place[step]
    return place


def index(members: list[dict[str, Any]], name: str) -> int:
    return next(i for i, each in enumerate(members) if name in [each.get(word) for word in NAMES])


def rules_of(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.rule for finding in findings))


# ---- The page ----


def page(found: list[Situation]) -> str:
    return "\n".join(
        [HEAD, *table(found), "", *(line for i, each in enumerate(found, 1) for line in part(i, each))]
    )


def table(found: list[Situation]) -> Iterator[str]:
    yield "| | thread | verdict | rules |"
    yield "|---|---|---|---|"
    for number, each in enumerate(found, 1):
        rules = ", ".join(f"`{rule}`" for rule in rules_of(each.judgement.findings)) or "none"
        yield f"| [{number}](#{number}) | {each.thread} | {each.judgement.verdict} | {rules} |"


def part(number: int, each: Situation) -> Iterator[str]:
    yield f"## {number}"
    yield ""
    yield from filled(f"{each.thread}: {each.there}")
    yield ""
    yield from filled(each.here)
    yield ""
    for side, differs in (("guest", each.guest), ("host", each.host)):
        for path, value in differs.items():
            yield f"- {side}: {delta(path, value)}"
    if not each.guest and not each.host:
        yield "- nothing differs"
    yield f"- **{each.judgement.verdict}**"
    for rule in rules_of(each.judgement.findings):
        yield from filled(f"- `{rule}`: {told(each, rule)}", "  ")
    yield ""


def told(each: Situation, rule: str) -> str:
    """Reason and remedies of the first of this rule, and of how many more it is said."""
    first, *more = [finding for finding in each.judgement.findings if finding.rule == rule]
    also = f" (and of {len(more)} more)" if more else ""
    remedies = "".join(f" Remedy: {remedy}." for remedy in first.remedies)
    return f"{first.subject}{also}: {first.reason}.{remedies}"


def delta(path: str, value: Any) -> str:
    if path == "without":
        return f"without {', '.join(f'`{each}`' for each in value)}"
    return f"`{path}` = `{shown(value, any(word in BITS for word in path.split(' ')))}`"


def shown(value: Any, bits: bool) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {shown(each, bits)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, bool) or not isinstance(value, int):
        return json.dumps(value)
    return f"{value:#x}" if bits else str(value)


def filled(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text.replace("<", "\\<"),
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    PAGE.write_text(page(situations()))
