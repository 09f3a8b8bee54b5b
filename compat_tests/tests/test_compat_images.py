# SPDX-License-Identifier: MIT
"""The image cache: whole images or none, verified; and each way in which a build is blocked."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base import shelf
from vbuskit.base.artifact import write
from vbuskit.base.errors import Blocked, Exit, Refused
from vbuskit.base.places import Places
from vbuskit.base.run import Finished, Runner
from vbuskit.compat import images
from vbuskit.compat.recipe import FILES, INIT, Recipe

RECIPE = Recipe("6.1.0-1-cloud-amd64")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tree=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


def finished(folder: Path) -> Path:
    """A folder as a build leaves it."""
    folder.mkdir(parents=True)
    for name in images.PARTS:
        (folder / name).write_text(name)
    images.seal(folder)
    return folder


def tree(folder: Path) -> Path:
    """As little of a Debian as our files are laid over."""
    for name in ("etc", "sbin"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/shadow").write_text("root:*:1:0:\ndaemon:*:1:0:\n")
    return folder


def test_another_kernel_is_another_image() -> None:
    assert RECIPE.key == Recipe("6.1.0-1-cloud-amd64").key != Recipe("6.1.0-2-cloud-amd64").key


def test_a_kernel_that_is_not_the_suites_own_is_another_image(tmp_path: Path) -> None:
    package, other = write(tmp_path / "a.deb", "a"), write(tmp_path / "b.deb", "b")
    recipes = [RECIPE, *(Recipe(RECIPE.release, kernel=kernel) for kernel in (package, other))]
    assert len({recipe.key for recipe in recipes}) == len(recipes)
    assert not any(name.startswith("linux-image") for name in recipes[1].packages)


def test_another_file_of_ours_is_another_image_of_the_same_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECIPE.key, RECIPE.wanted
    monkeypatch.setitem(FILES, "etc/hostname", "another")
    assert RECIPE.key != before[0] and RECIPE.wanted == before[1]
    others = (replace(RECIPE, arch="arm64"), replace(RECIPE, more=("fio",)), replace(RECIPE, suite="sid"))
    assert before[1] not in {other.wanted for other in others}


def test_another_architecture_is_another_image() -> None:
    assert Recipe(RECIPE.release, arch="arm64").key != RECIPE.key
    assert (RECIPE.foreign, Recipe(RECIPE.release, arch="arm64").foreign) == ("", "arm64")


def test_another_init_is_another_image_and_what_the_kernel_starts_there(tmp_path: Path) -> None:
    programs = write(tmp_path / "a", "#!/bin/sh\n"), write(tmp_path / "b", "#!/bin/sh\nexit\n")
    recipes = [RECIPE, *(Recipe(RECIPE.release, init=program) for program in programs)]
    assert len({recipe.key for recipe in recipes}) == len(recipes)
    images.settle(recipes[2], tree(tmp_path / "tree"))
    placed = tmp_path / f"tree{INIT}"
    assert placed.read_text() == "#!/bin/sh\nexit\n"
    assert placed.stat().st_mode & 0o777 == 0o755


def test_a_sealed_folder_is_an_image(tmp_path: Path) -> None:
    folder = finished(tmp_path / RECIPE.key)
    assert images.load(folder, RECIPE).kernel.path == folder / "vmlinuz"


@pytest.mark.parametrize("name", [*images.PARTS, "image.json"])
def test_an_image_without_one_of_its_files_is_none(name: str, tmp_path: Path) -> None:
    folder = finished(tmp_path / RECIPE.key)
    (folder / name).unlink()
    with pytest.raises(Refused):
        images.load(folder, RECIPE)


@pytest.mark.parametrize("name", images.PARTS)
def test_one_flipped_bit_is_noticed(name: str, tmp_path: Path) -> None:
    folder = finished(tmp_path / RECIPE.key)
    raw = bytearray((folder / name).read_bytes())
    raw[0] ^= 1
    (folder / name).chmod(0o644)
    (folder / name).write_bytes(raw)
    with pytest.raises(Refused, match="changed"):
        images.load(folder, RECIPE)


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = finished(tmp_path / RECIPE.key)
    folder.chmod(0o777)
    with pytest.raises(Refused, match="others may write"):
        images.load(folder, RECIPE)


def test_drafts_of_killed_builders_are_swept_and_images_stay(tmp_path: Path) -> None:
    folder = finished(tmp_path / RECIPE.key)
    (tmp_path / f"{shelf.DRAFT}x" / "tree").mkdir(parents=True)
    shelf.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_a_failed_build_leaves_nothing(places: Places) -> None:
    class Broken(Runner):
        def attempt(self, args: object, **how: object) -> Finished:
            return Finished(25, "", "E: Failed to fetch http://x/  Could not connect")

    with pytest.raises(Blocked, match="cannot be reached"):
        images.image_for(Broken(), places, RECIPE)
    assert [entry.name for entry in (places.cache / "images").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("E: Unable to locate package linux-image-6.1.0-1-cloud-amd64", "has no linux-image-6.1.0-1"),
        ("E: arm64 can neither be executed natively nor via qemu", "starts no programs of"),
        ("Temporary failure resolving 'x'", "cannot be reached"),
        ("E: apt-get update --error-on=any failed", "cannot be reached"),
        ("tar: write error: No space left on device", "disk is full"),
    ],
)
def test_what_blocks_a_build_is_said_in_one_line(said: str, what: str) -> None:
    error = images.why_no_image(Finished(1, "", f"I: before\n{said}\nE: after\n"), RECIPE, "")
    assert isinstance(error, Blocked)
    assert what in str(error)
    assert "\n" not in str(error)
    assert error.hint


def test_any_other_failure_shows_the_first_error_line() -> None:
    error = images.why_no_image(Finished(1, "", "E: setup failed\nI: x\n"), RECIPE, "")
    assert error.exit_code == Exit.FAILED
    assert "setup failed" in str(error)


@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")
def test_an_unreachable_mirror_is_blocked(monkeypatch: pytest.MonkeyPatch, places: Places) -> None:
    monkeypatch.setenv("VBUSKIT_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(Blocked, match=r"mirror \(http://127.0.0.1:9/\) cannot be reached"):
        images.image_for(Runner(), places, RECIPE)
    assert [entry.name for entry in (places.cache / "images").iterdir()] == [".lock"]


def test_too_little_room_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch, places: Places) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1 << 20))
    with pytest.raises(Blocked, match="1 MiB free"):
        images.image_for(Runner(), places, RECIPE)


def test_masks_and_files_are_laid_over_the_tree(tmp_path: Path) -> None:
    (tree(tmp_path) / "etc/resolv.conf").symlink_to("/etc/passwd")
    images.settle(RECIPE, tmp_path)
    assert (tmp_path / "etc/shadow").read_text() == "root::1:0:\ndaemon:*:1:0:\n"
    assert not (tmp_path / "etc/resolv.conf").is_symlink()
    assert (tmp_path / "etc/systemd/system/fstrim.timer").readlink() == Path("/dev/null")
    assert not (tmp_path / INIT.lstrip("/")).exists()


def test_files_that_were_set_aside_come_back_also_after_a_failure(tmp_path: Path) -> None:
    hook = tmp_path / "usr/share/initramfs-tools/hooks/udev"
    hook.parent.mkdir(parents=True)
    hook.write_text("x")
    hook.chmod(0o755)
    with pytest.raises(ZeroDivisionError), images.without(tmp_path, ["hooks/udev"]):
        assert not hook.exists()
        raise ZeroDivisionError
    assert hook.stat().st_mode & 0o777 == 0o755
