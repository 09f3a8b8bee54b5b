# SPDX-License-Identifier: MIT
"""The page of a fleet's verdicts in a real browser, with keys and clicks that come from outside the page."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from vbuskit.base import artifact
from vbuskit.ci import fleetpage, gallery
from vbuskit.ci.browser import Browser, Tab
from vbuskit.ci.fleetpage import html
from vbuskit.migration import judge
from vbuskit.migration.baseline import consumer
from vbuskit.migration.fleet import Grid, between, grid

AT = "document.getElementById(grid.getAttribute('aria-activedescendant'))"
CELLS = "[...document.querySelectorAll('[role=gridcell]')]"
BOXES = (
    f"{CELLS}.map((each) => each.getBoundingClientRect())"
    ".map((box) => [box.x, box.y, box.width, box.height])"
)
WHY = "document.getElementById('why')"


@pytest.fixture(scope="module")
def fleet() -> Grid:
    return between(gallery.fleet(200))


@pytest.fixture(scope="module")
def page(fleet: Grid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact.write(tmp_path_factory.mktemp("fleet") / "fleet.html", html(fleet)).path


def data_of(text: str) -> dict[str, Any]:
    class Data(HTMLParser):
        inside, said = False, ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = ("id", "data") in attrs

        def handle_data(self, data: str) -> None:
            self.said += data if self.inside else ""

    parser = Data()
    parser.feed(text)
    found: dict[str, Any] = json.loads(parser.said)
    return found


def test_the_cells_of_two_hundred_hosts_are_large_enough_and_none_lies_on_another(
    tab: Tab, page: Path
) -> None:
    tab.visit(page)
    boxes = tab.run(BOXES)
    assert len(boxes) > 300
    assert all(width >= 20 and height >= 20 for _, _, width, height in boxes)
    places = sorted((y, x) for x, y, _, _ in boxes)
    for (top, left), (below, right) in pairwise(places):
        assert (below == top and right >= left + 22) or below >= top + 22
    assert tab.run(f"{CELLS}.every((each) => parseFloat(getComputedStyle(each).fontSize) >= 12)")
    assert tab.run(f"{CELLS}.every((each) => each.scrollWidth <= each.clientWidth)")


@pytest.mark.parametrize("side", ["heads", "names"])
def test_each_name_is_whole_and_stands_at_its_cells(tab: Tab, page: Path, side: str) -> None:
    tab.visit(page)
    every = f"[...document.querySelectorAll('#{side} > *')]"
    assert tab.run(f"{every}.every((each) => each.scrollWidth <= each.clientWidth + 1)")
    assert tab.run(f"{every}.every((each) => each.scrollHeight <= each.clientHeight + 1)")
    x = "x" if side == "heads" else "y"
    placed = tab.run(
        f"{every}.map((each) => [each.textContent, Math.round(each.getBoundingClientRect().{x})])"
    )
    steps = {after[1] - before[1] for before, after in pairwise(placed)}
    assert (steps, placed[0][0], placed[1][0]) == ({24}, "rack01-node01", "rack01-node02")
    first = tab.run(f"{CELLS}[0].getBoundingClientRect().{x}")
    assert abs(first - placed[0][1]) <= 2


def test_a_cell_in_view_says_the_verdict_of_its_guest_and_host(tab: Tab, page: Path, fleet: Grid) -> None:
    tab.visit(page)
    tab.run("grid.scrollTo(24 * 120, 24 * 90)")
    tab.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seen = tab.run(f"{CELLS}.map((each) => [each.id, each.textContent, each.className, each.ariaLabel])")
    assert any(name == "c95-125" for name, *_ in seen)
    for name, letter, kind, label in seen:
        row, column = (int(each) for each in name[1:].split("-"))
        verdict = fleet.verdict(row, column)
        assert (letter, kind) == (fleet.letters(row)[column], fleetpage.NAMES[verdict])
        assert label == f"{fleet.guests[row].name} to {fleet.hosts[column].name}: {verdict}"


def test_arrows_move_from_cell_to_cell_and_the_view_follows(tab: Tab, page: Path) -> None:
    tab.visit(page)
    assert tab.run("document.activeElement.id") == "grid"
    tab.press("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft")
    assert tab.run(f"{AT}.id") == "c1-1"
    tab.press("End", *["PageDown"] * 19)
    assert tab.run(f"{AT}.id") == "c191-199"
    inside = (
        f"(() => {{ const cell = {AT}.getBoundingClientRect(), box = grid.getBoundingClientRect();"
        " return cell.left >= box.left && cell.right <= box.right && cell.top >= box.top"
        " && cell.bottom <= box.bottom })()"
    )
    assert tab.run(inside)
    assert tab.run(f"getComputedStyle({AT}).outlineStyle") == "solid"
    tab.press("ArrowRight", *["ArrowDown"] * 12)
    assert tab.run(f"{AT}.id") == "c199-199"  # nothing wraps round
    tab.press("Home", *["PageUp"] * 20)
    assert tab.run(f"{AT}.id") == "c0-0"
    assert tab.run("[grid.scrollTop, grid.scrollLeft]") == [0, 0]


def test_enter_opens_the_reasons_and_remedies_of_a_cell_and_escape_goes_back(
    tab: Tab, page: Path, fleet: Grid
) -> None:
    tab.visit(page)
    tab.press("n")  # the next that is no yes
    row, column = (int(each) for each in tab.run(f"{AT}.id")[1:].split("-"))
    tab.press("Enter")
    assert tab.run("document.activeElement.id") == "title"
    said = tab.run(f"{WHY}.innerText")
    findings = judge(fleet.guests[row], fleet.hosts[column]).findings
    assert findings
    for each in findings:
        assert each.subject in said and each.rule in said and each.side in said
        assert each.reason in said
        for remedy in each.remedies:  # of a device that is made up the class stands for its UUID
            klass = next((one.klass for one in fleet.guests[row].devices if one.uuid == each.device), "")
            assert remedy.replace(str(each.device), f"UUID-of-{klass}") in said
    tab.press("Escape", "ArrowDown")
    assert tab.run("document.activeElement.id") == "grid"
    assert tab.run(f"{AT}.id") == f"c{row + 1}-{column}"
    tab.press("Home", "Enter")
    assert "Nothing is against it." in tab.run(f"{WHY}.innerText")


def test_who_uses_keys_sees_where_they_go(tab: Tab, page: Path) -> None:
    tab.visit(page)
    shown = "[document.querySelector('.fleet'), why].map((each) => getComputedStyle(each).outlineStyle)"
    tab.press("ArrowDown")
    assert tab.run(shown) == ["solid", "none"]
    tab.press("Enter")
    assert tab.run(shown) == ["none", "solid"]
    tab.press("Escape", "/")
    assert tab.run(shown) == ["none", "none"]


def test_a_word_that_is_yet_being_composed_is_not_left_by_enter(tab: Tab, page: Path) -> None:
    tab.visit(page)
    tab.press("/")
    tab.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    assert tab.run("document.activeElement.name") == "from"


def test_a_click_opens_a_cell_and_one_on_the_overview_goes_there(tab: Tab, page: Path) -> None:
    tab.visit(page)
    tab.click("#c2-3")
    assert tab.run("title.textContent").endswith("rack01-node03 to rack01-node04: yes-if")
    tab.click("#map")
    assert tab.run(f"{AT}.id") in {f"c{row}-{column}" for row in (99, 100) for column in (99, 100)}


def test_a_name_is_searched_for_on_either_side(tab: Tab, page: Path) -> None:
    tab.visit(page)
    tab.press("/")
    assert tab.run("document.activeElement.name") == "from"
    tab.press(*"RACK03")
    assert tab.run("count.value") == "20 by 200 of 200 by 200"
    tab.press("Tab", *"04 node20")
    assert tab.run("count.value") == "20 by 1 of 200 by 200"
    tab.press("Enter")
    assert tab.run("document.activeElement.id") == "grid"
    assert tab.run(f"{AT}.ariaLabel").startswith("rack03-node01 to rack04-node20: ")
    assert tab.run("[...document.querySelectorAll('#heads > *')].map((each) => each.textContent)") == [
        "rack04-node20"
    ]
    tab.press("x")
    assert tab.run("count.value") == "200 by 200 of 200 by 200"
    tab.press("/", *"nowhere")
    assert "No name has these letters." in tab.run("grid.innerText")
    tab.press("Enter", "Enter", "n", "ArrowDown")
    assert tab.events("Runtime.exceptionThrown") == []


def test_reasons_are_those_of_the_cell_that_is_seen_after_a_search(
    tab: Tab, page: Path, fleet: Grid
) -> None:
    tab.visit(page)
    letters = fleet.letters(35)
    column = next(place for place in range(200) if letters[place] == "?" and "N" in letters[:place])
    assert "Y" in letters[:column]
    guest, host = fleet.guests[35], fleet.hosts[column]
    tab.press("/", *guest.name, "Tab", *host.name, "Enter", "Enter")
    findings = judge(guest, host).findings
    said = tab.run(f"{WHY}.innerText")
    assert [each.subject for each in findings if each.subject not in said] == []
    assert said.count("destination") == len(findings)


def test_every_cell_has_the_judges_reasons(fleet: Grid) -> None:
    some = between(gallery.fleet(200)[::9])
    data = data_of(html(some))
    names = [consumer(each).name for each in some.hosts]
    assert data["rows"] == data["columns"] == names
    for row, guest in enumerate(some.guests):
        cases = iter(data["of"][row])
        for column, host in enumerate(some.hosts):
            if some.letters(row)[column] == "Y":
                continue
            case = data["cases"][next(cases)]
            found = [data["findings"][number] for number, _ in case]
            judged = judge(guest, host).findings
            assert [each[0] for each in found] == [each.rule for each in judged]
            assert [each[3] for each in found] == [each.subject for each in judged]
            mark = data["marks"][1]
            assert [each[4].replace(mark, host.name) for each in found] == [each.reason for each in judged]


def test_reasons_know_a_guests_own_host_and_its_bus_by_their_names() -> None:
    first, second, *_ = gallery.fleet(60)
    guest = consumer(first)
    named = replace(guest, host_name=first.name, bus=replace(guest.bus, name=guest.name))
    hosts = [replace(first, classes=()), replace(second, mask={"venet": {0: 0x4F}})]
    plain, told = (fleetpage.Reasons.of(grid([each], hosts)) for each in (guest, named))
    assert plain.findings == told.findings and "same-host" in {rule for rule, *_ in told.findings}


def test_guests_have_rows_with_the_uuids_of_their_devices(tab: Tab, tmp_path: Path) -> None:
    hosts = gallery.fleet(60)
    guests = [
        replace(
            consumer(hosts[number]),
            name=f"vm{number}",
            devices=tuple(
                replace(each, uuid=UUID(int=100 * number + place))
                for place, each in enumerate(consumer(hosts[number]).devices)
            ),
        )
        for number in range(3)
    ]
    page = artifact.write(tmp_path / "guests.html", html(grid(guests, hosts))).path
    tab.visit(page)
    tab.press("ArrowDown", "ArrowDown", "n", "Enter")
    assert tab.run("title.textContent").endswith("vm2 to rack01-node04: yes-if")
    assert str(UUID(int=201)) in tab.run(f"{WHY}.innerText")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_verdicts_are_told_by_letters_and_by_brightness_and_not_by_hue_alone(
    tab: Tab, page: Path, theme: str
) -> None:
    tab.prefer(theme)
    tab.visit(page)
    found = {
        letter: tab.run(
            f"(() => {{ const style = getComputedStyle(document.querySelector('.key.{kind}'));"
            " return [style.color, style.backgroundColor] })()"
        )
        for letter, kind in (("Y", "yes"), ("?", "if"), ("N", "no"))
    }
    assert [letter for letter, pair in found.items() if contrast(*pair) < 4.5] == []
    yes, maybe, no = (brightness(found[letter][1]) for letter in "Y?N")
    assert (yes > maybe > no) if theme == "light" else (yes < maybe < no)
    behind = [found[letter][1] for letter in "Y?N"]
    assert min(contrast(behind[0], behind[1]), contrast(behind[1], behind[2])) > 1.3
    assert contrast(behind[0], behind[2]) > 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_and_reasons_stand_out(tab: Tab, page: Path, theme: str) -> None:
    tab.prefer(theme)
    tab.visit(page)
    tab.press("n", "Enter")
    pairs = tab.run(
        "[...document.querySelectorAll('#why *, #names *, .corner, header *, .tools *')].filter((each) =>"
        " each.checkVisibility() && each.textContent.trim()).map((each) => {"
        " let at = each; while (at && getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)')"
        " at = at.parentElement; return [getComputedStyle(each).color,"
        " getComputedStyle(at ?? document.body).backgroundColor, each.className] })"
    )
    assert len(pairs) > 20
    assert [each for each in pairs if contrast(each[0], each[1]) < 4.5] == []


def test_the_colours_change_with_a_key(tab: Tab, page: Path) -> None:
    tab.prefer("light")
    tab.visit(page)
    tab.press("t", "t")
    assert tab.run("theme.textContent") == "Colours: dark"
    assert brightness(tab.run("getComputedStyle(document.body).backgroundColor")) < 0.05
    tab.press("t")


def test_names_from_profiles_stay_text(tab: Tab, tmp_path: Path) -> None:
    bad = "\"'><img src=x onerror=window.bad=1></script><script>window.bad=1</script>&lt;$&\u2028\x1b[0m"
    hosts = [replace(each, name=f"{bad}{each.name}", qemu=bad) for each in gallery.fleet(20)]
    hosts[0] = replace(hosts[0], machines=(f"{bad}-9.9",))
    page = artifact.write(tmp_path / "bad.html", html(between(hosts))).path
    tab.visit(page)
    tab.press("n", "Enter")
    assert tab.run("[window.bad === undefined, document.images.length, document.scripts.length]") == [
        True,
        0,
        2,
    ]
    said = tab.run(f"{WHY}.textContent")
    assert said.count("<script>window.bad=1</script>&lt;$&") >= 3 and "\x1b" not in said
    assert tab.events("Runtime.exceptionThrown") == []
    tab.visit(page, scripts=False)
    assert tab.run("[document.images.length, document.scripts.length]") == [0, 2]


def test_no_request_leaves_the_page_and_it_has_a_policy(tab: Tab, page: Path) -> None:
    tab.visit(page)
    tab.press("n", "Enter", "Escape", "t", "t", "t")
    asked = [event["request"]["url"] for event in tab.events("Network.requestWillBeSent")]
    assert asked == [page.as_uri()]
    assert "default-src 'none'" in page.read_text()
    assert tab.events("Log.entryAdded") == []


def test_without_scripts_each_row_is_there_as_letters(tab: Tab, page: Path, fleet: Grid) -> None:
    tab.visit(page, scripts=False)
    rows = re.findall(r"<code>([YN?]+)</code>", page.read_text())
    assert rows == [fleet.letters(number) for number in range(200)]
    assert tab.run("document.querySelector('.sides').checkVisibility()") is False


def test_every_control_has_a_name(tab: Tab, page: Path) -> None:
    tab.visit(page)
    nodes = tab.ask("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "searchbox", "grid", "gridcell", "row", "region", "search"}
    found = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert {node["role"]["value"] for node in found} >= {"button", "searchbox", "grid", "gridcell"}
    nameless = [node["role"]["value"] for node in found if not node.get("name", {}).get("value")]
    assert set(nameless) <= {"row"}
    assert tab.run("[grid.ariaRowCount, grid.ariaColCount]") == ["200", "200"]


def test_a_page_of_too_many_cells_has_verdicts_alone(
    tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleetpage, "MOST_REASONS", 10)
    page = artifact.write(tmp_path / "many.html", html(between(gallery.fleet(40)))).path
    tab.visit(page)
    tab.press("n", "Enter")
    assert "vbuskit gate check GUEST HOST" in tab.run(f"{WHY}.innerText")


def test_a_thousand_hosts_are_a_page_that_opens(tab: Tab, tmp_path: Path) -> None:
    start = time.process_time()
    page = artifact.write(tmp_path / "thousand.html", html(between(gallery.fleet(1000)))).path
    assert time.process_time() - start < 4
    assert page.stat().st_size < 5_000_000
    tab.ask("Performance.enable", timeDomain="threadTicks")
    tab.visit(page)
    found = {each["name"]: each["value"] for each in tab.ask("Performance.getMetrics")["metrics"]}
    assert found["TaskDuration"] < 4
    tab.press("End", *["PageDown"] * 3)
    assert tab.run(f"{AT}.id") == "c30-999"


def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, page: Path) -> None:
    tab = browser.tab(width=360, height=800)
    tab.visit(page)
    assert tab.run("document.documentElement.scrollWidth <= 360")


def test_an_empty_row_of_verdicts_breaks_nothing(tab: Tab, fleet: Grid, tmp_path: Path) -> None:
    page = artifact.write(tmp_path / "none.html", html(Grid([], fleet.hosts))).path
    tab.visit(page)
    tab.press("Enter", "n", "ArrowDown")
    assert tab.events("Runtime.exceptionThrown") == []


def brightness(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dim, bright = sorted((brightness(one), brightness(other)))
    return (bright + 0.05) / (dim + 0.05)
