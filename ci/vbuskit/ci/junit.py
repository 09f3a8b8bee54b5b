# SPDX-License-Identifier: MIT
"""`out/junit.xml`: a suite per guest, a test case per cell, as Jenkins and GitLab read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from xml.etree import ElementTree as ET

from vbuskit.ci.facts import RunFacts
from vbuskit.ci.plain import Room, bounded
from vbuskit.ci.verdict import axes, by_guest, cell_id, standing
from vbuskit.compat.cells import Cell, Comparison, Outcome, Retry


def junit(facts: RunFacts, cells: Sequence[Cell]) -> bytes:
    root = ET.Element("testsuites", totals(facts, cells) | {"name": "vbuskit"})
    room = Room()
    root.extend(suite(facts, guest, group, room) for guest, group in by_guest(cells).items())
    ET.indent(root)
    return (
        b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode").encode() + b"\n"
    )


def suite(facts: RunFacts, guest: str, cells: Sequence[Cell], room: Room) -> ET.Element:
    counted = totals(facts, cells) | {"skipped": str(count(facts, cells, Outcome.SKIPPED))}
    started = facts.started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    element = ET.Element("testsuite", counted | {"name": bounded(guest), "timestamp": started})
    properties = ET.SubElement(element, "properties")
    told = facts_as_properties(facts, guest) | findings(facts, cells)
    for name, value in told.items():
        ET.SubElement(properties, "property", {"name": bounded(name), "value": bounded(value)})
    element.extend(case(facts, cell, room) for cell in cells)
    return element


def facts_as_properties(facts: RunFacts, name: str) -> dict[str, str]:
    guest = facts.guest(name)
    return {
        "version": facts.version,
        "commit": facts.commit + ("-dirty" if facts.dirty else ""),
        "image sha256": guest.image_sha256,
        "kernel": guest.kernel,
        "accelerator": facts.accelerator,
        "host kernel": facts.host.kernel,
        "qemu": facts.host.qemu,
        "libvirt": facts.host.libvirt,
    }


def findings(facts: RunFacts, cells: Sequence[Cell]) -> dict[str, str]:
    """What a test case has no place for: Jenkins refuses properties of its own there."""
    found = {}
    for cell in cells:
        name = f"{cell.name}{axes(cell)}"
        if cell.blame:
            found[f"{name}: blame"] = cell.blame.value
        if cell.retries:
            found[f"{name}: retries"] = str(len(cell.retries))
            found[f"{name}: flaky"] = str(cell.outcome is Outcome.GREEN).lower()
        if cell_id(cell) in facts.quarantine:
            found[f"{name}: quarantine"] = facts.quarantine[cell_id(cell)]
    return found


def outcome_of(facts: RunFacts, cell: Cell) -> Outcome:
    """A red cell that does not count is a skipped test case: a CI server knows only failures that count."""
    aside = standing(cell, facts.informing, facts.quarantine)
    return Outcome.SKIPPED if cell.outcome is Outcome.RED and aside else cell.outcome


def case(facts: RunFacts, cell: Cell, room: Room) -> ET.Element:
    element = ET.Element(
        "testcase",
        {
            "classname": f"vbuskit.{bounded(cell.guest)}",
            "name": bounded(f"{cell.name}{axes(cell)}: {cell.title}"),
            "time": f"{cell.seconds:.3f}",
        },
    )
    looks = "\n".join(line(look) for look in cell.comparisons)
    outcome = outcome_of(facts, cell)
    if outcome is Outcome.RED:
        failure = ET.SubElement(element, "failure", {"message": bounded(cell.reason), "type": blame(cell)})
        failure.text = "\n".join(filter(None, [bounded(cell.reason), *notes(cell), looks]))
        element.extend(earlier("rerunFailure", cell))
        ET.SubElement(element, "system-out").text = "\n".join(logs(cell, room))
        return element
    element.extend(earlier("flakyFailure", cell))
    if outcome is Outcome.SKIPPED:
        aside = standing(cell, facts.informing, facts.quarantine) if outcome is not cell.outcome else ""
        reason = f"{aside}, red: {cell.reason}" if aside else cell.reason
        ET.SubElement(element, "skipped", {"message": bounded(reason or "not tried")})
    ET.SubElement(element, "system-out").text = looks
    return element


def earlier(kind: str, cell: Cell) -> Iterator[ET.Element]:
    """Attempts before the last one, as Maven's surefire writes them."""
    for each in cell.retries:
        if each.outcome is Outcome.RED:
            yield ET.Element(kind, {"message": bounded(each.reason), "type": blame(each)})


def blame(tried: Cell | Retry) -> str:
    return tried.blame or "CellRed"


def notes(cell: Cell) -> list[str]:
    return [*map(bounded, cell.evidence), f"again: {bounded(cell.again)}" if cell.again else ""]


def line(look: Comparison) -> str:
    mark = "holds" if look.holds else "DOES NOT HOLD"
    return f"{mark}: {bounded(look.what)}: expected {bounded(look.expected)}, saw {bounded(look.seen)}"


def logs(cell: Cell, room: Room) -> list[str]:
    ends = ((log.name, room.tail(log)) for log in cell.logs)
    return [
        f"--- {bounded(name)}: no room for it here"
        if end is None
        else f"--- {bounded(name)}, last lines\n{end or '(empty or gone)'}"
        for name, end in ends
    ]


def totals(facts: RunFacts, cells: Sequence[Cell]) -> dict[str, str]:
    return {
        "tests": str(len(cells)),
        "failures": str(count(facts, cells, Outcome.RED)),
        "errors": "0",
        "time": f"{sum(cell.seconds for cell in cells):.3f}",
    }


def count(facts: RunFacts, cells: Sequence[Cell], outcome: Outcome) -> int:
    return sum(outcome_of(facts, cell) is outcome for cell in cells)
