# SPDX-License-Identifier: MIT
"""`vbuskit matrix`: which guests are tried with what, by the family of their packages."""

from __future__ import annotations

import pytest

from vbuskit.base.errors import UsageError
from vbuskit.base.places import ROOT
from vbuskit.ci.commands.matrix import PROFILES, fitting, listed
from vbuskit.compat.guests import choose_guests
from vbuskit.compat.scenario import choose


def test_who_names_a_scenario_gets_the_guests_that_it_is_for() -> None:
    kinds = choose_guests(ROOT, None)
    wanted = (
        (["kmp"], {"rpm"}),
        (["update"], {"deb"}),
        (["dkms"], {"dkms"}),
        (["boot"], {"deb", "rpm", "dkms"}),
    )
    for names, families in wanted:
        found = fitting(kinds, choose(names), names)
        assert {kind.family for kind in found} == families


def test_a_guest_that_nothing_named_is_for_is_a_usage_error_that_says_for_whom_it_is() -> None:
    with pytest.raises(UsageError, match="debian-12: no guest") as caught:
        fitting(choose_guests(ROOT, ["debian-12"]), choose(["kmp"]), ["kmp"])
    assert caught.value.hint is not None and "rpm" in caught.value.hint


def test_the_list_says_which_cells_each_family_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert PROFILES["kernels"] is None
    chosen = choose(None, long=True)
    assert listed(fitting(choose_guests(ROOT, None), chosen, None), chosen) == 0
    said = capsys.readouterr().out.splitlines()
    assert "each guest of rpm packages with: boot, kmp" in said
    assert "each guest of dkms packages with: boot, dkms" in said
    (debian,) = (line for line in said if line.startswith("each guest of deb packages"))
    assert "update" in debian and "kmp" not in debian
