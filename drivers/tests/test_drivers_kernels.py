# SPDX-License-Identifier: MIT
"""One source for all kernels: which release is taken, what a missing one does, what was built for whom."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact, write
from vbuskit.base.errors import Blocked, Exit, Refused, UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.base.shelf import is_held
from vbuskit.drivers import roots
from vbuskit.drivers.kernel import CONFIG, ModuleBuildFailed
from vbuskit.drivers.kernels import KERNELS, LINES, Kernel, kernel_named
from vbuskit.drivers.matrix import Row, compiler_of, line_of, modules_for, site_for, verdict
from vbuskit.drivers.roots import Root, install_headers, key_of, load, newest_first, packages_of

TRIXIE = kernel_named("trixie/cloud-amd64")
INDEX = [
    "linux-headers-amd64",
    "linux-headers-cloud-amd64",
    "linux-headers-6.12.9+deb13-cloud-amd64",
    "linux-headers-6.12.117+deb13-cloud-amd64",
    "linux-headers-6.12.117+deb13-amd64",
    "linux-headers-6.12.117+deb13-common",
    "linux-headers-7.0.13+deb13-cloud-amd64",
]


class Apt(Runner):
    """An index that names INDEX, and a pool that has lost some of it."""

    def __init__(self, lost: Sequence[str], said: str = "E: Failed to fetch x  404  Not Found") -> None:
        super().__init__()
        self.lost, self.said = lost, said
        self.installed: list[str] = []

    def __call__(
        self,
        args: Sequence[Arg],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        seconds: float | None = None,
        hint: str | None = None,
    ) -> str:
        assert "pkgnames" in args
        return "\n".join(INDEX)

    def attempt(
        self,
        args: Sequence[Arg],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        seconds: float | None = None,
    ) -> Finished:
        if args[-1] in self.lost:
            return Finished(100, "", self.said)
        self.installed.append(str(args[-1]))
        return Finished(0, "", "")


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_the_newest_release_is_newest_by_number_and_of_its_own_line_and_flavour() -> None:
    found = newest_first(TRIXIE, INDEX)
    assert found == ["6.12.117+deb13-cloud-amd64", "6.12.9+deb13-cloud-amd64"]


@pytest.mark.usefixtures("as_root")
def test_a_package_that_the_pool_has_lost_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    apt = Apt(lost=["linux-headers-6.12.117+deb13-cloud-amd64"])
    install_headers(apt, tmp_path, tmp_path / "debs", TRIXIE)
    assert apt.installed == ["linux-headers-6.12.9+deb13-cloud-amd64"]


@pytest.mark.usefixtures("as_root")
def test_a_line_of_those_before_gets_the_release_before_the_one_that_is_there(tmp_path: Path) -> None:
    before = replace(TRIXIE, line=replace(TRIXIE.line, before=True))
    (tmp_path / "packages.txt").write_text("")
    root = Root("trixie", tmp_path, Artifact.of(tmp_path / "packages.txt"))
    newest, older = newest_first(TRIXIE, INDEX)
    (tmp_path / "usr/src" / f"linux-headers-{newest}").mkdir(parents=True)
    assert root.release_of(TRIXIE) == newest
    with pytest.raises(Blocked, match="had no headers"):
        root.release_of(before)
    apt = Apt(lost=[])
    install_headers(apt, tmp_path, tmp_path / "debs", before)
    assert apt.installed == [f"linux-headers-{older}"]
    (tmp_path / "usr/src" / f"linux-headers-{older}").mkdir()
    assert (root.release_of(TRIXIE), root.release_of(before)) == (newest, older)


@pytest.mark.usefixtures("as_root")
def test_when_nothing_of_what_the_index_names_can_be_had_no_root_is_made(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match=r"linux-headers-6.12.117.*cannot be reached"):
        install_headers(Apt(lost=INDEX), tmp_path, tmp_path / "debs", TRIXIE)
    with pytest.raises(VbuskitError, match="unmet dependencies"):
        install_headers(Apt(INDEX, "E: unmet dependencies"), tmp_path, tmp_path / "debs", TRIXIE)


@pytest.mark.usefixtures("as_root")
def test_a_line_that_the_mirror_does_not_have_leaves_the_others_their_root(tmp_path: Path) -> None:
    apt = Apt(lost=[])
    install_headers(apt, tmp_path, tmp_path / "debs", kernel_named("sid/amd64"))
    assert apt.installed == []
    (tmp_path / "packages.txt").write_text("")
    root = Root("sid", tmp_path / "tree", Artifact.of(tmp_path / "packages.txt"))
    with pytest.raises(Blocked, match="sid/amd64: the mirror had no headers"):
        root.release_of(kernel_named("sid/amd64"))


def finished(folder: Path) -> Path:
    folder.mkdir()
    packages = write(folder / "packages.txt", "make 4.4\n")
    write(folder / "sealed", f"{packages.sha256} {packages.size}\n")
    return folder


def test_a_root_without_its_seal_or_with_another_list_is_none(tmp_path: Path) -> None:
    assert load(finished(tmp_path / "good"), "sid").tree == tmp_path / "good/tree"
    (finished(tmp_path / "torn") / "sealed").unlink()
    (finished(tmp_path / "other") / "packages.txt").write_text("make 4.5\n")
    finished(tmp_path / "open").chmod(0o777)
    for name in ("torn", "other", "open", "absent"):
        with pytest.raises(Refused):
            load(tmp_path / name, "sid")


def test_another_mirror_and_another_suite_are_other_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key_of(line.suite) for line in LINES]
    monkeypatch.setenv("VBUSKIT_MIRROR", "http://127.0.0.1:9/")
    keys += [key_of("sid")]
    assert len(set(keys)) == len({line.suite for line in LINES}) + 1


def test_a_root_has_what_its_headers_want_and_do_not_depend_on() -> None:
    assert "binutils" in packages_of("trixie-backports") and "binutils" not in packages_of("trixie")


def test_only_a_kernel_that_counts_turns_the_command_red() -> None:
    good, informing = Row(TRIXIE), kernel_named("bullseye/amd64")
    failed = Row(informing, outcome="no", code=Exit.FAILED)
    assert verdict([good, failed]) == Exit.OK
    assert line_of(failed).endswith("no (informing)")
    blocked, red = Row(TRIXIE, code=Exit.BLOCKED), Row(TRIXIE, code=Exit.FAILED)
    assert verdict([good, blocked]) == Exit.BLOCKED
    assert verdict([blocked, red, failed]) == Exit.FAILED


def test_a_kernel_that_is_not_in_the_table_is_answered_with_the_table() -> None:
    with pytest.raises(UsageError) as caught:
        kernel_named("trixie/cloud")
    assert caught.value.hint is not None
    assert all(kernel.name in caught.value.hint for kernel in KERNELS)


# ---- With chroots and a mirror ----

full = [
    pytest.mark.full,
    pytest.mark.skipif(os.geteuid() != 0, reason="build roots need root"),
]


@pytest.fixture
def here(tmp_path: Path) -> Places:
    """Results of its own; build roots from the cache."""
    return Places.from_environment(out=tmp_path / "out")


def parameters() -> list[object]:
    return [pytest.param(kernel, id=kernel.name, marks=full) for kernel in KERNELS]


@pytest.mark.parametrize("kernel", parameters())
def test_each_kernel_gets_modules_of_its_own_release(here: Places, kernel: Kernel) -> None:
    release = site_for(Runner(), here, kernel).release
    try:
        built = modules_for(Runner(), here, kernel)
    except ModuleBuildFailed as error:
        if kernel.line.informing:
            pytest.skip(f"informing: {error}")
        raise
    for module in built.values():
        magic = re.search(rb"(?<=\0vermagic=)[^ \0]+", module.path.read_bytes())
        assert magic is not None
        assert magic[0].decode() == release
        assert compiler_of(module.path).startswith("gcc ")


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="build roots need root")
def test_each_question_is_answered_with_yes_by_one_kernel_and_with_no_by_another(here: Places) -> None:
    """A probe that fails everywhere may fail for its own mistake; one that never fails asks nothing."""
    answers: dict[str, set[str]] = {}
    for line in LINES:
        kernel = Kernel(line, "cloud-amd64")
        try:
            folder = modules_for(Runner(), here, kernel)["vbus"].path.parent
        except ModuleBuildFailed:
            folder = here.work("build", f"modules-{line.name}-cloud-amd64")
        for name, answer in re.findall(r"#define (HAVE_\w+) ([01])", (folder / CONFIG).read_text()):
            answers.setdefault(name, set()).add(answer)
    assert {name: sorted(said) for name, said in answers.items() if said != {"0", "1"}} == {}


def test_what_gc_removes_are_no_packages_of_a_root_that_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tree=tmp_path, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")

    def build(run: Runner, suite: str, debs: Path, draft: Path) -> None:
        raise Refused("in use" if is_held(debs) else "free")

    monkeypatch.setattr(roots, "build", build)
    monkeypatch.setattr(roots, "has_room", lambda *words: None)
    with pytest.raises(Refused, match="in use"):
        roots.root_for(Runner(), places, "sid")
