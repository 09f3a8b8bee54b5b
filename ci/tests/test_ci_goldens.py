# SPDX-License-Identifier: MIT
"""Goldens: a release's own tree makes them, once; what is not there or does not fit is said in words."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Arg, CommandFailed, Runner
from vbuskit.ci.commands import matrix
from vbuskit.ci.goldens import PROGRAMS, Goldens, given_of, goods_on, unavailable
from vbuskit.ci.matrix import folder_of
from vbuskit.ci.pipeline import Factory
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.evidence import again
from vbuskit.compat.plan import Coordinates
from vbuskit.compat.plugin import axes_of
from vbuskit.kmp.keyring import chosen_key

# What a release's own ./vbuskit does, as far as it matters here; `notes` has a line for each call.
OLD = """#!/bin/sh
[ -z "$PYTHONPATH" ] || exit 9
exec 9<"$(dirname "$0")"
flock -n 9 || exit 8
printf '%s\\n' "$*" >>{notes}
case "$1 $3" in
"build host")
    mkdir -p "$5/host"
    for name in vbusd vbus-worker vbus-bench; do
        echo "$name of {version}" >"$5/host/$name"
        printf '%-12s %8d bytes  %s  %s\\n' "$name" 12 abc "$5/host/$name"
    done ;;
"iso bookworm/cloud-amd64")
    mkdir -p "$5"
    cp {iso} "$5/vbuskit-{version}.iso"
    echo "$5/vbuskit-{version}.iso" ;;
