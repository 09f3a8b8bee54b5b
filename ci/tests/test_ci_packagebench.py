# SPDX-License-Identifier: MIT
"""`vbuskit bench packages`: the second time nothing is made, and what takes too long breaks a bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT, Places
from vbuskit.base.remembered import Results
from vbuskit.base.run import Runner
from vbuskit.ci import packagebench
from vbuskit.ci.packagebench import timed
from vbuskit.ci.pipeline import Factory, dkms_packages
from vbuskit.kmp import deb, dkms, rpm
from vbuskit.kmp.keys import Key


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tree=ROOT, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


def test_each_format_is_made_once_from_nothing_and_not_again(
    places: Places, key: Key, kernel: str, dummies: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    for module in (deb, rpm, dkms):
        build = module.build

        def counted(*args: object, _build: object = build, _name: str = module.__name__) -> Results:
            built.append(_name)
            return _build(*args)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(module, "build", counted)

    def make(run: Runner, places: Places) -> list[Artifact]:
        factory = Factory(run=run, places=places, key=key, kernel=kernel, build=lambda *_: dummies)
        made = [*factory.packages().values(), *factory.rpms().values()]
        return [*made, *dkms_packages(run, places).values()]

    result = timed(Runner(), places, make)
    assert sorted(built) == sorted(module.__name__ for module in (deb, rpm, dkms))
    assert result.figures[0].values == (7.0,)
    assert not list((places.out / "work" / "bench").glob("*"))


def test_what_takes_longer_than_its_bound_breaks_it(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packagebench, "WARM", 0.0)
    cold, warm = timed(Runner(), places, lambda *_: []).bars
    assert (cold.holds, warm.holds) == (True, False)
