# SPDX-License-Identifier: MIT
"""rpm installs the kernel module package into an empty root: what it resolves, what its scriptlets start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.flavour import flavour_of

RELEASE = current_release(ROOT)
TOOLS = "/usr/lib/module-init-tools"
# What scriptlets may call besides the stand-ins; everything else is not there, as on a bare system.
PROGRAMS = ("sh", "cat", "grep", "head", "modinfo", "mv", "readlink", "rm", "sed", "env")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="rpm --root changes root")


@dataclass(frozen=True, slots=True)
class System:
    """A root folder with rpm's database and nothing else; stand-ins in it note how they were called."""

    folder: Path

    def rpm(self, *words: str | Path) -> Finished:
        """--force-debian: Debian's rpm tells everybody else to use Alien."""
        return Runner().attempt(["rpm", "--root", self.folder, *words, "--force-debian"])

    def program(self, path: str, body: str = "") -> None:
        """Note name, words and whether the package is for booting; then `body`."""
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        note = f'echo "{file.name} $* boot=${{KMP_NEEDS_MKINITRD-}}" >>/calls'
        file.write_text(f"#!/bin/sh\n{note}\n{body}\n")
        file.chmod(0o755)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return said


@pytest.fixture(scope="module")
def ours(packages: dict[str, Artifact]) -> list[Path]:
    return [package.path for package in packages.values()]


@pytest.fixture
def system(tmp_path: Path) -> System:
    system = System(tmp_path / "root")
    system.folder.mkdir()
    Runner()(["rpm", "--root", system.folder, "--initdb"])
    return system


@pytest.fixture
def shelled(system: System, kernel: str, bring: Callable[[str, Path], None]) -> System:
    """With a shell for the scriptlets, and stand-ins for depmod, dracut and rpm; the kernel is installed."""
    for name in PROGRAMS:
        bring(name, system.folder)
    (system.folder / "run").mkdir()
    (system.folder / "dev").mkdir()
    (system.folder / "dev/null").touch()
    (system.folder / "lib/modules" / kernel / "kernel").mkdir(parents=True)
    system.program("/sbin/depmod")
    system.program("/usr/bin/dracut", 'for draft; do :; done; echo new >"$draft"')
    system.program("/bin/sync")
    system.program("/bin/uname", "echo 5.10.0-1-default")
    (system.folder / "boot").mkdir()
    system.program("/usr/bin/rpm", f"echo /lib/modules/{kernel}/updates/vbus.ko\necho /usr/share/doc")
    return system


def nvr(packages: Mapping[str, Artifact], kernel: str) -> str:
    return packages[f"vbus-kmp-{flavour_of(kernel)}"].path.name.removesuffix(".x86_64.rpm")


def test_rpm_installs_what_the_kernel_has_the_symbols_for(
    system: System, ours: list[Path], base_package: Path, kernel_package: Path, kernel: str
) -> None:
    done = system.rpm("-i", "--noscripts", base_package, kernel_package, *ours)
    assert (done.code, done.err) == (0, "")
    found = sorted(path.name for path in (system.folder / f"lib/modules/{kernel}/updates").iterdir())
    assert found == ["vblk.ko", "vbus.ko", "venet.ko"]
    assert (system.folder / "usr/lib/udev/rules.d/61-vblk.rules").is_file()
    assert system.rpm("-V", "vbus", f"vbus-kmp-{flavour_of(kernel)}").code == 0


def test_rpm_refuses_it_without_such_a_kernel_and_names_a_symbol(
    system: System, ours: list[Path], base_package: Path, kernel: str
) -> None:
    done = system.rpm("-i", "--noscripts", base_package, *ours)
    assert done.code != 0
    assert f"ksym({flavour_of(kernel)}:module_layout) = " in done.err
    assert not (system.folder / "lib").exists()


def test_removing_leaves_nothing(system: System, ours: list[Path], kernel: str) -> None:
    before = set(system.folder.rglob("*"))
    assert system.rpm("-i", "--noscripts", "--nodeps", *ours).code == 0
    assert system.rpm("-e", "--noscripts", "vbus", f"vbus-kmp-{flavour_of(kernel)}").code == 0
    left = {path for path in set(system.folder.rglob("*")) - before if not path.is_dir()}
    assert {str(path.relative_to(system.folder)).partition("/")[0] for path in left} <= {"var"}


def test_weak_modules2_is_told_of_a_package_for_booting(
    shelled: System, ours: list[Path], packages: dict[str, Artifact], kernel: str
) -> None:
    shelled.program(f"{TOOLS}/weak-modules2", "test $1 != --remove-kmp || cat >>/calls")
    assert shelled.rpm("-i", "--nodeps", *ours).err == ""
    package = nvr(packages, kernel)
    assert shelled.calls() == [f"weak-modules2 --add-kmp {package} boot=1"]
    assert shelled.rpm("-e", f"vbus-kmp-{flavour_of(kernel)}").err == ""
    assert shelled.calls() == [
        "uname -r boot=1",
        f"rpm -ql {package} boot=1",
        f"weak-modules2 --remove-kmp {package} boot=1",
        f"/lib/modules/{kernel}/updates/vbus.ko",
    ]
    assert not list((shelled.folder / "run").iterdir())


