# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.errors import Blocked, Exit, Refused, VbuskitError
from vbuskit.ci import cli, gallery, results
from vbuskit.ci.compare import Earlier
from vbuskit.ci.facts import Guest, Host, RunFacts
from vbuskit.ci.history import Past
from vbuskit.ci.page import LETTERS, Bars, duration, html, size
from vbuskit.ci.plain import Room
from vbuskit.ci.report import write_report
from vbuskit.ci.verdict import cell_id, judge
from vbuskit.compat.cells import Blame, Cell, Outcome, Retry

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """What a browser would see: balanced elements, their attributes, the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return gallery.places(tmp_path).out


@pytest.fixture
def mixed(out: Path) -> Page:
    return Page(html(out, gallery.facts(out), gallery.cells(out)))


@pytest.fixture(autouse=True)
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where these tests run as a step of a CI job, its summary stays theirs."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_all_files_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    places = gallery.places(tmp_path)
    write_report(places, gallery.facts(places.out), gallery.cells(places.out))
    names = {path.name for path in places.out.iterdir()}
    assert {"results.json", "report.html", "junit.xml", "summary.md"} <= names
    assert (places.state / "history.sqlite").is_file()
    assert not [path for path in places.out.iterdir() if path.name.startswith(".")]


def test_the_page_says_the_verdict_and_every_outcome_in_words(mixed: Page) -> None:
    assert "2 of 7 cells did not hold, 1 skipped; the run was interrupted." in mixed.text
    assert all(word in mixed.text for word in ("4 green", "1 red", "1 interrupted", "1 skipped"))
    assert "epoch after the kill: expected 2, saw 1" in mixed.text


def test_what_is_red_is_open_and_the_rest_is_closed(mixed: Page) -> None:
    open_ones = [each["class"] for each in mixed.all("details") if "open" in each]
    assert open_ones == ["red", "interrupted"]


def test_the_page_asks_for_nothing_outside_itself(mixed: Page) -> None:
    assert not {tag for tag, _ in mixed.elements} & {"img", "link", "iframe", "object", "base"}
    assert [set(each) for each in mixed.all("script")] == [{"type", "id"}, set()]
    assert all(str(each["href"]).startswith(("./", "#c")) for each in mixed.all("a"))
    assert mixed.all("html") == [{"lang": "en"}]


def test_a_guest_cannot_write_markup_or_terminal_sequences_into_the_page(mixed: Page) -> None:
    assert "<script>alert('guest')</script> & ]]>" in mixed.text
    assert "\x1b" not in mixed.text and "\x00" not in mixed.text and "\u202e" not in mixed.text


def test_hostile_text_in_every_field_stays_text(out: Path) -> None:
    bad = "\"'><script>\x00\x1b[2J\ud800"
    cell = Cell(bad, bad, bad, Outcome.RED, 1.0, bad, [gallery.same(bad, bad)], [out / "<b>.log"])
    facts = dataclasses.replace(
        gallery.facts(out), guests=(Guest(name=bad, kernel=bad),), commit=bad, version=bad
    )
    cell.evidence, cell.again, cell.axes = [bad], bad, {bad: bad}
    cell.retries = [Retry(Outcome.RED, 1.0, bad, Blame.PRODUCT)]
    facts = dataclasses.replace(facts, quarantine={cell_id(cell): bad})
    past = [Earlier("</script>" + bad, "tcg", {cell_id(cell): Past(Outcome.GREEN, 1.0)})]
    text = html(out, facts, [cell], past)
    assert len(Page(text).all("script")) == 2
    text.encode()  # no lone surrogate is left


def test_links_lead_to_the_logs_and_artifacts(mixed: Page, out: Path) -> None:
    links = {str(each["href"]) for each in mixed.all("a")}
    assert "./logs/serial%3A%20debian-12.log" in links and "./vbuskit-0.1.0.iso" in links
    assert "gone.log is gone" in mixed.text


def test_every_table_has_headers_with_a_scope(mixed: Page) -> None:
    assert all(each.get("scope") in ("col", "row") for each in mixed.all("th"))


def test_several_guests_have_a_heading_each(out: Path) -> None:
    cells = [Cell("boot", "Boots", guest, Outcome.GREEN) for guest in ("one", "two", "one")]
    cells[2].axes = {"drivers": "0.1"}
    page = Page(html(out, gallery.facts(out), cells))
    headings = [each for each in page.all("h2") if str(each["id"]).startswith("lane")]
    assert len(headings) == 3
    assert "one, drivers 0.1" in page.text


def test_every_cell_is_a_letter_in_the_matrix_that_leads_to_its_details(mixed: Page) -> None:
    spots = [each for each in mixed.all("a") if str(each["href"]).startswith("#")]
    details = {each["id"] for each in mixed.all("li") if "id" in each}
    assert (
        [str(each["href"])[1:] for each in spots] == sorted(map(str, details)) == [f"c{n}" for n in range(7)]
    )
    assert spots[4]["aria-label"] == "debian-12/kill: red"
    assert len(set(LETTERS.values())) == len(LETTERS)


def test_a_red_cell_says_what_it_is_put_down_to_and_how_it_is_tried_again(out: Path) -> None:
    page = Page(html(out, *gallery.matrix(out, gallery.LATEST)))
    assert "Put down to: product" in page.text and "the host was idle" in page.text
    assert "./vbuskit matrix run --guest debian-13 --only kill" in page.text


def test_a_retry_is_shown_as_one_also_when_the_cell_is_green(out: Path) -> None:
    page = Page(html(out, *gallery.matrix(out, gallery.LATEST)))
    assert "2 tried again" in page.text and "attempt 2" in page.text
    assert "red after 31.2 s, infrastructure: libvirtd: end of file from the monitor" in page.text
    spots = [str(each.get("aria-label")) for each in page.all("a")]
    assert "debian-12/transfer: green, attempt 2" in spots


def test_what_does_not_count_is_apart_and_says_why(out: Path) -> None:
    page = Page(html(out, *gallery.matrix(out, gallery.LATEST)))
    assert "In quarantine: owner kernel, until 2025-04-01: it wakes without its clock." in page.text
    assert "1 in quarantine did not hold" in page.text
    spots = {str(each.get("aria-label")): str(each.get("class")) for each in page.all("a")}
    assert spots["debian-sid/sleep: red, product, quarantined"] == "red aside"
    assert spots["debian-11/xdp: red, guest image, informing"] == "red aside"
    guests = list(dict.fromkeys(said.partition("/")[0] for said in spots if "/" in said))
    assert guests[-1] == gallery.INFORMING  # though it was tried first


def test_logs_are_in_the_page_up_to_a_bound_and_links_beyond(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, cells = gallery.facts(out), gallery.cells(out)
    assert html(out, facts, cells).count('class="log"') == 2  # of red ones only; one is gone
    monkeypatch.setattr("vbuskit.ci.page.Room", lambda: Room(1))
    assert html(out, facts, cells).count('class="log"') == 1


def test_how_a_cell_fared_is_drawn_and_said() -> None:
    past = [Past(Outcome.GREEN, 2.0), Past(Outcome.RED, 9.0), Past(Outcome.GREEN, 1.0)]
    bars = Bars.of([*past, Past(Outcome.SKIPPED, 0.0)])
    assert bars.said == "earlier: 2 green, 1 red, 1 skipped"
    assert bars.paths["green"] == "M2 12v-11M12 12v-6"
    assert bars.paths["red"] == "M7 12v6"  # hangs down: not by its colour alone


def test_a_run_that_broke_early_has_a_page_all_the_same(out: Path) -> None:
    facts = RunFacts(
        version="0.1.0",
        commit="",
        dirty=False,
        host=Host(system="", kernel="", qemu="", libvirt=""),
        accelerator="",
        started=datetime(2025, 3, 9, tzinfo=UTC),
    )
    text = Page(html(out, facts, [])).text
    assert "Nothing was tried." in text and "The run ended before its first cell." in text


def test_red_cells_of_guests_that_do_not_count_are_told_and_fail_nothing() -> None:
    cells = [Cell("x", "X", "new", Outcome.RED), Cell("x", "X", "old", Outcome.GREEN)]
    assert judge(cells, ["new"]).line == "The only cell holds; 1 of informing guests did not hold."
    alone = judge(cells[:1], ["new"])
    said = "Nothing that counts was tried; 0 of 1 other cells hold; 1 of informing guests did not hold."
    assert alone.line == said
    skipped = Cell("y", "Y", "new", Outcome.SKIPPED)
    assert judge([*cells[1:], skipped], ["new"]).line == "The only cell holds."
    assert judge(cells[1:], ["old"]).line == "Nothing that counts was tried; 1 of 1 other cells hold."
    assert alone.exit_code == Exit.SKIPPED


@pytest.mark.parametrize(
    ("outcomes", "verdict", "code"),
    [
        ("", "skipped", Exit.SKIPPED),
        ("s", "skipped", Exit.SKIPPED),
        ("g", "green", Exit.OK),
        ("gs", "green", Exit.OK),
        ("gr", "red", Exit.FAILED),
        ("rs", "red", Exit.FAILED),
    ],
)
def test_the_verdict_is_green_only_when_something_was_tried_and_all_of_it_holds(
    outcomes: str, verdict: str, code: Exit
) -> None:
    kinds = {"g": Outcome.GREEN, "r": Outcome.RED, "s": Outcome.SKIPPED}
    judged = judge([Cell("x", "X", "guest", kinds[letter]) for letter in outcomes])
    assert (judged.outcome, judged.exit_code) == (verdict, code)


def test_results_read_back_are_what_was_written(out: Path) -> None:
    facts, cells = gallery.facts(out), gallery.cells(out)
    assert results.decode(out, results.encode(out, facts, cells)) == (facts, cells)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "facts": {}, "cells": []}', "\x00", '{"schema": 1}'],
)
def test_anything_else_in_place_of_the_results_is_refused(text: str, out: Path) -> None:
    with pytest.raises(Refused, match=r"results\.json"):
        results.decode(out, text)


def places_in(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inside: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = list(enumerate(value))[:1]
    for key, each in inside:
        yield from places_in(each, (*path, key))


def test_whatever_stands_in_the_results_there_is_a_page_or_they_are_refused(out: Path) -> None:
    facts, cells = gallery.matrix(out, gallery.LATEST)
    red = next(cell for cell in cells if cell.outcome is Outcome.RED and cell.comparisons)
    text = results.encode(out, facts, [red])
    for path in places_in(json.loads(text)):
        for wrong in (5, None, "x", [], {}, [5], {"a": 5}, float("inf")):
            document = [json.loads(text)]
            *way, last = (0, *path)
            inner: Any = document
            for key in way:
                inner = inner[key]
            inner[last] = wrong
            with suppress(Refused):
                html(out, *results.decode(out, json.dumps(document[0])))


def test_results_with_an_unknown_outcome_are_refused(out: Path) -> None:
    document = json.loads(results.encode(out, gallery.facts(out), gallery.cells(out)))
    document["cells"][0]["outcome"] = "purple"
    with pytest.raises(Refused, match="purple"):
        results.decode(out, json.dumps(document))


@pytest.mark.parametrize(
    "log", ["../secret", "{secret}", "logs/../../secret", "logs/link", "logs/folder/secret"]
)
def test_a_log_that_leads_out_of_the_runs_folder_is_refused_and_shown_to_nobody(
    log: str, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = out.parent / "secret"
    secret.write_text("hunter2")
    (out / "logs").mkdir(parents=True)
    (out / "logs/link").symlink_to(secret)
    (out / "logs/folder").symlink_to(secret.parent)
    document = json.loads(results.encode(out, gallery.facts(out), gallery.cells(out)))
    red = next(cell for cell in document["cells"] if cell["outcome"] == "red")
    red["logs"] = [log.format(secret=secret)]
    (out / "results.json").write_text(json.dumps(document))
    assert cli.main(["report", "--out", str(out)]) == Exit.REFUSED
    assert "lies outside" in capfd.readouterr().err
    assert not (out / "report.html").exists()


def test_the_logs_of_a_folder_that_is_reached_by_a_link_lie_in_it(out: Path) -> None:
    link = out.parent / "link"
    link.symlink_to(out)
    facts, cells = gallery.facts(out), gallery.cells(out)
    results.decode(link, results.encode(out, facts, cells))


def test_the_report_is_written_again_also_after_the_folder_moved(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = gallery.places(tmp_path)
    monkeypatch.setenv("VBUSKIT_STATE", str(places.state))
    write_report(places, gallery.facts(places.out), gallery.cells(places.out))
    moved = places.out.rename(tmp_path / "moved")
    before = {name: (moved / name).read_bytes() for name in ("report.html", "junit.xml", "summary.md")}
    for name in before:
        (moved / name).unlink()
    assert cli.main(["report", "--out", str(moved)]) == Exit.OK
    assert {name: (moved / name).read_bytes() for name in before} == before
    assert "report.html: red: 2 of 7" in capfd.readouterr().out


def test_without_results_the_report_says_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="no results yet") as caught:
        results.read(tmp_path)
    assert "./vbuskit run" in str(caught.value.hint)


def test_a_start_without_a_time_zone_is_refused(out: Path) -> None:
    with pytest.raises(VbuskitError, match="time zone"):
        dataclasses.replace(gallery.facts(out), started=datetime(2025, 3, 9))


def test_durations_and_sizes_read_well() -> None:
    assert [duration(each) for each in (0.04, 59.94, 59.97, 185)] == [
        "0.0 s",
        "59.9 s",
        "1 min 00 s",
        "3 min 05 s",
    ]
    assert [size(each) for each in (12, 3482, 5_872_026)] == ["12 B", "3.4 KiB", "5.6 MiB"]


def test_a_history_that_cannot_be_written_is_said_and_spoils_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = gallery.places(tmp_path)
    (places.state / "history.sqlite").mkdir(parents=True)
    write_report(places, gallery.facts(places.out), gallery.cells(places.out))
    assert "history.sqlite: it cannot be opened" in capsys.readouterr().err
    assert (places.out / "report.html").is_file()


def test_github_is_shown_the_summary_after_what_the_step_wrote_before(tmp_path: Path) -> None:
    places = gallery.places(tmp_path)
    step = tmp_path / "step.md"
    step.write_text("before\n")
    environ = {"GITHUB_STEP_SUMMARY": str(step)}
    write_report(places, gallery.facts(places.out), gallery.cells(places.out), environ)
    assert step.read_text() == "before\n" + (places.out / "summary.md").read_text()


def test_a_step_summary_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = gallery.places(tmp_path)
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "none" / "step.md")}
    write_report(places, gallery.facts(places.out), gallery.cells(places.out), environ)
    assert "$GITHUB_STEP_SUMMARY" in capsys.readouterr().err


def test_the_report_compares_with_the_run_before_and_with_any_other_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places, other = gallery.places(tmp_path / "one"), gallery.places(tmp_path / "two")
    monkeypatch.setenv("VBUSKIT_STATE", str(places.state))
    write_report(other, *gallery.matrix(other.out, 12))
    for hour in (gallery.LATEST - 1, gallery.LATEST):
        write_report(places, *gallery.matrix(places.out, hour))
    assert cli.main(["report", "--out", str(places.out)]) == Exit.OK
    said = "against 2025-03-10 03:05 UTC, 0.1.0, 679d650f, TCG: 2 became red, 2 slower"
    assert said in capsys.readouterr().out
    words = ["report", "--out", str(places.out), "--compare", str(other.out)]
    assert cli.main(words) == Exit.OK
    said = "against 2025-03-10 02:05 UTC, 0.1.0, 679d650f, TCG: 2 became red, 1 became green, 2 slower"
    assert said in capsys.readouterr().out
    assert "2025-03-10 02:05 UTC" in (places.out / "summary.md").read_text()
