# SPDX-License-Identifier: MIT
"""The Debian packages: what dpkg-deb reads in them, and what their scripts do on a machine of stand-ins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner
from vbuskit.kmp import deb
from vbuskit.kmp.changelog import Release, current_release, debian_version
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.flavour import flavour_of

RELEASE = current_release(ROOT)


Debs = dict[str, Path]


def built(kernel: str, modules: dict[str, Artifact], into: Path, release: Release = RELEASE) -> Debs:
    """The packages by what they are: common, modules, following."""
    made = deb.build(Runner(), ROOT, release, kernel, modules, into)
    return dict(zip(("common", "modules", "following"), (each.path for each in made.values()), strict=True))


@pytest.fixture(scope="module")
def debs(signed: dict[str, Artifact], kernel: str, tmp_path_factory: pytest.TempPathFactory) -> Debs:
    return built(kernel, signed, tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def package(debs: Debs) -> Path:
    return debs["modules"]


def fields(package: Path, *names: str) -> list[str]:
    """The values of these fields as dpkg-deb reads them; empty where the package has no such field."""
    form = "".join(f"${{{name}}}\\n" for name in names)
    return Runner()(["dpkg-deb", "-W", f"--showformat={form}", package]).splitlines()


def test_names_versions_and_architectures_say_what_each_package_is_for(debs: Debs, kernel: str) -> None:
    version, flavour = RELEASE.debian_version, flavour_of(kernel)
    seen = {what: fields(package, "Package", "Version", "Architecture") for what, package in debs.items()}
    assert seen == {
        "common": ["vbus-common", version, "all"],
        "modules": [f"vbus-modules-{kernel}", version, "amd64"],
        "following": [f"vbus-modules-{flavour}", deb.following_version(RELEASE, kernel), "all"],
    }
    assert [path.name for path in debs.values()] == [
        f"{name}_{version}_{architecture}.deb" for name, version, architecture in seen.values()
    ]


def test_modules_need_their_kernel_and_what_all_kernels_share(package: Path, kernel: str) -> None:
    assert fields(package, "Depends", "Kernel-Release") == [
        f"vbus-common (>= {RELEASE.debian_version}), kmod,"
        f" linux-image-{kernel} | linux-image-{kernel}-unsigned",
        kernel,
    ]


def test_only_the_package_of_modules_says_that_it_is_for_a_kernel(debs: Debs) -> None:
    assert [what for what, package in debs.items() if any(fields(package, "Kernel-Release"))] == ["modules"]


def test_the_metapackage_needs_the_modules_of_its_kernel_and_holds_its_documents_only(
    debs: Debs, kernel: str
) -> None:
    assert fields(debs["following"], "Depends") == [f"vbus-modules-{kernel} (>= {RELEASE.debian_version})"]
    files = read_deb(debs["following"].read_bytes()).files
    assert {path.rpartition("/")[0] for path in files} == {
        f"usr/share/doc/vbus-modules-{flavour_of(kernel)}"
    }


OLDER_FIRST = [
    ("0.1.0", "6.1.0-55-cloud-amd64"),
    ("0.1.0", "6.1.0-56-cloud-amd64"),
    ("0.1.0", "6.12.0-rc3-cloud-amd64"),
    ("0.1.0", "6.12.0-cloud-amd64"),
    ("0.1.0", "6.12.0-1-cloud-amd64"),
    ("0.1.0", "6.12.117+deb13-cloud-amd64"),
    ("0.2.0", "6.1.0-55-cloud-amd64"),
]


def test_apt_finds_the_metapackage_of_a_newer_driver_or_kernel_newer() -> None:
    versions = [
        deb.following_version(replace(RELEASE, debian_version=version), kernel)
        for version, kernel in OLDER_FIRST
    ]
    for older, newer in pairwise(versions):
        words = ["dpkg", "--compare-versions", older, "lt", newer]
        assert Runner().attempt(words).code == 0, (older, newer)


def test_packages_of_two_kernels_differ_in_what_is_of_their_kernel_only(
    other_signed: dict[str, Artifact], debs: Debs, other_kernel: str, tmp_path: Path
) -> None:
    other = built(other_kernel, other_signed, tmp_path)
    assert other["common"].read_bytes() == debs["common"].read_bytes()
    ours, theirs = (set(read_deb(each["modules"].read_bytes()).files) for each in (debs, other))
    assert ours & theirs == set()


def test_lintian_has_nothing_to_say(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    made = [
        package.path for package in deb.build(Runner(), ROOT, RELEASE, kernel, modules, tmp_path).values()
    ]
    words: list[str | Path] = [
        "lintian",
        "--profile",
        "debian",
        "--display-info",
        "--fail-on",
        "error,warning,info",
        *made,
    ]
    done = Runner().attempt(words, env={"LC_ALL": "C.UTF-8"})
    assert (done.code, done.out) == (0, ""), done.out


OVERRIDES = sorted((ROOT / "kmp/debian").glob("*.lintian-overrides"))


@pytest.mark.parametrize("file", OVERRIDES, ids=[file.stem for file in OVERRIDES])
def test_each_thing_that_lintian_shall_not_say_has_its_reason(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines and len(lines) % 2 == 0
    assert all(line.startswith("# ") for line in lines[::2])
    assert not [line for line in lines[1::2] if line.startswith("#")]


def test_the_same_modules_give_the_same_bytes_under_another_umask_and_time_zone(
    signed: dict[str, Artifact], debs: Debs, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    before = os.umask(0o077)
    try:
        again = built(kernel, signed, tmp_path / "a longer folder")
    finally:
        os.umask(before)
    assert [path.read_bytes() for path in again.values()] == [path.read_bytes() for path in debs.values()]


@pytest.mark.parametrize("what", ["common", "modules", "following"])
def test_dpkg_deb_and_our_reader_see_the_same_files(debs: Debs, tmp_path: Path, what: str) -> None:
    Runner()(["dpkg-deb", "-R", debs[what], tmp_path])
    ours = read_deb(debs[what].read_bytes())
    theirs = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert {**ours.files, **{f"DEBIAN/{name}": raw for name, raw in ours.control.items()}} == theirs


def test_the_signed_modules_are_packed_as_they_were_signed(
    package: Path, signed: dict[str, Artifact], kernel: str
) -> None:
    modules = read_deb(package.read_bytes()).modules()
    assert modules == {
        f"lib/modules/{kernel}/updates/vbus/{name}.ko": module.path.read_bytes()
        for name, module in signed.items()
    }


def test_the_hook_and_the_dracut_module_are_packed_as_they_are(debs: Debs) -> None:
    files = read_deb(debs["common"].read_bytes()).files
    for packed, ours in (
        ("usr/share/initramfs-tools/hooks/vbus", "initramfs-tools/hooks/vbus"),
        ("usr/lib/dracut/modules.d/90vbus/module-setup.sh", "dracut/90vbus/module-setup.sh"),
    ):
        assert files[packed] == (ROOT / "initrd" / ours).read_bytes()


@pytest.mark.parametrize("what", ["common", "modules", "following"])
def test_everything_belongs_to_root_and_only_scripts_are_executable(debs: Debs, what: str) -> None:
    for line in Runner()(["dpkg-deb", "-c", debs[what]]).splitlines():
        mode, owner, *_, path = line.split()
        executable = mode.startswith("d") or "/hooks/" in path or path.endswith(".sh")
        assert (mode[1:], owner) == ("rwxr-xr-x" if executable else "rw-r--r--", "root/root")


def test_every_date_is_the_releases_even_when_this_machines_clock_is_slow(
    signed: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    ahead = replace(RELEASE, epoch=4_000_000_000)
    for package in built(kernel, signed, tmp_path, ahead).values():
        listing = Runner()(["dpkg-deb", "-c", package], env={"TZ": "UTC"}).splitlines()
        assert {" ".join(line.split()[3:5]) for line in listing} == {"2096-10-02 07:06"}


@pytest.mark.parametrize("what", ["common", "modules", "following"])
def test_md5sums_list_every_installed_file(debs: Debs, tmp_path: Path, what: str) -> None:
    run = Runner()
    run(["dpkg-deb", "-R", debs[what], tmp_path])
    assert run(["md5sum", "-c", "--quiet", "DEBIAN/md5sums"], cwd=tmp_path) == ""
    listed = (tmp_path / "DEBIAN/md5sums").read_text().count("\n")
    assert listed == len(read_deb(debs[what].read_bytes()).files)


def test_a_module_of_another_kernel_is_refused(
    signed: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    with pytest.raises(
        Refused, match=rf"vbus\.ko: is built for {re.escape(kernel)}, not for 5\.10\.0-1-amd64"
    ):
        deb.build(Runner(), ROOT, RELEASE, "5.10.0-1-amd64", signed, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("release", ["", "../../etc", "6.1 x", "6.1'; rm -rf /", "6.1\n", "6.1-UP"])
def test_what_is_no_kernel_release_never_reaches_a_script(
    signed: dict[str, Artifact], tmp_path: Path, release: str
) -> None:
    with pytest.raises(UsageError, match="no kernel release"):
        deb.build(Runner(), ROOT, RELEASE, release, signed, tmp_path)


@pytest.mark.parametrize(
    ("ours", "debian"),
    [("0.1.0.dev0", "0.1.0~dev0"), ("1.0", "1.0"), ("1.0rc2", "1.0~rc2"), ("1.0a1", "1.0~a1")],
)
def test_a_prerelease_sorts_before_its_release(ours: str, debian: str) -> None:
    assert debian_version(ours) == debian
    base = re.split("~", debian)[0]
    if base != debian:
        assert Runner().attempt(["dpkg", "--compare-versions", debian, "lt", base]).code == 0


def test_dpkg_parses_the_changelog_to_the_same_version_and_date() -> None:
    log = ROOT / "kmp/debian/changelog"
    run = Runner()
    assert run(["dpkg-parsechangelog", "-l", log, "-S", "Version"]).strip() == RELEASE.debian_version
    assert int(run(["dpkg-parsechangelog", "-l", log, "-S", "Timestamp"])) == RELEASE.epoch


def test_a_changelog_that_forgot_the_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kmp/debian").mkdir(parents=True)
    (tmp_path / "kmp/debian/changelog").write_text((ROOT / "kmp/debian/changelog").read_text())
    (tmp_path / "VERSION").write_text("9.9\n")
    with pytest.raises(Refused, match=r"VERSION is 9\.9"):
        current_release(tmp_path)


@dataclass(frozen=True, slots=True)
class Machine:
    """A folder of stand-ins for the programs that maintainer scripts call; each notes how it was called.

    `scripts` has a folder of scripts for each package: common, modules.
    """

    folder: Path
    scripts: Path

    def program(self, name: str, body: str = "") -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.folder}/calls\n{body}\n')
        path.chmod(0o755)

    def script(self, name: str, *words: str, package: str = "modules") -> Finished:
        """Run a script of the package with every absolute path below this machine's root."""
        text = (self.scripts / package / name).read_text()
        for path in ("/lib/modules", "/sys/", "/proc/", "/boot/", "/run/udev"):
            text = text.replace(path, f"{self.folder}{path}")
        (self.folder / name).write_text(text)
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return Runner().attempt(["sh", self.folder / name, *words], env={"PATH": path})

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def make(self, *folders: str) -> None:
        for folder in folders:
            (self.folder / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def machine(debs: Debs, tmp_path: Path, kernel: str) -> Machine:
    """A machine that runs the package's kernel, has it installed, and has no device of the bus."""
    (tmp_path / "scripts").mkdir()
    for name in ("common", "modules"):
        Runner()(["dpkg-deb", "-e", debs[name], tmp_path / "scripts" / name])
    machine = Machine(tmp_path, tmp_path / "scripts")
    for name in ("depmod", "udevadm", "rmmod"):
        machine.program(name)
    machine.program("uname", f"echo {kernel}")
    machine.program("modprobe", "exit 1")
    machine.make(f"/lib/modules/{kernel}/kernel", "/run/udev/control")
    return machine


def with_device(machine: Machine) -> None:
    device = machine.folder / "sys/bus/pci/devices/0000:00:03.0"
    device.mkdir(parents=True)
    (device / "modalias").write_text("pci:v00001AF4d00001110\n")
    machine.program("modprobe", 'test "$1" != --resolve-alias || echo vbus')


def test_scripts_are_sound_shell_with_nothing_left_to_fill_in(machine: Machine) -> None:
    scripts = sorted(path for path in machine.scripts.glob("*/*") if path.read_bytes().startswith(b"#!"))
    assert len(scripts) == 5
    Runner()(["shellcheck", *scripts])
    assert not [path.name for path in scripts if re.search(r"@[A-Z_]+@|^\. ", path.read_text(), re.M)]


def test_installing_without_hardware_indexes_and_loads_nothing(machine: Machine, kernel: str) -> None:
    assert machine.script("postinst", "configure").code == 0
    assert machine.calls() == [f"depmod -a {kernel}", "uname -r"]


def test_installing_with_hardware_loads_the_bus_before_the_nic(machine: Machine) -> None:
    with_device(machine)
    assert machine.script("postinst", "configure").code == 0
    assert machine.calls()[-3:] == ["modprobe vbus", "modprobe venet", "modprobe vblk"]


def test_installing_for_another_kernel_loads_nothing(machine: Machine) -> None:
    with_device(machine)
    machine.program("uname", "echo 5.10.0-1-amd64")
    assert machine.script("postinst", "configure").code == 0
    assert not [call for call in machine.calls() if call.startswith("modprobe")]


@pytest.mark.parametrize(
    ("why", "certificate"),
    [
        ("Key was rejected by service", True),
        ("Required key not available", True),
        ("Operation not permitted", True),
        ("Exec format error", False),
        ("Invalid argument", False),
    ],
)
def test_modules_that_do_not_load_are_a_warning_of_secure_boot_only_where_it_is_that(
    machine: Machine, why: str, certificate: bool
) -> None:
    with_device(machine)
    said = f"modprobe: ERROR: could not insert 'vbus': {why}"
    machine.program(
        "modprobe", f'test "$1" = --resolve-alias && echo vbus || {{ echo "{said}" >&2; exit 1; }}'
    )
    done = machine.script("postinst", "configure")
    assert done.code == 0
    assert f": {said}\n" in done.err
    assert ("mokutil --import" in done.err, "dmesg says why" in done.err) == (certificate, not certificate)


def test_without_the_kernel_nothing_is_indexed(machine: Machine, kernel: str) -> None:
    (machine.folder / f"lib/modules/{kernel}/kernel").rmdir()
    assert machine.script("postinst", "configure").code == 0
    assert machine.script("postrm", "remove").code == 0
    assert not [call for call in machine.calls() if call.startswith("depmod")]


@pytest.mark.parametrize("script", ["postinst", "postrm"])
def test_udev_looks_at_the_shared_rules_again(machine: Machine, script: str) -> None:
    assert machine.script(script, "configure", package="common").code == 0
    assert machine.calls() == ["udevadm control --reload"]


@pytest.mark.parametrize("words", [("remove",), ("upgrade", "0.2")])
def test_nothing_is_unloaded_whatever_becomes_of_the_package(
    machine: Machine, words: tuple[str, ...]
) -> None:
    machine.make("/sys/module/vbus", "/sys/module/venet")
    assert machine.script("prerm", *words).code == 0
    assert [call for call in machine.calls() if call != "uname -r"] == []


def test_a_purge_calls_nothing(machine: Machine) -> None:
    assert machine.script("postrm", "purge").code == 0
    assert machine.calls() == []
