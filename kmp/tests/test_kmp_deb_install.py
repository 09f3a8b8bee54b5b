# SPDX-License-Identifier: MIT
"""dpkg installs, upgrades and purges the packages in a root of stand-ins: what stays, what is called."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner
from vbuskit.kmp import deb
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.flavour import flavour_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="dpkg --root changes root")

RELEASE = current_release(ROOT)
NAMES = ("vbus", "venet", "vblk")
# What scripts may start besides the stand-ins; everything else is not there.
PROGRAMS = ("sh", "cat", "cut", "find", "grep", "head", "ln", "modinfo", "mv", "readlink", "rm", "sed")
NOTED = ("depmod", "udevadm", "update-initramfs", "rmmod", "run-parts", "sync")
# As much of an initrd as it has: its first word says whose.
MAKES = 'echo "new $3" >"$2"'
DATABASE = "var/lib/dpkg"


@dataclass(frozen=True, slots=True)
class System:
    """A root folder with dpkg's database, a shell, and stand-ins that note how they were called."""

    folder: Path

    def dpkg(self, *words: str | Path) -> Finished:
        """--force-unsafe-io: no fsync for each file; the root lives as long as a test."""
        return Runner().attempt(["dpkg", "--root", self.folder, "--force-unsafe-io", *words])

    def install(self, *packages: Path) -> None:
        done = self.dpkg("-i", *packages)
        assert done.code == 0, done.err

    def program(self, name: str, body: str = "") -> None:
        """Note name and words; then `body`."""
        file = self.folder / "sbin" / name
        file.unlink(missing_ok=True)
        file.write_text(f'#!/bin/sh\necho "{name} $*" >>/calls\n{body}\n')
        file.chmod(0o755)

    def calls(self) -> list[str]:
        """What was called since the last look, but for what only looks at a file."""
        path = self.folder / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [call for call in said if not call.startswith("modprobe --dump-modversions ")]

    def states(self) -> dict[str, str]:
        """What dpkg says of our packages, by their names; it also knows names that others replace."""
        form = "${Package} ${db:Status-Status}\\n"
        database = self.folder / DATABASE
        said = Runner().attempt(["dpkg-query", "--admindir", database, "-W", "-f", form, "vbus-*"]).out
        pairs = (line.split(" ") for line in said.splitlines())
        return {name: state for name, state in pairs if state != "not-installed"}

    def files(self) -> set[str]:
        """All that is there, folders too; of dpkg's database what belongs to our packages."""
        paths = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}
        ours = {path for path in paths if path.startswith(f"{DATABASE}/info/vbus-")}
        return {path for path in paths if not path.startswith(DATABASE)} - {"calls"} | ours

    def modules(self, kernel: str) -> dict[str, bytes]:
        folder = self.folder / f"lib/modules/{kernel}/updates/vbus"
        return {path.stem: path.read_bytes() for path in folder.glob("*.ko")}


def packed(folder: Path, control: str, files: dict[str, bytes]) -> Path:
    """A package made by dpkg-deb alone: a kernel's."""
    for name, content in {"DEBIAN/control": control.encode(), **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o755)
    Runner()(["dpkg-deb", "--root-owner-group", "-Znone", "-b", folder, folder.with_suffix(".deb")])
    return folder.with_suffix(".deb")


