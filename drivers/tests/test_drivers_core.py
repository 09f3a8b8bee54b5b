# SPDX-License-Identifier: MIT
"""The C half: its own tests under sanitizers and as shipped, and once by another compiler for Windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import core_for_windows, core_tests


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    top = tmp_path_factory.mktemp("core")
    return Places(tree=ROOT, out=top / "out", cache=top / "cache", state=top / "state")


@pytest.mark.parametrize("sanitize", [True, False], ids=["asan+ubsan", "as-shipped"])
def test_core_and_host_programs_pass_their_own_tests(sanitize: bool, places: Places) -> None:
    core_tests(Runner(), places, sanitize=sanitize)


def test_the_core_compiles_for_windows(places: Places) -> None:
    assert Path(core_for_windows(Runner(), places).path).is_file()