"iso bookworm/broken") echo "vbuskit: no compiler" >&2; exit 1 ;;
*) echo "vbuskit: $3: no such kernel" >&2; exit 2 ;;
esac
"""

PlacesIn = Callable[[Path], Places]


@pytest.fixture
def places(places_in: PlacesIn, tmp_path: Path) -> Places:
    return places_in(tmp_path)


@pytest.fixture
def iso(dummies: dict[str, Artifact], kernel: str, places: Places) -> Artifact:
    build = lambda run, places, kernel: dummies  # noqa: E731
    key = chosen_key(places)
    return Factory(run=Runner(), places=places, key=key, kernel=kernel, build=build).iso()


@pytest.fixture
def goldens(places: Places, tmp_path: Path, request: pytest.FixtureRequest) -> Goldens:
    """Of a checkout that has the tag v0.1, and `./vbuskit` of another content since."""
    path = request.getfixturevalue("iso").path if "iso" in request.fixturenames else "none"
    tree = tmp_path / "tree"
    tree.mkdir()
    run = Runner()
    git: list[Arg] = ["git", "-C", tree, "-c", "user.name=x", "-c", "user.email=x@x.invalid"]
    run([*git, "init", "-q"])
    script = tree / "vbuskit"
    for version in ("0.1.0", "0.2.0"):
        text = OLD.replace("{version}", version).replace("{iso}", str(path))
        script.write_text(text.replace("{notes}", str(tmp_path / "notes")))
        script.chmod(0o755)
        run([*git, "add", "vbuskit"])
        run([*git, "commit", "-q", "-m", version])
        if version == "0.1.0":
            run([*git, "tag", "v0.1"])
    return Goldens(run=run, places=replace(places, tree=tree))


def calls(folder: Path) -> list[str]:
    notes = folder / "notes"
    return [line.partition(" --out")[0] for line in notes.read_text().splitlines()] if notes.exists() else []


def test_the_programs_of_a_release_are_built_by_its_own_tree_and_once(
    goldens: Goldens, tmp_path: Path
) -> None:
    made = goldens.programs("0.1")
    assert sorted(made) == sorted(PROGRAMS)
    assert made["vbusd"].path.read_text() == "vbusd of 0.1.0\n"
    assert {each.path.parent for each in made.values()} == {made["vbusd"].path.parent}
    assert not (made["vbusd"].path.parent / "out").exists()
    assert goldens.programs("0.1") == made
    assert calls(tmp_path) == ["build --only host"]


def test_a_golden_that_was_changed_since_is_made_again(goldens: Goldens, tmp_path: Path) -> None:
    goldens.programs("0.1")["vbusd"].path.write_text("something else")
    assert goldens.programs("0.1")["vbusd"].path.read_text() == "vbusd of 0.1.0\n"
    assert len(calls(tmp_path)) == 2


def test_the_iso_of_a_release_says_its_version_and_signer_itself(
    iso: Artifact, goldens: Goldens, kernel: str, tmp_path: Path
) -> None:
    goods = goldens.goods("0.1", "bookworm/cloud-amd64", kernel)
    assert goods.iso.sha256 == iso.sha256
    assert goods.version == (ROOT / "VERSION").read_text().strip()
    assert goods.signer and goods.packages == ()
    goldens.goods("0.1", "bookworm/cloud-amd64", kernel)
    assert calls(tmp_path) == ["iso --kernel bookworm/cloud-amd64"]


def test_a_kernel_that_the_release_does_not_know_is_no_failure(goldens: Goldens) -> None:
    with pytest.raises(CellSkipped, match=r"release 0.1 does not know this: forky/amd64: no such kernel"):
        goldens.goods("0.1", "forky/amd64", "6.99")
    with pytest.raises(CommandFailed, match="no compiler"):
        goldens.goods("0.1", "bookworm/broken", "6.1")


def test_an_iso_without_drivers_for_the_kernel_says_so(iso: Artifact) -> None:
    with pytest.raises(CellSkipped, match=r"has no drivers for 6\.99"):
        goods_on(iso, "6.99")


def test_a_users_own_folder_is_taken_and_looked_at(
    iso: Artifact, goldens: Goldens, kernel: str, tmp_path: Path
) -> None:
    folder = tmp_path / "shipped"
    folder.mkdir()
    own = replace(goldens, given=given_of([f"0.3={folder}"]))
    with pytest.raises(UsageError, match=r"has 0 files vbusd, not one"):
        own.programs("0.3")
    for name in PROGRAMS:
        (folder / name).write_text(name)
    assert own.programs("0.3")["vbus-worker"].path == folder / "vbus-worker"
    target = folder / "vbuskit-0.3.iso"
    target.write_bytes(iso.path.read_bytes())
    assert own.goods("0.3", "any", kernel).iso.path == target
    raw = bytearray(target.read_bytes())
    place = raw.rindex(b"#!/bin/sh")
    raw[place + 2] ^= 1
    target.write_bytes(raw)
    with pytest.raises(Refused, match="is not what the manifest says"):
        own.goods("0.3", "any", kernel)
    assert calls(tmp_path) == []


def test_a_release_without_a_tag_is_left_out_in_words(goldens: Goldens) -> None:
    tree, run = goldens.places.tree, goldens.run
    values = {"drivers": ["this", "0.1", "0.7"], "host": ["0.8"]}
    assert unavailable(run, tree, values, {"0.8": Path("/x")}) == {
        "drivers=0.7": "this checkout has no tag v0.7: git fetch --tags, or --golden 0.7=FOLDER"
    }
    with pytest.raises(UsageError, match="--host mine: is no release"):
        unavailable(run, tree, {"host": ["mine"]}, {})
    with pytest.raises(Refused, match=r"no tag v0\.7"):
        goldens.programs("0.7")


@pytest.mark.parametrize("word", ["0.1", "=x", "0.1=", "x=y", "../x=y"])
def test_a_golden_is_a_release_and_a_folder(word: str) -> None:
    with pytest.raises(UsageError, match="expected RELEASE=FOLDER"):
        given_of([word])


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    matrix.arguments(parser)
    return parser.parse_args(words)


def test_a_machine_type_that_is_none_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="--machine q36: no such machine type") as caught:
        axes_of(options("run", "--machine", "q35", "q36"))
    assert caught.value.hint == "there are: q35, pc-q35-6.2, pc-q35-5.2, i440fx"


def test_the_line_that_tries_a_cell_again_means_that_cell() -> None:
    where = Coordinates("debian-12", "kill", drivers="0.1", host="0.1", machine="i440fx")
    words = shlex.split(again(Cell("kill", "x", where.guest, axes=where.axes)))
    assert words[:2] == ["./vbuskit", "matrix"]
    said = options(*words[2:])
    assert (said.guest, said.only) == (["debian-12"], ["kill"])
    axes = axes_of(said)
    assert (axes.drivers, axes.host, axes.machine) == (("0.1",), ("0.1",), ("i440fx",))


def test_a_groups_folder_has_a_name_that_nobody_takes_for_a_pattern_or_a_list() -> None:
    where = Coordinates("debian-12", "kill", drivers="0.1", machine="i440fx")
    assert folder_of(where) == "debian-12_drivers_0.1_machine_i440fx"
    assert folder_of(Coordinates("debian-12", "kill")) == "debian-12"


@pytest.mark.full
def test_drivers_and_host_programs_of_the_release_and_of_this_checkout_hold_with_each_other(
    tmp_path: Path,
) -> None:
    words = ["--guest", "debian-12", "--only", "kill", "hotadd", "--drivers", "this", "0.1"]
    command: list[Arg] = [
        ROOT / "vbuskit",
        "matrix",
        "run",
        *words,
        "--host",
        "this",
        "0.1",
        "--out",
        tmp_path,
    ]
    done = Runner().attempt(command, seconds=3600)
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    held = {(cell["axes"].get("drivers"), cell["axes"].get("host"), cell["name"]) for cell in cells}
    names = ("boot", "install", "negotiate", "transfer", "kill", "hotadd")
    assert held == {(old, host, name) for old in (None, "0.1") for host in (None, "0.1") for name in names}
    assert {cell["outcome"] for cell in cells} == {"green"}, done.out