@pytest.mark.parametrize("name", ["boot/initramfs-{}.img", "boot/initrd-{}", "boot/0123abcd/{}/initrd"])
def test_without_weak_modules2_modules_are_indexed_before_the_initrd_is_made(
    shelled: System, ours: list[Path], kernel: str, name: str
) -> None:
    image = name.format(kernel)
    (shelled.folder / image).parent.mkdir(parents=True, exist_ok=True)
    (shelled.folder / image).write_text("old\n")
    assert shelled.rpm("-i", "--nodeps", *ours).err == ""
    draft = f"/{image}.vbus-new"
    assert shelled.calls() == [
        f"depmod -a {kernel} boot=1",
        f"dracut --add vbus --kver {kernel} {draft} boot=1",
        f"sync {draft} boot=1",
        f"sync -f /{image} boot=1",
    ]
    assert (shelled.folder / image).read_text() == "new\n"
    assert shelled.rpm("-e", f"vbus-kmp-{flavour_of(kernel)}").err == ""
    made = [f"depmod -a {kernel} boot=1", f"dracut --kver {kernel} {draft} boot=1"]
    assert shelled.calls()[2:4] == made


def test_a_kernel_without_an_initrd_gets_none(shelled: System, ours: list[Path], kernel: str) -> None:
    assert shelled.rpm("-i", "--nodeps", *ours).err == ""
    assert shelled.calls() == [f"depmod -a {kernel} boot=1"]


def test_without_dracut_the_initrd_stays_and_the_package_says_so(
    shelled: System, ours: list[Path], kernel: str
) -> None:
    (shelled.folder / f"boot/initrd-{kernel}").write_text("old\n")
    (shelled.folder / "usr/bin/dracut").unlink()
    said = shelled.rpm("-i", "--nodeps", *ours).err
    assert f"no dracut is here, so /boot/initrd-{kernel} stays as it is" in said


def test_where_suses_scripts_are_they_decide_and_hear_all_they_ask_for(
    shelled: System, ours: list[Path], packages: dict[str, Artifact], kernel: str
) -> None:
    for step in ("pre", "post", "preun", "postun", "posttrans"):
        shelled.program(f"{TOOLS}/kernel-scriptlets/kmp-{step}")
    shelled.program(f"{TOOLS}/weak-modules2")
    flavour = flavour_of(kernel)
    name, version, release = nvr(packages, kernel).rsplit("-", 2)
    words = f"--name {name} --version {version} --release {release}"
    words += f" --kernelrelease {kernel.removesuffix('-' + flavour)} --flavor {flavour} --usrmerged 0"
    assert shelled.rpm("-i", "--nodeps", *ours).err == ""
    assert shelled.calls() == [
        f"kmp-pre {words} 1 boot=1",
        f"kmp-post {words} 1 boot=1",
        f"kmp-posttrans {words} 1 boot=1",
    ]
    assert shelled.rpm("-e", name).err == ""
    gone = [f"kmp-preun {words} 0 boot=1", f"kmp-postun {words} 0 boot=1"]
    assert shelled.calls() == ["uname -r boot=1", *gone]


def test_without_the_kernel_nothing_is_indexed_and_no_initrd_is_made(
    shelled: System, ours: list[Path], kernel: str
) -> None:
    (shelled.folder / "lib/modules" / kernel / "kernel").rmdir()
    assert shelled.rpm("-i", "--nodeps", *ours).err == ""
    assert shelled.calls() == []


def test_installing_it_once_more_does_not_take_its_modules_away_from_other_kernels(
    shelled: System, ours: list[Path], packages: dict[str, Artifact], kernel: str
) -> None:
    shelled.program(f"{TOOLS}/weak-modules2")
    shelled.rpm("-i", "--nodeps", *ours)
    shelled.calls()
    assert shelled.rpm("--reinstall", "--nodeps", *ours).err == ""
    package = nvr(packages, kernel)
    assert shelled.calls() == [f"weak-modules2 --add-kmp {package} boot=1", f"rpm -ql {package} boot=1"]


def test_scriptlets_are_sound_shell_with_nothing_left_to_fill_in(ours: list[Path], tmp_path: Path) -> None:
    run = Runner()
    for step in ("PREIN", "POSTIN", "PREUN", "POSTUN", "POSTTRANS"):
        text = run(["rpm", "-qp", "--qf", f"%{{{step}}}", max(ours, key=lambda path: len(path.name))])
        assert not re.search(r"@[A-Z]+@", text)
        (tmp_path / step).write_text(f"#!/bin/sh\n{text}\n")
    run(["shellcheck", "-S", "warning", *sorted(tmp_path.iterdir())])
    run(["shellcheck", ROOT / "kmp/rpm/macros/kmp-deps", ROOT / "kmp/rpm/macros/scriptlet.sh"])
