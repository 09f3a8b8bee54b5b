# SPDX-License-Identifier: MIT
"""The Linux modules: sparse has nothing to say, a mistake is one line, the same bytes come out anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.drivers.kernel import ModuleBuildFailed, headers_of, modules, newest_release, sparse


def places(folder: Path) -> Places:
    """A tree of its own below `folder`, so that a test may spoil it."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "drivers", tree / "drivers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "VERSION", tree)
    return Places(tree=tree, out=folder / "out", cache=folder / "cache", state=folder / "state")


def test_sparse_has_nothing_to_say_and_a_missing_byte_swap_is_refused(tmp_path: Path) -> None:
    here = places(tmp_path)
    assert sparse(Runner(), here, newest_release()) > 10
    session = here.tree / "drivers/linux/session.c"
    session.write_text(session.read_text().replace("cpu_to_le32(bridge->queues)", "bridge->queues"))
    with pytest.raises(ModuleBuildFailed, match=r"session.c.*different base types"):
        sparse(Runner(), here, newest_release())


def test_two_folders_give_the_same_bytes_and_a_defect_gives_others(tmp_path: Path) -> None:
    one, two = places(tmp_path / "one"), places(tmp_path / "two")
    first = {name: made.sha256 for name, made in modules(Runner(), one, newest_release()).items()}
    second = {name: made.sha256 for name, made in modules(Runner(), two, newest_release()).items()}
    spoilt = {n: m.sha256 for n, m in modules(Runner(), one, newest_release(), defect="epoch").items()}
    assert first == second
    assert first["vbus"] != spoilt["vbus"]


def test_a_source_that_does_not_compile_is_one_line_that_names_it(tmp_path: Path) -> None:
    here = places(tmp_path)
    (here.tree / "drivers/linux/bus.c").write_text("this is no C\n")
    with pytest.raises(ModuleBuildFailed, match=r"bus\.c:1.*error"):
        modules(Runner(), here, newest_release())


def test_a_warning_stops_our_own_build_and_no_users(tmp_path: Path) -> None:
    here, release = places(tmp_path), newest_release()
    source = here.tree / "drivers/linux/bus.c"
    source.write_text(source.read_text() + "static void nobody_calls(void) { }\n")
    with pytest.raises(ModuleBuildFailed, match=r"bus\.c.*nobody_calls.*unused-function"):
        modules(Runner(), here, release)
    drivers = here.tree / "drivers"
    Runner()(["make", "-C", headers_of(release), f"M={drivers}", "VBUS_RELEASE=0", "modules"])
    assert (drivers / "vbus.ko").is_file()


def test_a_build_that_was_killed_half_way_is_begun_anew(tmp_path: Path) -> None:
    here = places(tmp_path)
    whole = modules(Runner(), here, newest_release())
    folder = whole["vbus"].path.parent
    (folder / "begun").touch()
    for name in ("linux/bus.o", "vbus.ko"):
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    source = here.tree / "drivers/linux/venet.c"
    source.write_text(source.read_text() + "/* changed since */\n")
    assert modules(Runner(), here, newest_release())["vbus"] == whole["vbus"]
    assert not (folder / "begun").exists()


def test_a_disk_that_fills_up_while_it_compiles_is_no_fault_of_the_source(tmp_path: Path) -> None:
    here = places(tmp_path)
    (here.tree / "drivers/linux/bus.c").write_text("#error No space left on device\n")
    with pytest.raises(Blocked, match="make: the disk is full"):
        modules(Runner(), here, newest_release())


def test_missing_headers_are_named_with_the_package_that_has_them(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="headers are not installed") as caught:
        modules(Runner(), places(tmp_path), "1.2.3-nobody")
    assert caught.value.hint == "apt-get install linux-headers-1.2.3-nobody"


def test_the_newest_release_with_headers_is_newest_by_number_and_of_the_flavour(tmp_path: Path) -> None:
    for name in ("6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.12.1-amd64"):
        (tmp_path / name / "build").mkdir(parents=True)
    (tmp_path / "6.9.0-1-cloud-amd64").mkdir()
    assert newest_release("cloud-amd64", tmp_path) == "6.1.0-56-cloud-amd64"
    assert newest_release(installed=tmp_path) == "6.12.1-amd64"


def test_without_headers_the_apt_command_is_in_the_hint(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="no kernel headers") as caught:
        newest_release("cloud-amd64", tmp_path)
    assert caught.value.hint == "apt-get install linux-headers-cloud-amd64"
