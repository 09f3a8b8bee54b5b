# SPDX-License-Identifier: MIT
"""The ISO as a repository: apt, with folders of its own, resolves from it what a kernel needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Finished, Runner
from vbuskit.ci.media import read_iso
from vbuskit.ci.pipeline import Factory
from vbuskit.ci.repository import suite_of
from vbuskit.drivers.kernels import line_of_release
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.keys import Key

STATUS = """\
Package: {name}
Status: install ok installed
Version: 1
Architecture: amd64
Maintainer: nobody <nobody@example.invalid>
Description: a stand-in

"""


class Apt:
    """apt-get that sees one source and stand-ins for installed packages, nothing of this machine."""

    def __init__(self, folder: Path, source: str, installed: tuple[str, ...]) -> None:
        parts = ("apt.conf.d", "auth.conf.d", "preferences.d", "sources.list.d", "trusted.gpg.d")
        for name in ("state/lists/partial", "cache/archives/partial", *(f"none/{part}" for part in parts)):
            (folder / name).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb {source}\n")
        (folder / "status").write_text("".join(STATUS.format(name=name) for name in installed))
        none = folder / "none"
        settings = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc": none,
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Log": none,
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
        }
        self._conf = folder / "apt.conf"
        text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        self._conf.write_text(f"{text}#clear APT::Architectures;\n#clear DPkg::Post-Invoke;\n")

    def __call__(self, *words: str, cwd: Path | None = None) -> Finished:
        env = {"APT_CONFIG": str(self._conf), "LC_ALL": "C"}
        return Runner().attempt(["apt-get", *words], cwd=cwd, env=env)

    def chosen(self, package: str) -> list[str]:
        """What apt would install for this package."""
        done = self("install", "--simulate", package)
        assert done.code == 0, done.err + done.out
        return re.findall(r"^Inst (\S+)", done.out, re.MULTILINE)


# Release -> suite: of the suite and of the flavour of the kernel with headers here, of its suite, of others.
OTHERS = {
    "6.1.0-99-cloud-amd64": "bookworm",
    "6.1.0-99-rt-amd64": "bookworm",
    "7.0.1+deb14-cloud-amd64": "sid",
    "4.4.1": "4.4.1",
}

BuiltFor = Callable[..., dict[str, Artifact]]


@pytest.fixture(scope="module")
def factory(
    dummies: dict[str, Artifact], kernel: str, key: Key, tmp_path_factory: pytest.TempPathFactory
) -> Factory:
    folder = tmp_path_factory.mktemp("repository")
    places = Places(tree=ROOT, out=folder / "out", cache=folder, state=folder)
    return Factory(run=Runner(), places=places, key=key, kernel=kernel, build=lambda *_: dummies)


@pytest.fixture(scope="module")
def mnt(factory: Factory) -> Path:
    """An ISO for the one kernel that has headers here."""
    return unpacked(read_iso(factory.iso().path), factory.places.state / "mnt")


@pytest.fixture(scope="module")
def all_of(
    factory: Factory, dummies: dict[str, Artifact], built_for: BuiltFor
) -> Callable[[Path, Iterable[str]], Artifact]:
    """Makes, in a folder, an ISO for the kernel that has headers here and for others."""
    built = {release: built_for(dummies, release) for release in OTHERS}

    def make(folder: Path, others: Iterable[str] = OTHERS) -> Artifact:
        mine = replace(factory, places=replace(factory.places, out=folder))
        return mine.iso([replace(mine, kernel=other, build=lambda *_: built[_[2]]) for other in others])

    return make


@pytest.fixture(scope="module")
def several(all_of: Callable[..., Artifact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    return unpacked(read_iso(all_of(folder / "out").path), folder / "mnt")


def unpacked(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, raw in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    return folder


AptOf = Callable[..., Apt]


@pytest.fixture
def apt(mnt: Path, kernel: str, tmp_path: Path) -> AptOf:
    def make(
        option: str = "[trusted=yes] ", folder: Path = mnt, suite: str = "", release: str = kernel
    ) -> Apt:
        source = f"{option}file:{folder}/linux/deb {suite or line_of_release(kernel) or kernel}/"
        return Apt(tmp_path, source, ("kmod", f"linux-image-{release}"))

    return make


def test_apt_takes_the_running_kernels_modules_for_those_of_its_flavour(apt: AptOf, kernel: str) -> None:
    here = apt()
    done = here("update")
    assert (done.code, done.err) == (0, "")
    flavour = f"vbus-modules-{flavour_of(kernel)}"
    assert here.chosen(flavour) == ["vbus-common", f"vbus-modules-{kernel}", flavour]


def test_apt_fetches_the_very_files_that_package_makes(
    apt: AptOf, mnt: Path, kernel: str, tmp_path: Path
) -> None:
    here, fetched = apt(), tmp_path / "fetched"
    fetched.mkdir()
    here("update")
    flavour = f"vbus-modules-{flavour_of(kernel)}"
    done = here("download", "vbus-common", f"vbus-modules-{kernel}", flavour, cwd=fetched)
    assert done.code == 0, done.err
    seen = {path.name.replace("%2b", "+"): path.read_bytes() for path in fetched.iterdir()}
    assert seen == {path.name: path.read_bytes() for path in (mnt.parent / "out").glob("*.deb")}


def test_apt_without_trust_refuses_what_openpgp_has_not_signed(apt: AptOf) -> None:
    done = apt("")("update")
    assert done.code == 100
    assert "is not signed" in done.err


def test_apt_finds_a_changed_index(apt: AptOf, mnt: Path, tmp_path: Path, kernel: str) -> None:
    index = next(mnt.glob("linux/deb/*/Packages"))
    before = index.read_bytes()
    index.write_bytes(before.replace(b"Priority: optional", b"Priority: required"))
    try:
        done = apt()("update")
    finally:
        index.write_bytes(before)
    assert done.code == 100
    assert "Hash Sum mismatch" in done.err or "unexpected size" in done.err


@pytest.mark.parametrize(("release", "suite"), OTHERS.items())
def test_each_suite_has_the_modules_of_its_own_newest_kernels(
    apt: AptOf, several: Path, suite: str, release: str
) -> None:
    here = apt(folder=several, suite=suite, release=release)
    assert here("update").err == ""
    flavour = f"vbus-modules-{flavour_of(release)}"
    assert here.chosen(flavour) == ["vbus-common", f"vbus-modules-{release}", flavour]


def test_several_kernels_give_the_same_bytes_in_any_folder_and_any_order(
    all_of: Callable[..., Artifact], several: Path, tmp_path: Path
) -> None:
    (before,) = (several.parent / "out").glob("*.iso")
    assert all_of(tmp_path / "another", reversed(OTHERS)).path.read_bytes() == before.read_bytes()


def test_what_is_for_all_kernels_is_on_the_iso_once_and_in_each_index(several: Path) -> None:
    for pattern in ("deb/vbus-common_*.deb", "rpm/vbus-[0-9]*.rpm"):
        assert len(list(several.glob(f"linux/{pattern}"))) == 1
    indexes = [path.read_text() for path in several.glob("linux/deb/*/Packages")]
    assert [index.count("Package: vbus-common\n") for index in indexes] == [1, 1, 1]


def test_a_kernel_that_comes_in_two_forms_is_refused(
    factory: Factory, dummies: dict[str, Artifact], built_for: BuiltFor
) -> None:
    changed = built_for(dummies, factory.kernel, versions=False)
    with pytest.raises(Refused, match=r"vbus-modules-.*\.deb: comes out in two forms"):
        factory.iso([replace(factory, build=lambda *_: changed)])


def test_a_kernel_that_no_suite_has_gets_an_index_of_its_own() -> None:
    assert suite_of({"Kernel-Release": "6.1.0-56-cloud-amd64"}) == "bookworm"
    assert suite_of({"Kernel-Release": "6.12.9+deb12-amd64"}) == "bookworm-6.12"
    assert suite_of({"Depends": "vbus-modules-6.12.9+deb13-amd64 (>= 0.1)"}) == "trixie"
    assert suite_of({"Kernel-Release": "5.14.0-427.el9.x86_64"}) == "5.14.0-427.el9.x86_64"
    assert suite_of({"Depends": "vbus-common (>= 0.1)"}) == ""
