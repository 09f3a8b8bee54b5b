# SPDX-License-Identifier: MIT
"""Packages that went into an image are kept: it can be made again when the mirror has dropped them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat import images
from vbuskit.compat.kept import Kept
from vbuskit.compat.recipe import Recipe

RECIPE = Recipe("6.1.0-1-cloud-amd64")
NAMES = [*RECIPE.packages, "apt"]
# What dpkg wants in a root, and mmdebstrap.
PROGRAMS = (
    "cat",
    "diff",
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "env",
    "ldconfig",
    "rm",
    "sh",
    "tar",
)


def deb(run: Runner, tree: Path, name: str, version: str, into: Path, more: str = "") -> None:
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x <x@localhost>\n{more}"
    )
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(f"{control}Description: x\n")
    run(["dpkg-deb", "--build", "-Znone", tree, into / f"{name}_{version}_amd64.deb"])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest Debian: this machine's dpkg, and packages without anything in them."""
    run, folder = Runner(), tmp_path_factory.mktemp("pool")
    tree = folder / "tree"
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    for name in (*PROGRAMS, "start-stop-daemon"):
        program = Path(shutil.which(name, path="/usr/bin:/usr/sbin") or pytest.skip(f"{name} is not here"))
        shutil.copy(program, tree / program.relative_to("/"))
        for library in re.findall(r"(/\S+)", run.attempt(["ldd", program]).out):
            target = tree / "usr" / library.removeprefix("/usr").lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    deb(run, tree, "base", "1", folder, "Essential: yes\nPriority: required\n")
    for name in NAMES:
        deb(run, folder / name, name, "1", folder)
    return folder


@pytest.fixture
def mirror(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a mirror of what is in its folder now; VBUSKIT_MIRROR names it."""
    if os.geteuid() != 0:
        pytest.skip("mmdebstrap needs root")
    folder = tmp_path / "mirror"
    shutil.copytree(
        pool, folder, ignore=lambda _, names: [name for name in names if not name.endswith(".deb")]
    )
    (tmp_path / "mirror.list").write_text(f"deb [trusted=yes] copy:{folder} ./\n")
    monkeypatch.setenv("VBUSKIT_MIRROR", str(tmp_path / "mirror.list"))

    def publish(version: str = "", lost: str = "") -> None:
        for old in folder.glob(f"{lost}_*.deb"):
            old.unlink()
        if version:
            deb(Runner(), tmp_path / version, lost, version, folder)
        (folder / "Packages").write_text(Runner()(["dpkg-scanpackages", "."], cwd=folder))
        (folder / "Release").write_text("Suite: bookworm\nCodename: bookworm\n")

    publish()
    return publish


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tree=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


def filled(places: Places, name: str, *, anew: bool = False) -> str:
    """What an image's root has after its packages were installed."""
    run, kept = Runner(), Kept.of(places)
    tree = places.work(name) / "tree"
    lock = () if anew else kept.locked(RECIPE.wanted)
    images.install(run, RECIPE, tree, kept, lock)
    images.list_packages(run, tree, tree.parent)
    assert {left.name for left in tree.parent.iterdir()} == {"tree", "packages.txt"}
    assert not list((tree / "etc/apt").glob("sources*"))
    return (tree.parent / "packages.txt").read_text()


def test_what_the_mirror_dropped_is_installed_from_what_is_kept(
    mirror: Callable[..., None], places: Places
) -> None:
    first = filled(places, "first")
    assert "linux-image-6.1.0-1-cloud-amd64 1\n" in first and "udev 1\n" in first
    mirror(lost="linux-image-6.1.0-1-cloud-amd64")
    mirror(lost="udev", version="2")
    assert filled(places, "again") == first
    with pytest.raises(VbuskitError, match=r"has no linux-image-6.1.0-1"):
        filled(places, "anew", anew=True)
    assert Kept.of(places).locked(RECIPE.wanted)


def test_an_image_that_is_made_anew_has_what_the_mirror_has_now(
    mirror: Callable[..., None], places: Places
) -> None:
    first = filled(places, "first")
    mirror(lost="udev", version="2")
    assert filled(places, "anew", anew=True) == first.replace("udev 1\n", "udev 2\n")
    assert "udev_2_amd64.deb" in {package.file for package in Kept.of(places).locked(RECIPE.wanted)}


def test_a_package_that_is_kept_and_was_changed_is_fetched_again(
    mirror: Callable[..., None], places: Places
) -> None:
    first = filled(places, "first")
    kept = Kept.of(places)
    (udev,) = (package for package in kept.locked(RECIPE.wanted) if package.name == "udev")
    before = kept.path(udev).read_bytes()
    raw = bytearray(before)
    raw[-1] ^= 1
    kept.path(udev).chmod(0o644)
    kept.path(udev).write_bytes(raw)
    assert filled(places, "again") == first
    assert kept.path(udev).read_bytes() == before


@pytest.fixture
def locked(places: Places, tmp_path: Path) -> Kept:
    """One package that is all of an image `x`."""
    kept = Kept.of(places)
    deb(Runner(), tmp_path / "one", "one", "1", tmp_path)
    kept.keep(Runner(), "x", tmp_path.glob("*.deb"))
    return kept


def test_a_lock_one_of_whose_packages_is_gone_is_none(locked: Kept) -> None:
    assert [package.name for package in locked.locked("x")] == ["one"]
    next(locked.folder.glob("*.deb")).unlink()
    assert not locked.locked("x")


@pytest.mark.parametrize("damage", ["", "[]", "[{}]", "[[]]", "{}", "1", '["x"]', "\0"])
def test_a_damaged_lock_is_none(damage: str, locked: Kept) -> None:
    locked.lock("x").write_text(damage)
    assert not locked.locked("x")


def test_what_others_may_write_to_is_not_trusted(locked: Kept) -> None:
    locked.folder.chmod(0o777)
    assert not locked.locked("x")