def stub(folder: Path, name: str, *files: str) -> Path:
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: stand-in\n"
    return packed(folder / name, control, dict.fromkeys(files, b""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Package files: for the kernel and for the other one [common, modules, metapackage]."""

    ours: Sequence[Path]
    others: Sequence[Path]


@pytest.fixture(scope="module")
def shelf(
    signed: dict[str, Artifact],
    other_signed: dict[str, Artifact],
    kernel: str,
    other_kernel: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shelf:
    folder = tmp_path_factory.mktemp("shelf")

    def made(release: str, modules: dict[str, Artifact]) -> list[Path]:
        packages = deb.build(Runner(), ROOT, RELEASE, release, modules, folder / release)
        return [package.path for package in packages.values()]

    return Shelf(
        ours=made(kernel, signed),
        others=made(other_kernel, other_signed),
    )


@pytest.fixture(scope="module")
def bare(
    kernel: str,
    other_kernel: str,
    bring: Callable[[str, Path], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> System:
    """Two kernels, each with an initrd, of which the first one runs; and no device of the bus."""
    folder, root = tmp_path_factory.mktemp("stubs"), tmp_path_factory.mktemp("bare")
    for name in ("info", "updates", "triggers"):
        (root / DATABASE / name).mkdir(parents=True)
    (root / DATABASE / "status").touch()
    for name in PROGRAMS:
        bring(name, root)
    for name in ("boot", "sbin", "dev", "run/udev/control"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "dev/null").touch()
    system = System(root)
    for name in NOTED:
        system.program(name)
    system.program("uname", f"echo {kernel}")
    system.program("modprobe", "exit 1")
    system.program("mkinitramfs", MAKES)
    system.program("dpkg-divert", 'echo "$2"')
    system.install(stub(folder, "kmod"))
    for release in (kernel, other_kernel):
        system.install(stub(folder, f"linux-image-{release}", f"lib/modules/{release}/kernel/a.ko"))
        (root / f"boot/initrd.img-{release}").write_text("old\n")
    system.calls()
    return system


@pytest.fixture
def system(bare: System, tmp_path: Path) -> System:
    shutil.copytree(bare.folder, tmp_path / "root", symlinks=True)
    return System(tmp_path / "root")


def with_device(system: System) -> None:
    device = system.folder / "sys/bus/pci/devices/0000:00:03.0"
    device.mkdir(parents=True)
    (device / "modalias").write_text("pci:v00001AF4d00001110\n")
    system.program("modprobe", 'test "$1" != --resolve-alias || echo vbus')


def contents(modules: dict[str, Artifact]) -> dict[str, bytes]:
    return {name: module.path.read_bytes() for name, module in modules.items()}


def renewed(calls: list[str]) -> list[str]:
    """The kernel of each initrd that was made."""
    return [call.split()[-1] for call in calls if call.startswith("mkinitramfs ")]


def settings(system: System, text: str) -> None:
    """What an administrator tells update-initramfs."""
    folder = system.folder / "etc/initramfs-tools"
    folder.mkdir(parents=True)
    (folder / "update-initramfs.conf").write_text(text)


def test_dpkg_installs_all_three_and_finds_nothing_missing_or_changed(
    system: System, shelf: Shelf, signed: dict[str, Artifact], kernel: str
) -> None:
    system.install(*shelf.ours)
    names = ["vbus-common", f"vbus-modules-{kernel}", f"vbus-modules-{flavour_of(kernel)}"]
    assert system.states() == dict.fromkeys(names, "installed")
    assert system.modules(kernel) == contents(signed)
    assert system.dpkg("--verify", *names).out == ""
    assert system.calls() == [
        "udevadm control --reload",
        f"depmod -a {kernel}",
        "dpkg-divert --truename /usr/sbin/update-initramfs",
        f"mkinitramfs -o /boot/initrd.img-{kernel}.vbus-new {kernel}",
        f"sync /boot/initrd.img-{kernel}.vbus-new",
        f"sync -f /boot/initrd.img-{kernel}",
        "uname -r",
    ]


def test_packages_of_two_kernels_live_side_by_side_and_each_makes_the_initrd_of_its_own(
    system: System,
    shelf: Shelf,
    signed: dict[str, Artifact],
    other_signed: dict[str, Artifact],
    kernel: str,
    other_kernel: str,
) -> None:
    system.install(*shelf.ours[:2])
    assert renewed(system.calls()) == [kernel]
    system.install(shelf.others[1])
    assert renewed(system.calls()) == [other_kernel]
    assert system.modules(kernel) == contents(signed)
    assert system.modules(other_kernel) == contents(other_signed)


def test_removing_one_kernels_package_keeps_the_others(
    system: System, shelf: Shelf, other_signed: dict[str, Artifact], kernel: str, other_kernel: str
) -> None:
    system.install(*shelf.ours[:2], shelf.others[1])
    system.calls()
    assert system.dpkg("--purge", f"vbus-modules-{kernel}").code == 0
    assert renewed(system.calls()) == [kernel]
    assert (system.modules(kernel), system.modules(other_kernel)) == ({}, contents(other_signed))
    assert system.states() == {"vbus-common": "installed", f"vbus-modules-{other_kernel}": "installed"}
    assert system.dpkg("--purge", "vbus-common").code != 0
    assert (system.folder / "usr/share/initramfs-tools/hooks/vbus").exists()


def test_purging_leaves_no_file(system: System, shelf: Shelf) -> None:
    before = system.files()
    system.install(*shelf.ours, shelf.others[1])
    assert system.dpkg("--purge", *system.states()).code == 0
    assert system.files() == before
    assert system.states() == {}


def test_what_is_removed_and_not_purged_leaves_scripts_only_and_can_be_installed_again(
    system: System, shelf: Shelf, kernel: str
) -> None:
    before = system.files()
    system.install(*shelf.ours)
    assert system.dpkg("--remove", *system.states()).code == 0
    assert {path.rpartition("/")[0] for path in system.files() - before} == {f"{DATABASE}/info"}
    system.install(*shelf.ours)
    assert set(system.states().values()) == {"installed"}
    assert set(system.modules(kernel)) == set(NAMES)


def test_installing_it_once_more_unloads_nothing_and_makes_the_initrd_anew(
    system: System, shelf: Shelf, kernel: str
) -> None:
    system.install(*shelf.ours)
    (system.folder / "sys/module/vbus").mkdir(parents=True)
    system.calls()
    system.install(*shelf.ours)
    calls = system.calls()
    assert not [call for call in calls if call.startswith("rmmod")]
    assert renewed(calls) == [kernel]
    assert set(system.states().values()) == {"installed"}


def test_without_its_kernel_a_package_is_not_set_up(system: System, shelf: Shelf, kernel: str) -> None:
    assert system.dpkg("--purge", f"linux-image-{kernel}").code == 0
    done = system.dpkg("-i", *shelf.ours[:2])
    assert done.code != 0
    assert f"vbus-modules-{kernel} depends on linux-image-{kernel}" in done.err
    assert system.states()[f"vbus-modules-{kernel}"] == "unpacked"
    assert "depmod" not in " ".join(system.calls())


def test_the_metapackage_goes_over_to_the_next_kernel_and_the_old_modules_stay_until_removed(
    system: System, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    system.install(*shelf.ours)
    assert system.dpkg("-i", shelf.others[2]).code != 0
    system.install(*shelf.others)
    assert set(system.states().values()) == {"installed"}
    assert system.dpkg("--purge", f"vbus-modules-{kernel}").code == 0
    assert system.dpkg("--purge", f"vbus-modules-{other_kernel}").code != 0


def test_new_rules_reach_the_initrd_of_each_kernel_that_has_the_drivers_and_no_other(
    system: System, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    system.install(*shelf.ours[:2])
    system.calls()
    system.install(shelf.ours[0])
    assert renewed(system.calls()) == [kernel]
    system.install(shelf.others[1])
    system.calls()
    system.install(shelf.ours[0])
    assert sorted(renewed(system.calls())) == sorted([kernel, other_kernel])
    assert set(system.states().values()) == {"installed"}


def test_a_kernel_without_an_initrd_gets_none(system: System, shelf: Shelf, kernel: str) -> None:
    (system.folder / f"boot/initrd.img-{kernel}").unlink()
    system.install(*shelf.ours[:2])
    assert system.dpkg("--purge", *system.states()).code == 0
    assert renewed(system.calls()) == []


def test_dracut_makes_the_initrd_where_it_is_what_the_machine_has(
    system: System, shelf: Shelf, kernel: str
) -> None:
    (system.folder / "sbin/mkinitramfs").unlink()
    system.program("dracut", 'test ! -e "$5" && echo by dracut >"$5"')
    system.install(*shelf.ours[:2])
    draft = f"/boot/initrd.img-{kernel}.vbus-new"
    assert f"dracut --add vbus --kver {kernel} {draft}" in system.calls()
    assert (system.folder / f"boot/initrd.img-{kernel}").read_text() == "by dracut\n"


@pytest.mark.parametrize(("state", "by"), [("config-files", "dracut"), ("triggers-pending", "mkinitramfs")])
def test_where_both_programs_are_the_one_whose_package_makes_this_machines_initrds_is_taken(
    system: System, shelf: Shelf, kernel: str, state: str, by: str
) -> None:
    """mkinitramfs is initramfs-tools-core's, which stays where dracut has taken initramfs-tools away."""
    system.program("dracut", 'echo by dracut >"$5"')
    system.program("dpkg-query", f'case "$*" in *" initramfs-tools") echo {state} ;; *) exit 1 ;; esac')
    system.install(*shelf.ours[:2])
    made = [call.split()[0] for call in system.calls() if f"initrd.img-{kernel}.vbus-new" in call]
    assert made[0] == by


def test_an_initrd_that_failed_is_not_forgotten_when_a_removal_is_refused_or_an_upgrade_breaks_off(
    system: System, shelf: Shelf, kernel: str, tmp_path: Path
) -> None:
    """dpkg calls a package whole after an abort-upgrade, also one that was half-configured."""
    name = f"vbus-modules-{kernel}"
    system.program("mkinitramfs", "exit 1")
    assert system.dpkg("-i", *shelf.ours[:2]).code == 1
    disk = system.folder / "sys/block/vba"
    for folder in ("device", "holders/md0"):
        (disk / folder).mkdir(parents=True)
    for number in ("dev", "holders/md0/dev"):
        (disk / number).write_text("254:0\n")
    (disk / "device/driver").symlink_to("/sys/bus/vbus/drivers/vblk")
    assert "needs disks on the bus: vba (held by md0)" in system.dpkg("--remove", name).err
    assert system.states()[name] == "half-configured"
    broken = tmp_path / "broken"
    Runner()(["dpkg-deb", "-R", shelf.ours[1], broken])
    (broken / "DEBIAN/preinst").write_text("#!/bin/sh\nexit 1\n")
    (broken / "DEBIAN/preinst").chmod(0o755)
    Runner()(["dpkg-deb", "-Znone", "-b", broken, tmp_path / "broken.deb"])
    assert system.dpkg("-i", tmp_path / "broken.deb").code == 1
    assert system.states()[name] == "unpacked"
    system.program("mkinitramfs", MAKES)
    assert system.dpkg("--configure", "-a").code == 0
    assert (system.states()[name], renewed(system.calls())[-1]) == ("installed", kernel)


def test_without_a_program_for_it_the_initrd_stays_and_the_package_says_so(
    system: System, shelf: Shelf, kernel: str
) -> None:
    (system.folder / "sbin/mkinitramfs").unlink()
    done = system.dpkg("-i", *shelf.ours[:2])
    assert done.code == 0
    assert f"neither mkinitramfs nor dracut is here, so /boot/initrd.img-{kernel} stays" in done.err


def test_an_administrator_who_wants_no_initrd_made_gets_none(
    system: System, shelf: Shelf, kernel: str
) -> None:
    settings(system, "update_initramfs=no\n")
    done = system.dpkg("-i", *shelf.ours[:2])
    assert done.code == 0
    assert (
        f"/boot/initrd.img-{kernel} stays as it is: /etc/initramfs-tools/update-initramfs.conf says"
        in done.err
    )
    assert renewed(system.calls()) == []


@pytest.mark.parametrize(("age", "kept"), [(None, "old\n"), (1, "older\n"), (9, "old\n")])
def test_an_administrator_who_wants_a_backup_keeps_the_initrd_that_booted(
    system: System, shelf: Shelf, kernel: str, age: int | None, kept: str
) -> None:
    """The machine has been up for three days; `age` of the backup is in days as well."""
    settings(system, "backup_initramfs=yes\n")
    (system.folder / "proc").mkdir()
    (system.folder / "proc/uptime").write_text(f"{3 * 86400}.12 4.00\n")
    backup = system.folder / f"boot/initrd.img-{kernel}.bak"
    if age:
        backup.write_text("older\n")
        then = time.time() - age * 86400
        os.utime(backup, (then, then))
    system.install(*shelf.ours[:2])
    assert backup.read_text() == kept
    assert backup.with_suffix("").read_text() == f"new {kernel}\n"


def test_where_update_initramfs_is_another_ones_program_that_is_asked(
    system: System, shelf: Shelf, kernel: str
) -> None:
    system.program("dpkg-divert", 'echo "$2.orig"')
    system.install(*shelf.ours[:2])
    calls = system.calls()
    assert f"update-initramfs -u -k {kernel}" in calls
    assert renewed(calls) == []
    system.program("update-initramfs", "exit 1")
    done = system.dpkg("-i", *shelf.ours[:2])
    said = f"vbus-modules-{kernel}: update-initramfs failed, as it says above; mend that, then: dpkg --conf"
    assert said in done.err


def test_boot_loaders_hear_of_a_new_initrd_and_one_that_fails_fails_the_package(
    system: System, shelf: Shelf, kernel: str
) -> None:
    (system.folder / "etc/initramfs/post-update.d").mkdir(parents=True)
    words = f"run-parts --arg={kernel} --arg=/boot/initrd.img-{kernel} /etc/initramfs/post-update.d"
    system.install(*shelf.ours[:2])
    calls = system.calls()
    assert calls.index(words) > calls.index(f"sync -f /boot/initrd.img-{kernel}")
    system.program("run-parts", "exit 1")
    done = system.dpkg("-i", *shelf.ours[:2])
    assert done.code == 1
    assert f"vbus-modules-{kernel}: a program in /etc/initramfs/post-update.d failed" in done.err


def test_an_initrd_that_cannot_be_made_does_not_keep_the_drivers_on_the_machine(
    system: System, shelf: Shelf, kernel: str
) -> None:
    system.install(*shelf.ours[:2])
    system.program("mkinitramfs", "exit 1")
    done = system.dpkg("--purge", *system.states())
    assert done.code == 0
    assert f"so /boot/initrd.img-{kernel} stays as it was; it may still have the drivers" in done.err
    assert system.states() == {}


def test_a_draft_that_a_killed_script_left_goes_with_the_package(
    system: System, shelf: Shelf, kernel: str
) -> None:
    system.install(*shelf.ours[:2])
    (system.folder / f"boot/initrd.img-{kernel}").unlink()
    draft = system.folder / f"boot/initrd.img-{kernel}.vbus-new"
    draft.write_text("half")
    assert system.dpkg("--purge", *system.states()).code == 0
    assert not draft.exists()


def test_one_kernels_failing_initrd_does_not_keep_the_other_from_its_drivers(
    system: System, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    system.program("mkinitramfs", f'test "$3" != {kernel} && {MAKES}')
    assert system.dpkg("-i", *shelf.ours[:2], shelf.others[1]).code == 1
    states = system.states()
    assert states[f"vbus-modules-{kernel}"] == "half-configured"
    assert states[f"vbus-modules-{other_kernel}"] == "installed"
