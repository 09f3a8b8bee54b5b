# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from vbuskit.ci import gallery
from vbuskit.ci.junit import junit
from vbuskit.compat.cells import Cell, Outcome

# Element -> attributes it must have, attributes it may have, children in the schema's order.
SCHEMA = {
    "testsuites": ({"tests", "failures"}, {"name", "time", "errors", "disabled"}, ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        set(),
        ["properties", "testcase"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name", "classname", "time"}, set(), ["skipped", "failure", "system-out"]),
    "skipped": ({"message"}, set(), []),
    "failure": ({"message", "type"}, set(), []),
    "system-out": (set(), set(), []),
}


def conforms(element: ET.Element) -> None:
    must, may, children = SCHEMA[element.tag]
    assert must <= set(element.attrib) <= must | may
    order = [children.index(child.tag) for child in element]
    assert order == sorted(order)
    for child in element:
        conforms(child)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return gallery.places(tmp_path).out


@pytest.fixture
def mixed(out: Path) -> ET.Element:
    return ET.fromstring(junit(gallery.facts(out), gallery.cells(out)))


def test_the_file_has_the_shape_that_ci_servers_read(mixed: ET.Element) -> None:
    conforms(mixed)
    suite = mixed[0]
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["7", "2", "0", "1"]
    assert suite.get("timestamp") == "2025-03-09T14:05:00"


def test_commit_image_and_kernel_are_properties(mixed: ET.Element) -> None:
    named = {each.get("name"): each.get("value") for each in mixed.iter("property")}
    assert str(named["commit"]).endswith("-dirty")
    assert (named["image sha256"], named["kernel"]) == ("5f" * 32, "6.1.0-31-cloud-amd64")


def test_a_failure_has_the_reason_and_what_was_compared(mixed: ET.Element) -> None:
    failure = mixed.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "epoch after the kill: expected 2, saw 1"
    assert "DOES NOT HOLD: epoch after the kill: expected 2, saw 1" in str(failure.text)


def test_the_end_of_a_log_comes_with_the_failure(mixed: ET.Element) -> None:
    texts = [str(each.text) for each in mixed.iter("system-out")]
    assert any("<script>alert('guest')</script>" in text for text in texts)
    assert any("gone.log, last lines\n(empty or gone)" in text for text in texts)


def test_every_character_there_is_still_gives_xml(out: Path) -> None:
    everything = "".join(map(chr, [*range(0x300), *range(0xD7F0, 0xE010), *range(0xFFF0, 0x10010)]))
    log = out / "log"
    log.parent.mkdir(parents=True)
    log.write_bytes(bytes(range(256)) * 40)
    look = gallery.same(everything, everything)
    cell = Cell(everything, everything, everything, Outcome.RED, 1.0, everything, [look], [log])
    conforms(ET.fromstring(junit(gallery.facts(out), [cell])))


def test_a_run_without_cells_is_an_empty_list(out: Path) -> None:
    root = ET.fromstring(junit(gallery.facts(out), []))
    assert (root.get("tests"), len(root)) == ("0", 0)
