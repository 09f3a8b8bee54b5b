# SPDX-License-Identifier: MIT
"""The packages of a kernel: fetched once, and what is said when the mirror has lost them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Blocked
from vbuskit.base.places import Places
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.drivers import kerneldebs
from vbuskit.drivers.kerneldebs import header_debs, kernel_debs
from vbuskit.drivers.kernels import kernel_named
from vbuskit.drivers.roots import WORK, Root

SID = kernel_named("sid/amd64")
RELEASE = "7.2.13+deb14-amd64"


class Mirror(Runner):
    """A root's apt, and the packages that it gets."""

    def __init__(self, has: Sequence[str], code: int = 0, said: str = "") -> None:
        super().__init__()
        self.has, self.finished, self.asked = has, Finished(code, "", said), 0

    def attempt(
        self,
        args: Sequence[Arg],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        seconds: float | None = None,
    ) -> Finished:
        self.asked += 1
        folder = Path(args[args.index(WORK) - 1])
        for name in self.has:
            if name in args:
                (folder / f"{name}_7.2.13-1_amd64.deb").write_text(name)
        return self.finished


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    (tmp_path / "packages.txt").write_text("")
    root = Root("sid", tmp_path / "root/tree", Artifact.of(tmp_path / "packages.txt"))
    monkeypatch.setattr(kerneldebs, "root_for", lambda run, places, suite: root)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Places(tree=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")


def test_a_kernel_that_is_cut_into_parts_comes_with_all_of_them_and_is_fetched_once(places: Places) -> None:
    names = [f"linux-{part}-{RELEASE}" for part in ("image", "binary", "modules")]
    mirror = Mirror([*names, "linux-image-7.3.1+deb14-amd64"])
    found = kernel_debs(mirror, places, SID, RELEASE)
    assert sorted(found) == sorted(names)
    assert kernel_debs(mirror, places, SID, RELEASE) == found
    assert mirror.asked == 1


def test_headers_are_fetched_apart_from_the_kernel(places: Places) -> None:
    image, headers = (f"linux-{part}-{RELEASE}" for part in ("image", "headers"))
    mirror = Mirror([image, headers])
    assert sorted(kernel_debs(mirror, places, SID, RELEASE)) == [image]
    assert sorted(header_debs(mirror, places, SID, RELEASE)) == [headers]


def test_a_kernel_that_the_mirror_has_lost_is_named_with_what_to_do(places: Places) -> None:
    with pytest.raises(
        Blocked, match=f"linux-image-{RELEASE.replace('+', '.')}: the mirror no longer"
    ) as caught:
        kernel_debs(Mirror([]), places, SID, RELEASE)
    assert caught.value.hint is not None and str(places.tree / "root") in caught.value.hint
    lost = Mirror([], 100, "E: Failed to fetch x  404  Not Found")
    with pytest.raises(Blocked, match=r"packages of kernel 7\.2.*cannot be reached"):
        kernel_debs(lost, places, SID, RELEASE)


def test_what_apt_is_asked_to_run_is_sound_shell() -> None:
    Runner()(["shellcheck", "-s", "sh", "-e", "SC2046", "-"], stdin=kerneldebs.FETCH)
