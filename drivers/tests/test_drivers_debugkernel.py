# SPDX-License-Identifier: MIT
"""The debug kernel: what names it, what makes a folder of the cache one, which options must come out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from vbuskit.base.artifact import write
from vbuskit.base.errors import Blocked, Refused, VbuskitError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.drivers.debugkernel import CONFIG, compare, debug_kernel_for, key_of, load
from vbuskit.drivers.kernels import DEBUG, KERNELS, kernel_named
from vbuskit.drivers.matrix import image_for
from vbuskit.drivers.roots import kernels_of

WATCHERS = ("KASAN", "PROVE_LOCKING", "PROVE_RCU", "DEBUG_KMEMLEAK", "DEBUG_ATOMIC_SLEEP", "DEBUG_LIST")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tree=ROOT, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


def test_it_is_known_by_name_and_built_for_nobody_who_did_not_ask() -> None:
    assert kernel_named("bookworm/debug") is DEBUG
    assert DEBUG not in KERNELS
    assert DEBUG not in kernels_of("bookworm")


def test_whatever_watches_is_switched_on() -> None:
    lines = (ROOT / CONFIG).read_text().splitlines()
    assert [name for name in WATCHERS if f"CONFIG_{name}=y" not in lines] == []


def test_no_option_is_given_twice() -> None:
    names = [line.partition("=")[0] for line in (ROOT / CONFIG).read_text().splitlines() if "=" in line]
    assert sorted(names) == sorted(set(names))


def test_another_configuration_and_another_mirror_are_other_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key_of(DEBUG, "CONFIG_KASAN=y\n"), key_of(DEBUG, "CONFIG_KASAN=n\n")]
    monkeypatch.setenv("VBUSKIT_MIRROR", "http://127.0.0.1:9/")
    keys += [key_of(DEBUG, "CONFIG_KASAN=y\n")]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ("CONFIG_A=y", "# CONFIG_A is not set"),
        ("CONFIG_A=y", "CONFIG_A=m"),
        ("CONFIG_A=n", "CONFIG_A=y"),
        ("CONFIG_A=16", "CONFIG_A=160"),
        ("CONFIG_A=y", "CONFIG_AB=y"),
    ],
)
def test_an_option_that_kconfig_dropped_is_an_error_that_names_it(wanted: str, got: str) -> None:
    with pytest.raises(VbuskitError, match=rf"debug.config: {wanted} did not come out so"):
        compare(f"# why\n{wanted}\n", f"{got}\n")


def test_options_that_came_out_as_they_were_written_are_no_error() -> None:
    compare("# CONFIG_X=y\nCONFIG_A=y\nCONFIG_B=n\n", "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n")


def finished(folder: Path) -> Path:
    """A folder as a build leaves it."""
    folder.mkdir(parents=True)
    image = write(folder / "linux-image.deb", "kernel")
    write(folder / "sealed", f"6.1.192-debug linux-image.deb {image.sha256} {image.size}\n")
    return folder


def test_a_folder_without_its_seal_or_with_another_package_is_no_kernel(tmp_path: Path) -> None:
    built = load(finished(tmp_path / "good"))
    assert (built.release, built.tree) == ("6.1.192-debug", tmp_path / "good/tree")
    (finished(tmp_path / "torn") / "sealed").unlink()
    (finished(tmp_path / "other") / "linux-image.deb").write_text("another")
    finished(tmp_path / "open").chmod(0o777)
    for name in ("torn", "other", "open", "absent"):
        with pytest.raises(Refused):
            load(tmp_path / name)


def test_what_is_in_the_cache_is_not_built_again(places: Places) -> None:
    class Idle(Runner):
        def attempt(self, args: Sequence[Arg], **how: object) -> Finished:
            raise AssertionError(f"started {args}")

    key = key_of(DEBUG, (ROOT / CONFIG).read_text())
    folder = finished(places.cache / "kernels" / "bookworm-debug" / key)
    assert debug_kernel_for(Idle(), places, DEBUG).tree == folder / "tree"
    image = image_for(Idle(), places, DEBUG)
    assert image is not None
    assert image.path == folder / "linux-image.deb"
    assert image_for(Idle(), places, KERNELS[0]) is None


class Broken(Runner):
    """Every program fails and says the same."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def attempt(
        self,
        args: Sequence[Arg],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        seconds: float | None = None,
    ) -> Finished:
        return Finished(1, "", self.said)


def test_a_failed_build_leaves_nothing(places: Places) -> None:
    with pytest.raises(Blocked, match="root of bookworm/debug: the package mirror"):
        debug_kernel_for(Broken("E: Failed to fetch x"), places, DEBUG)
    assert [entry.name for entry in (places.cache / "kernels/bookworm-debug").iterdir()] == [".lock"]


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="build roots need root")
def test_the_debug_kernel_is_there_and_its_package_is_whole() -> None:
    places = Places.from_environment()
    built = debug_kernel_for(Runner(), places, DEBUG)
    assert built.release.endswith("-debug")
    assert (built.tree / "lib/modules" / built.release / "build/Makefile").is_file()
