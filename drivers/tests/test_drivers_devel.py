# SPDX-License-Identifier: MIT
"""`--kernel-devel`: a user's own kernel gives its modules; what is none says so before anything is built."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.drivers.devel import PARTS, RELEASE, SETTINGS, site_of
from vbuskit.drivers.kernel import ModuleBuildFailed, headers_of, modules_for, newest_release

OWN = "6.1.0-of-my-own"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The headers that are installed, under another release's name."""
    folder = tmp_path / "kernel-devel"
    shutil.copytree(headers_of(newest_release()), folder, symlinks=True)
    for link in ("scripts", "tools"):  # relative ones, which lead nowhere from here
        target = (headers_of(newest_release()) / link).resolve()
        (folder / link).unlink()
        (folder / link).symlink_to(target)
    release = folder / RELEASE
    release.write_text(release.read_text().replace(newest_release(), OWN))
    return folder


def places(folder: Path) -> Places:
    return Places(tree=ROOT, out=folder / "out", cache=folder / "cache", state=folder / "state")


def test_modules_are_for_the_kernel_that_is_named_and_anew_when_its_symbols_change(
    own: Path, tmp_path: Path
) -> None:
    run, here = Runner(), places(tmp_path)
    for module in modules_for(run, here, site_of(run, own)).values():
        magic = re.search(rb"\0vermagic=([^ \0]+)", module.path.read_bytes())
        assert magic and magic[1].decode() == OWN
    symbols = own / "Module.symvers"
    changed, count = re.subn(
        r"^0x\w+\tkfree\t", "0x12345678\tkfree\t", symbols.read_text(), flags=re.MULTILINE
    )
    assert count == 1
    symbols.write_text(changed)
    made = modules_for(run, here, site_of(run, own))
    assert (0x12345678).to_bytes(4, "little") in made["vbus"].path.read_bytes()


def test_a_changed_header_is_seen_where_symbols_have_no_versions(own: Path, tmp_path: Path) -> None:
    """Then nothing else says so: neither the release nor Module.symvers."""
    run, here = Runner(), places(tmp_path)
    modules_for(run, here, site_of(run, own))
    with (own / "include/generated/bounds.h").open("a") as header:
        header.write("#error changed\n")
    with pytest.raises(ModuleBuildFailed):
        modules_for(run, here, site_of(run, own))


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_that_lacks_a_part_is_refused_by_the_name_of_that_part(own: Path, part: str) -> None:
    (own / part).unlink()
    with pytest.raises(Blocked, match=f"is no kernel that modules can be built for: {part} cannot be read"):
        site_of(Runner(), own)


@pytest.mark.parametrize(
    ("part", "old", "new", "why"),
    [
        (SETTINGS, "CONFIG_X86_64=y", "CONFIG_SPARC64=y", "is for another architecture than x86_64"),
        (SETTINGS, "CONFIG_MODULES=y", "", "loads no modules"),
        (RELEASE, OWN, "../../etc", "names no release"),
    ],
)
def test_foreign_headers_are_refused_before_anything_is_built(
    own: Path, part: str, old: str, new: str, why: str
) -> None:
    file = own / part
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(Blocked, match=why):
        site_of(Runner(), own)
