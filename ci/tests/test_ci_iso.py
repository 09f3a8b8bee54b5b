# SPDX-License-Identifier: MIT
"""The driver ISO: the same bytes anywhere and any day, and what other programs see on it."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.ci.iso import unsigned_digest
from vbuskit.ci.manifest import Manifest
from vbuskit.ci.media import pinned, read_iso, write_iso
from vbuskit.ci.pipeline import SOURCES, Factory
from vbuskit.kmp.keys import Key

PlacesIn = Callable[[Path], Places]


@pytest.fixture
def made(dummies: dict[str, Artifact], kernel: str, places_in: PlacesIn) -> Callable[[Path, Key], Artifact]:
    def make(folder: Path, key: Key) -> Artifact:
        places = places_in(folder)
        return Factory(
            run=Runner(), places=places, key=key, kernel=kernel, build=lambda run, places, kernel: dummies
        ).iso()

    return make


Made = Callable[[Path, Key], Artifact]


def test_two_folders_two_dates_and_two_time_zones_give_the_same_bytes(
    made: Made, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path / "here", key)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40_000_000)
    there = made(tmp_path / "a" / "folder" / "elsewhere", key)
    monkeypatch.undo()
    time.tzset()
    assert here.path.read_bytes() == there.path.read_bytes()


def test_another_umask_gives_the_same_bytes(made: Made, key: Key, tmp_path: Path) -> None:
    here = made(tmp_path / "here", key)
    before = os.umask(0o077)
    try:
        there = made(tmp_path / "there", key)
    finally:
        os.umask(before)
    assert here.sha256 == there.sha256


def test_two_keys_differ_only_in_signatures_and_certificates(
    made: Made, key: Key, other_key: Key, tmp_path: Path
) -> None:
    ours, theirs = made(tmp_path / "ours", key), made(tmp_path / "theirs", other_key)
    assert ours.sha256 != theirs.sha256
    assert unsigned_digest(ours.path) == unsigned_digest(theirs.path)


def test_the_unsigned_view_still_sees_another_module(
    made: Made, dummies: dict[str, Artifact], key: Key, tmp_path: Path, kernel: str, places_in: PlacesIn
) -> None:
    swapped = {"vbus": dummies["venet"], "venet": dummies["venet"]}
    (tmp_path / "x").mkdir()
    copy = tmp_path / "x/vbus.ko"
    copy.write_bytes(dummies["venet"].path.read_bytes())
    swapped["vbus"] = Artifact.of(copy)
    places = places_in(tmp_path / "swapped")
    other = Factory(run=Runner(), places=places, key=key, kernel=kernel, build=lambda *_: swapped).iso()
    assert unsigned_digest(made(tmp_path / "ours", key).path) != unsigned_digest(other.path)


def test_source_date_epoch_wins_over_the_changelog(
    made: Made, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    files = read_iso(made(tmp_path, key).path)
    assert Manifest.from_json(files["manifest.json"]).epoch == 1_000_000_000


def test_nothing_changed_so_nothing_is_made_again(made: Made, key: Key, tmp_path: Path) -> None:
    first = made(tmp_path, key)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert made(tmp_path, key) == first
    assert stamps == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()
    }


def test_whatever_code_makes_packages_and_iso_is_an_input_of_theirs() -> None:
    """A new line in the table of kernels is another folder on the ISO."""
    words = "import sys, vbuskit.ci.iso, vbuskit.kmp.deb, vbuskit.kmp.rpm; "
    words += "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('vbuskit.')), sep='\\n')"
    loaded = Runner()([sys.executable, "-P", "-c", words], env={"PYTHONPATH": ":".join(sys.path)})
    files = {Path(line).relative_to(ROOT) for line in loaded.split() if line != "None"}
    files = {file for file in files if file.name != "__init__.py"}
    assert Path("kmp/vbuskit/kmp/deb.py") in files
    lost = {str(file) for file in files if not any(file.is_relative_to(source) for source in SOURCES)}
    assert lost == set()


def test_a_result_that_was_damaged_is_made_again(made: Made, key: Key, tmp_path: Path) -> None:
    first = made(tmp_path, key)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    assert made(tmp_path, key) == first
    first.verify()


def test_xorriso_sees_the_same_files(made: Made, key: Key, tmp_path: Path) -> None:
    iso = made(tmp_path, key).path
    run, out = Runner(), tmp_path / "extracted"
    for view in (["-read_fs", "norock"], []):
        run(["xorriso", *view, "-osirrox", "on", "-indev", iso, "-extract", "/", out / str(len(view))])
        extracted = {
            str(path.relative_to(out / str(len(view)))): path.read_bytes()
            for path in (out / str(len(view))).rglob("*")
            if path.is_file()
        }
        assert extracted == read_iso(iso)
        run(["chmod", "-R", "u+w", out])


def test_xorriso_finds_the_label_and_no_fault(made: Made, key: Key, tmp_path: Path) -> None:
    done = Runner().attempt(["xorriso", "-indev", made(tmp_path, key).path, "-pvd_info"])
    assert done.code == 0
    assert "Volume Id    : VBUSKIT" in done.out
    assert "FAILURE" not in done.err and "SORRY" not in done.err


def test_install_sh_is_executable_on_the_iso(made: Made, key: Key, tmp_path: Path) -> None:
    iso = made(tmp_path, key).path
    listing = Runner()(["xorriso", "-indev", iso, "-find", "/linux/install.sh", "-exec", "lsdl"])
    assert listing.startswith("-r-xr-xr-x")


def test_names_that_are_alike_in_capitals_stay_apart(tmp_path: Path) -> None:
    files = {"a/one-name.txt": b"1", "a/one_name.txt": b"2", "A/ONE NAME.TXT": b"3", "b": b"", "b~": b"4"}
    files |= {"a/6.1.0-56/x.y": b"5", "a/6.1.0_56/x": b"6"}
    assert read_iso(write_iso(files, 0, tmp_path / "x.iso").path) == files


def test_a_name_that_joliet_cannot_hold_is_refused_by_its_name(tmp_path: Path) -> None:
    assert read_iso(write_iso({"a/" + 64 * "n": b""}, 0, tmp_path / "x.iso").path)
    with pytest.raises(Refused, match=r"a/n{65}: is too long a name for an ISO, which takes 64 characters"):
        write_iso({"a/" + 65 * "n": b""}, 0, tmp_path / "x.iso")


def test_pycdlibs_clock_and_random_numbers_are_given_back() -> None:
    theirs, numbers = vars(sys.modules["pycdlib.dates"]), vars(sys.modules["pycdlib.isohybrid"])
    with pytest.raises(ZeroDivisionError), pinned(0):
        assert theirs["time"].time() == 0
        assert numbers["random"] is not random
        assert time.time() > 1
        _ = 1 // 0
    assert theirs["time"] is time
    assert numbers["random"] is random
