# SPDX-License-Identifier: MIT
"""Defects that are planted into packages: what the host sees of them, and that they stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.ci.pipeline import Factory
from vbuskit.ci.verify import verify
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.defects import DEFECTS, EDITS, planted
from vbuskit.kmp.keys import Key

Made = Callable[[str], Factory]


@pytest.fixture
def made(
    dummies: dict[str, Artifact], kernel: str, key: Key, places_in: Callable[[Path], Places], tmp_path: Path
) -> Made:
    def made(defect: str) -> Factory:
        places = places_in(tmp_path)
        return Factory(
            run=Runner(), places=places, key=key, kernel=kernel, build=lambda *_: dummies, defect=defect
        )

    return made


@pytest.mark.parametrize("defect", DEFECTS)
def test_packages_with_a_defect_are_others_and_do_not_take_the_place_of_the_good_ones(
    made: Made, defect: str
) -> None:
    def sums(defect: str) -> list[str]:
        factory = made(defect)
        return [p.sha256 for p in (*factory.packages().values(), *factory.rpms().values())]

    good = sums("none")
    assert sums(defect) != good
    assert sums("none") == good


@pytest.mark.parametrize("defect", DEFECTS)
def test_verify_refuses_an_iso_for_modules_without_a_signature_and_for_no_other_defect(
    made: Made, key: Key, defect: str
) -> None:
    iso = made(defect).iso().path
    if defect == "unsigned":
        with pytest.raises(Refused, match=r"\.ko: is not signed"):
            verify(iso, key.certificate)
    else:
        assert "listed" in verify(iso, key.certificate)[1]


def test_what_is_left_out_is_left_out_of_the_package_that_all_kernels_share(made: Made) -> None:
    def names(defect: str) -> set[str]:
        return {
            Path(p).name for p in read_deb(made(defect).packages()["vbus-common"].path.read_bytes()).files
        }

    assert names("none") - names("rule") == {"61-vblk.rules"}
    assert names("none") - names("hook") == {"vbus", "module-setup.sh"}


def test_a_defect_that_finds_nothing_to_be_planted_in_is_told(tmp_path: Path) -> None:
    for name in ("LICENSES", "VERSION", "initrd"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in {file for edits in EDITS.values() for file, _, _ in edits}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("something else\n")
    for defect in EDITS:
        with pytest.raises(RuntimeError, match=f"plant the defect {defect} in"), planted(tmp_path, defect):
            pass
