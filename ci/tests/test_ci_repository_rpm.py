# SPDX-License-Identifier: MIT
"""The real zypper and dnf, pointed at the ISO's folder, offer our drivers for hardware and kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Finished, Runner
from vbuskit.ci.media import read_iso
from vbuskit.ci.pipeline import Factory
from vbuskit.drivers.kernel import modules
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.keys import Key

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="zypper --root is for root only")

# What the kernel says of ivshmem-doorbell, and of a card of somebody else, in /sys/devices/.../modalias.
BUS = "pci:v00001AF4d00001110sv00001AF4sd00001100bc05sc00i00"
OTHER = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"
# A kernel without symbol versions, of the flavour of the one with headers here.
LATER = "7.0.1+deb14"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Two repositories, ours and one with stand-ins for kernels; and the stand-ins, by kernel release."""

    ours: Path
    theirs: Path
    base: Path
    kernels: dict[str, Path]


@pytest.fixture(scope="module")
def shelf(
    kernel: str,
    key: Key,
    base_package: Path,
    kernel_package: Path,
    rpm_stub: Callable[[str, Iterable[str]], Path],
    built_for: Callable[..., dict[str, Artifact]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Shelf:
    """The real drivers, for it is their aliases that matter."""
    folder, run = tmp_path_factory.mktemp("shelf"), Runner()
    flavour = flavour_of(kernel)
    later = f"{LATER}-{flavour}"
    drivers = modules(run, Places.from_environment(), kernel)
    told = built_for(drivers, later, versions=False)
    places = Places(tree=ROOT, out=folder / "out", cache=folder, state=folder)
    here = Factory(run=run, places=places, key=key, kernel=kernel, build=lambda *_: drivers)
    iso = here.iso([replace(here, kernel=later, build=lambda *_: told)])
    for name, raw in read_iso(iso.path).items():
        (folder / "mnt" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mnt" / name).write_bytes(raw)
    theirs = folder / "theirs"
    theirs.mkdir()
    for package in (base_package, kernel_package):
        (theirs / package.name).symlink_to(package)
    run(["createrepo_c", "--quiet", theirs])
    provides = f"kernel-uname-r = {LATER}-{flavour.replace('-', '_')}"
    kernels = {kernel: kernel_package, later: rpm_stub(f"kernel-{flavour}", [provides])}
    return Shelf(folder / "mnt/linux/rpm", theirs, base_package, kernels)


class System:
    """A root folder of its own with rpm's database, the two repositories, and hardware in a /sys."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self._folder, self._root, self._sys = folder, folder / "root", folder / "sys"
        self._env = {
            "HOME": str(folder / "home"),
            "LC_ALL": "C",
            "ZYPP_LOCKFILE_ROOT": str(folder),
            "ZYPP_LOGFILE": str(folder / "zypper.log"),
            "ZYPP_MODALIAS_SYSFS": str(self._sys),
        }
        sources = {"ours": shelf.ours, "theirs": shelf.theirs}
        for path in ("home", "sys/devices", "root/etc/zypp/repos.d"):
            (folder / path).mkdir(parents=True)
        repositories = "".join(
            f"[{name}]\nname={name}\nbaseurl=file://{path}\nenabled=1\ngpgcheck=0\n"
            for name, path in sources.items()
        )
        (self._root / "etc/zypp/repos.d/all.repo").write_text(repositories)
        own = {name: folder / "dnf" / name for name in ("cachedir", "logdir", "persistdir", "varsdir")}
        main = "".join(f"{name}={path}\n" for name, path in own.items())
        (folder / "dnf.conf").write_text(f"[main]\nplugins=0\nreposdir=/none\n{main}{repositories}")
        Runner()(["rpm", "--root", self._root, "--initdb"], env=self._env)

    def has(self, *aliases: str) -> System:
        for number, alias in enumerate(aliases):
            device = self._sys / f"devices/pci0000:00/0000:00:0{number}.0"
            device.mkdir(parents=True)
            (device / "modalias").write_text(f"{alias}\n")
        return self

    def installed(self, *packages: Path) -> System:
        """--force-debian: Debian's rpm tells everybody else to use Alien."""
        Runner()(["rpm", "--root", self._root, "-i", "--force-debian", *packages], env=self._env)
        return self

    def zypper(self, *words: str) -> Finished:
        command: list[str | Path] = ["zypper", "--root", self._root, "--non-interactive", "--xmlout"]
        return Runner().attempt([*command, *words], env=self._env)

    def zypper_offers(self, verb: str, *packages: str) -> set[str]:
        """What zypper would install, name-version."""
        done = self.zypper("refresh")
        assert done.code == 0, done.out
        done = self.zypper(verb, "--dry-run", *packages)
        assert done.code == 0, done.out
        found = re.findall(r'<solvable type="package" name="(\S+)" edition="([^"-]+)', done.out)
        return {f"{name}-{version}" for name, version in found}

    def dnf(self, *words: str) -> Finished:
        command: list[str | Path] = [
            "dnf",
            "--config",
            self._folder / "dnf.conf",
            "--installroot",
            self._root,
        ]
        return Runner().attempt([*command, "--assumeno", "--releasever=1", *words], env=self._env)

    def dnf_offers(self, *words: str) -> set[str]:
        done = self.dnf(*words)
        assert "Operation aborted" in done.err, done.err
        found = re.findall(r"^ (\S+) +(?:noarch|x86_64) +([^ -]+)-\S+ ", done.out, re.MULTILINE)
        return {f"{name}-{version}" for name, version in found}


@pytest.fixture
def system(shelf: Shelf, tmp_path: Path) -> System:
    return System(tmp_path, shelf)


@pytest.fixture(scope="module")
def kmps(shelf: Shelf) -> dict[str, set[str]]:
    """By kernel release: what is needed for it, name-version."""
    common = next(shelf.ours.glob("vbus-[0-9]*.rpm")).name.removesuffix("-1.x86_64.rpm")
    found = {}
    for release in shelf.kernels:
        numbers = release.removesuffix(f"-{flavour_of(release)}").replace("-", "_")
        kmp = next(shelf.ours.glob(f"vbus-kmp-*_k{numbers}-1.x86_64.rpm"))
        found[release] = {common, kmp.name.removesuffix("-1.x86_64.rpm")}
    return found


Kmps = dict[str, set[str]]


def test_zypper_brings_the_drivers_with_the_kernel_when_the_bus_is_there(
    system: System, kernel: str, kmps: Kmps
) -> None:
    asked = f"kernel-{flavour_of(kernel)}"
    offered = system.has(OTHER, BUS).zypper_offers("install", asked)
    assert offered == {f"{asked}-1", "base-1", *kmps[kernel]}


@pytest.mark.parametrize("aliases", [(), (OTHER,)])
def test_zypper_brings_nothing_of_ours_without_the_bus(
    system: System, kernel: str, aliases: tuple[str, ...]
) -> None:
    asked = f"kernel-{flavour_of(kernel)}"
    assert system.has(*aliases).zypper_offers("install", asked) == {f"{asked}-1"}


def test_zypper_offers_what_a_running_system_lacks_for_its_own_kernel(
    shelf: Shelf, kmps: Kmps, tmp_path: Path
) -> None:
    assert len({frozenset(names) for names in kmps.values()}) == 2
    for number, (release, package) in enumerate(shelf.kernels.items()):
        system = System(tmp_path / str(number), shelf).has(BUS).installed(shelf.base, package)
        assert system.zypper_offers("install-new-recommends") == kmps[release]


def test_zypper_offers_a_running_system_nothing_without_the_bus(
    system: System, shelf: Shelf, kernel: str
) -> None:
    system.installed(shelf.base, shelf.kernels[kernel])
    assert system.has(OTHER).zypper_offers("install-new-recommends") == set()


def test_dnf_knows_no_hardware_and_adds_the_own_kernels_modules_to_vbus(
    shelf: Shelf, kmps: Kmps, tmp_path: Path
) -> None:
    for number, (release, package) in enumerate(shelf.kernels.items()):
        system = System(tmp_path / str(number), shelf).has(BUS).installed(shelf.base, package)
        assert system.dnf_offers("install", "vbus") == kmps[release]


def test_dnf_adds_no_modules_where_their_kernel_is_not(system: System) -> None:
    assert [name for name in system.dnf_offers("install", "vbus") if "kmp" in name] == []


def test_zypper_and_dnf_find_a_changed_index(system: System, shelf: Shelf) -> None:
    index = shelf.ours / "repodata/primary.xml.gz"
    before = index.read_bytes()
    index.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        zypper, dnf = system.zypper("refresh"), system.dnf("install", "vbus")
    finally:
        index.write_bytes(before)
    assert zypper.code != 0 and "Digest verification failed" in zypper.out
    assert dnf.code != 0 and "checksum doesn't match" in dnf.err
