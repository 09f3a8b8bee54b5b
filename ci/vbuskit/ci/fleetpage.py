# SPDX-License-Identifier: MIT
"""A fleet's verdicts as one page: a heat map with the reasons for each cell, and no request to anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from shlex import quote

from markupsafe import Markup
from msgspec import msgpack
from msgspec.structs import replace

from vbuskit.ci.page import embedded, page
from vbuskit.ci.plain import bounded
from vbuskit.migration.fleet import Grid
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Finding, Verdict
from vbuskit.migration.parts import DEVICE, GUEST, HOST
from vbuskit.migration.profile import GuestProfile, HostProfile

MOST_REASONS = 100_000  # cells that are no yes; beyond that a page has verdicts alone
LONGEST = 500  # characters of a name or text
NAMES = {Verdict.YES: "yes", Verdict.IF: "if", Verdict.NO: "no"}  # of CSS classes


@dataclass(slots=True)
class Reasons:
    """Each finding and each list of them once; GUEST, HOST and DEVICE in their texts are put in by the page.

    of_row: of each guest a number of `cases` for each cell that is no yes, in the order of its hosts
    cases:  pairs of a number of `findings` and one of the guest's devices, -1 for none
    """

    findings: dict[tuple[str, str, str, str, str, tuple[str, ...]], int] = field(default_factory=dict)
    cases: dict[tuple[tuple[int, int], ...], int] = field(default_factory=dict)
    of_row: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, found: Grid) -> Reasons:
        reasons = cls()
        guests = [plainly(replace(by_its_name(each), host_name="")) for each in found.guests]
        hosts = [plainly(each) for each in found.hosts]
        known: dict[tuple[bytes, bytes], int] = {}
        for row, guest in enumerate(found.guests):
            own = []
            for column, letter in enumerate(found.letters(row)):
                if letter == "Y":
                    continue
                pair, host = (guests[row], hosts[column]), found.hosts[column]
                if guest.host == host.identity:
                    own.append(reasons.case(guest, host))
                    continue
                if pair not in known:
                    known[pair] = reasons.case(guest, host)
                own.append(known[pair])
            reasons.of_row.append(own)
        return reasons

    def case(self, guest: GuestProfile, host: HostProfile) -> int:
        devices = {each.uuid: number for number, each in enumerate(guest.devices)}
        home = HOST if guest.host_name == host.name else guest.host_name
        marked = replace(by_its_name(guest), name=GUEST, host_name=home)
        found = judge(marked, replace(host, name=HOST)).findings
        case = tuple(
            (self.finding(each), devices.get(each.device, -1) if each.device else -1) for each in found
        )
        return self.cases.setdefault(case, len(self.cases))

    def finding(self, each: Finding) -> int:
        def told(text: str) -> str:
            return bounded(text.replace(str(each.device), str(DEVICE)) if each.device else text, LONGEST)

        remedies = tuple(told(remedy) for remedy in each.remedies)
        words = (
            each.rule,
            NAMES[each.verdict],
            each.side.value,
            told(each.subject),
            told(each.reason),
            remedies,
        )
        return self.findings.setdefault(words, len(self.findings))


def by_its_name(guest: GuestProfile) -> GuestProfile:
    """With a bus that commands call by the guest's name, if that is what it has."""
    return replace(guest, bus=replace(guest.bus, name="")) if guest.bus.name == guest.name else guest


def plainly(profile: GuestProfile | HostProfile) -> bytes:
    """What two have to share to be judged alike, but where a guest is on its own host."""
    return msgpack.encode(replace(profile, name="", captured="-", identity=DEVICE))


def html(found: Grid) -> str:
    script = files("vbuskit.ci").joinpath("templates", "fleet.js").read_text()
    counts = found.counts()
    told = counts[Verdict.IF] + counts[Verdict.NO] <= MOST_REASONS
    reasons = Reasons.of(found) if told else Reasons()
    rows = [bounded(each.name, LONGEST) for each in found.guests]
    letters = [found.letters(number) for number in range(len(rows))]
    data = {
        "rows": rows,
        "columns": [bounded(each.name, LONGEST) for each in found.hosts],
        "letters": letters,
        "quoted": [bounded(quote(each.name), LONGEST) for each in found.guests],
        "devices": [list(devices(each, found.of_hosts)) for each in found.guests],
        "told": told,
        "findings": list(reasons.findings),
        "cases": list(reasons.cases),
        "of": reasons.of_row,
        "marks": [GUEST, HOST, str(DEVICE)],
    }
    return page("fleet.html.j2").render(
        of_hosts=found.of_hosts,
        rows=rows,
        columns=data["columns"],
        letters=letters,
        counts={NAMES[verdict]: count for verdict, count in counts.items()},
        data=embedded(data),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def devices(guest: GuestProfile, made_up: bool) -> Iterator[tuple[str, str]]:
    """What each is called, and its UUID for a command; one that is made up has none."""
    for each in guest.devices:
        uuid = f"UUID-of-{quote(each.klass)}" if made_up else str(each.uuid)
        yield (
            bounded(each.klass if made_up else f"{each.klass} {each.uuid}", LONGEST),
            bounded(uuid, LONGEST),
        )
