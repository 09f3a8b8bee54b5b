# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from vbuskit.ci import gallery
from vbuskit.ci.junit import junit
from vbuskit.ci.plain import TAILS
from vbuskit.ci.verdict import cell_id
from vbuskit.compat.cells import Blame, Cell, Outcome, Retry

# Element -> attributes it must have, attributes it may have, children in the order that Ant's schema wants.
# The schema of Jenkins' xunit plugin (junit-10.xsd) allows all of it, and refuses what it does not know.
SCHEMA = {
    "testsuites": ({"tests", "failures"}, {"name", "time", "errors", "disabled"}, ["testsuite"]),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        set(),
        ["properties", "testcase"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": (
        {"name", "classname", "time"},
        set(),
        ["skipped", "failure", "flakyFailure", "rerunFailure", "system-out"],
    ),
    "skipped": ({"message"}, set(), []),
    "failure": ({"message", "type"}, set(), []),
    "flakyFailure": ({"message", "type"}, set(), []),
    "rerunFailure": ({"message", "type"}, set(), []),
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


def test_a_run_that_is_red_all_over_has_a_file_that_a_server_takes(out: Path) -> None:
    logs = [out / "logs" / f"{number}.log" for number in range(30)]
    for log in logs:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{'x' * 400}\n" * 60)
    cells = [Cell(f"c{number}", "", "guest", Outcome.RED, reason="no", logs=logs) for number in range(20)]
    text = junit(gallery.facts(out), cells).decode()
    assert text.count("x" * 400) >= 80 * 60 and len(text) < TAILS + 500_000
    assert text.count("29.log: no room for it here") >= 15


def test_blame_and_earlier_attempts_are_where_ci_servers_read_them(out: Path) -> None:
    facts, cells = gallery.matrix(out, gallery.LATEST)
    kill = next(cell for cell in cells if cell_id(cell) == "debian-13/kill")
    kill.retries = [Retry(Outcome.RED, 9.0, "late", Blame.TIMEOUT), Retry(Outcome.SKIPPED, 0.1, "away")]
    root = ET.fromstring(junit(facts, cells))
    conforms(root)
    case = root.find(".//testcase[@name='kill: A killed worker loses nothing']/failure/..")
    assert case is not None
    failure, again = case[0], case[1]
    assert (failure.get("type"), again.tag, again.get("type")) == ("product", "rerunFailure", "timeout")
    assert "the host was idle\nagain: ./vbuskit matrix run --guest debian-13 --only kill" in str(
        failure.text
    )
    flaky = root.findall(".//flakyFailure")
    assert {each.get("message") for each in flaky} == {"libvirtd: end of file from the monitor"}
    told = {each.get("name"): each.get("value") for each in root.iter("property")}
    assert (told["kill: blame"], told["kill: retries"], told["kill: flaky"]) == ("product", "2", "false")
    assert (told["transfer: retries"], told["transfer: flaky"]) == ("1", "true")
    assert str(told["sleep: quarantine"]).startswith("owner kernel")


def test_a_red_cell_that_does_not_count_is_skipped_and_says_so(out: Path) -> None:
    root = ET.fromstring(junit(*gallery.matrix(out, gallery.LATEST)))
    assert root.get("failures") == "2"
    messages = {str(each.get("message")) for each in root.iter("skipped")}
    assert "quarantined, red: the clock stood still" in messages
    assert "informing, red: no AF_XDP there: exit code 1" in messages


def test_a_cell_off_the_usual_axes_has_a_name_of_its_own(out: Path) -> None:
    cells = [Cell("kill", "Kill", "guest", Outcome.GREEN, axes=axes) for axes in ({}, {"drivers": "0.1"})]
    names = [each.get("name") for each in ET.fromstring(junit(gallery.facts(out), cells)).iter("testcase")]
    assert names == ["kill: Kill", "kill[drivers=0.1]: Kill"]


def test_every_character_there_is_still_gives_xml(out: Path) -> None:
    everything = "".join(map(chr, [*range(0x300), *range(0xD7F0, 0xE010), *range(0xFFF0, 0x10010)]))
    log = out / "log"
    log.parent.mkdir(parents=True)
    log.write_bytes(bytes(range(256)) * 40)
    look = gallery.same(everything, everything)
    cell = Cell(everything, everything, everything, Outcome.RED, 1.0, everything, [look], [log])
    cell.axes, cell.evidence, cell.again = {everything: everything}, [everything], everything
    cell.blame, cell.retries = Blame.IMAGE, [Retry(Outcome.RED, 1.0, everything)]
    conforms(ET.fromstring(junit(gallery.facts(out), [cell])))


def test_a_run_without_cells_is_an_empty_list(out: Path) -> None:
    root = ET.fromstring(junit(gallery.facts(out), []))
    assert (root.get("tests"), len(root)) == ("0", 0)
