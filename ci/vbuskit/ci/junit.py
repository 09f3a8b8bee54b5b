# SPDX-License-Identifier: MIT
"""`out/junit.xml`: a suite per guest, a test case per cell, as Jenkins and GitLab read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from xml.etree import ElementTree as ET

from vbuskit.ci.facts import RunFacts
from vbuskit.ci.plain import bounded, tail
from vbuskit.ci.verdict import by_guest
from vbuskit.compat.cells import Cell, Comparison, Outcome


def junit(facts: RunFacts, cells: Sequence[Cell]) -> bytes:
    root = ET.Element("testsuites", totals(cells) | {"name": "vbuskit"})
    root.extend(suite(facts, guest, group) for guest, group in by_guest(cells).items())
    ET.indent(root)
    return (
        b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode").encode() + b"\n"
    )


def suite(facts: RunFacts, guest: str, cells: Sequence[Cell]) -> ET.Element:
    counted = totals(cells) | {"skipped": str(count(cells, Outcome.SKIPPED))}
    started = facts.started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    element = ET.Element("testsuite", counted | {"name": bounded(guest), "timestamp": started})
    properties = ET.SubElement(element, "properties")
    for name, value in facts_as_properties(facts, guest).items():
        ET.SubElement(properties, "property", {"name": name, "value": bounded(value)})
    element.extend(case(cell) for cell in cells)
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


def case(cell: Cell) -> ET.Element:
    element = ET.Element(
        "testcase",
        {
            "classname": f"vbuskit.{bounded(cell.guest)}",
            "name": bounded(f"{cell.name}: {cell.title}"),
            "time": f"{cell.seconds:.3f}",
        },
    )
    looks = "\n".join(line(look) for look in cell.comparisons)
    if cell.outcome is Outcome.RED:
        failure = ET.SubElement(element, "failure", {"message": bounded(cell.reason), "type": "CellRed"})
        failure.text = f"{bounded(cell.reason)}\n{looks}"
        ET.SubElement(element, "system-out").text = "\n".join(logs(cell))
        return element
    if cell.outcome is Outcome.SKIPPED:
        ET.SubElement(element, "skipped", {"message": bounded(cell.reason or "not tried")})
    ET.SubElement(element, "system-out").text = looks
    return element


def line(look: Comparison) -> str:
    mark = "holds" if look.holds else "DOES NOT HOLD"
    return f"{mark}: {bounded(look.what)}: expected {bounded(look.expected)}, saw {bounded(look.seen)}"


def logs(cell: Cell) -> list[str]:
    return [f"--- {bounded(log.name)}, last lines\n{tail(log) or '(empty or gone)'}" for log in cell.logs]


def totals(cells: Sequence[Cell]) -> dict[str, str]:
    return {
        "tests": str(len(cells)),
        "failures": str(count(cells, Outcome.RED)),
        "errors": "0",
        "time": f"{sum(cell.seconds for cell in cells):.3f}",
    }


def count(cells: Sequence[Cell], outcome: Outcome) -> int:
    return sum(cell.outcome is outcome for cell in cells)
