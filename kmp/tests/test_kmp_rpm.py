# SPDX-License-Identifier: MIT
"""The kernel module package: what rpm reads in it, and what kmod says of the same modules."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact, write
from vbuskit.base.errors import Blocked, Refused, UsageError
from vbuskit.base.places import ROOT
from vbuskit.base.run import CommandFailed, Runner
from vbuskit.kmp import rpm
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.deb import MAINTAINER
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.rpmfile import read_rpm
from vbuskit.kmp.signing import verify_module

RELEASE = current_release(ROOT)
RPM = RELEASE.debian_version  # both spell it in the same way


@pytest.fixture(scope="module")
def compiled(
    tree: Path, kernel: str, key: Key, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """What a build host makes of the sources: it compiles, takes out debug information, strips, signs."""
    folder = tmp_path_factory.mktemp("compiled")
    store(key, folder / "keys")
    signing = rpm.SigningKey(folder / "keys/module.key", folder / "keys/module.pem")
    return rpm.build_from_source(Runner(), tree, RELEASE, kernel, folder, signing)


def query(package: Path, *words: str) -> list[str]:
    return Runner()(["rpm", "-qp", *words, package]).splitlines()


def unpacked(package: Path, into: Path) -> dict[str, Path]:
    """Path in the package -> the file."""
    into.mkdir(parents=True, exist_ok=True)
    Runner()(["sh", "-c", 'rpm2cpio "$1" | cpio -idm --quiet', "sh", package], cwd=into)
    return {str(path.relative_to(into)): path for path in sorted(into.rglob("*")) if path.is_file()}


def words_of(tool: str, *words: str | Path) -> list[str]:
    return Runner().attempt([tool, *words]).out.splitlines()


def ksyms(flavour: str, lines: list[str]) -> set[str]:
    """What modprobe prints, 0xCRC and a symbol, as the dependency that SUSE's tools make of it."""
    pairs = (line.split() for line in lines)
    return {f"ksym({flavour}:{symbol}) = {int(crc, 16):x}" for crc, symbol in pairs}


def test_the_version_names_the_driver_and_the_kernel_that_it_was_built_for(
    packages: dict[str, Artifact], kernel: str, flavour: str
) -> None:
    number = kernel.removesuffix(f"-{flavour}").replace("-", "_")
    form = "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE}\n"
    names = {line for package in packages.values() for line in query(package.path, "--qf", form)}
    assert names == {
        f"vbus {RPM} 1 x86_64 MIT",
        f"vbus-kmp-{flavour} {RPM}_k{number} 1 x86_64 GPL-2.0-only",
    }


def test_it_provides_the_modules_and_the_symbols_that_modprobe_says_they_export(
    kmp: Path, modules: dict[str, Artifact], flavour: str
) -> None:
    provides = query(kmp, "--provides")
    exported = ksyms(flavour, words_of("modprobe", "--show-exports", modules["vbus"].path))
    assert [name for name in exported if "vbus_dummy_register" in name]
    assert {line for line in provides if line.startswith("ksym(")} == exported
    assert {line for line in provides if line.startswith("kmod(")} == {
        "kmod(vblk.ko)",
        "kmod(vbus.ko)",
        "kmod(venet.ko)",
    }
    assert "multiversion(kernel)" in provides


def test_it_requires_the_symbols_that_modprobe_says_it_uses_but_not_its_own(
    kmp: Path, modules: dict[str, Artifact], flavour: str
) -> None:
    used = [
        line for each in modules.values() for line in words_of("modprobe", "--dump-modversions", each.path)
    ]
    required = {line for line in query(kmp, "--requires") if line.startswith("ksym(")}
    assert required == {line for line in ksyms(flavour, used) if "vbus_dummy_register" not in line}
    assert [line for line in required if ":module_layout)" in line]


def test_it_supplements_the_hardware_that_modinfo_says_it_drives(
    kmp: Path, modules: dict[str, Artifact], flavour: str
) -> None:
    aliases = [line for each in modules.values() for line in words_of("modinfo", "-F", "alias", each.path)]
    supplements = query(kmp, "--supplements")
    encoded = {re.sub(r"[^*:a-zA-Z0-9]", lambda c: f"%{ord(c[0]):02X}", alias) for alias in aliases}
    assert {line for line in supplements if line.startswith("modalias(")} == {
        f"modalias(kernel-{flavour}:{alias})" for alias in encoded
    }
    assert f"modalias(kernel-{flavour}:vbus:a%5Fb%2Dc)" in supplements
    assert f"(kernel-{flavour} and vbus)" in supplements


def test_a_crc_loses_its_leading_zeros_but_not_its_last_digit(kernel: str, tmp_path: Path) -> None:
    """SUSE's tools spell it so; which symbols have such a CRC differs from kernel to kernel."""
    header = tmp_path / "kernels/f/include/generated/utsrelease.h"
    header.parent.mkdir(parents=True)
    header.write_text(f'#define UTS_RELEASE "{kernel}"\n')
    for tool, says in (
        ("modinfo", f"{kernel} SMP modversions "),
        ("modprobe", "0x0000a0b0\ta\n0x00000000\tb"),
    ):
        (tmp_path / tool).write_text(
            f"#!/bin/sh\ncase $1 in --show-exports) ;; *) printf '{says}\\n' ;; esac\n"
        )
        (tmp_path / tool).chmod(0o755)
    said = Runner()(
        [ROOT / "kmp/rpm/macros/kmp-deps", "requires", tmp_path / "kernels"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdin=f"{tmp_path}/x.ko\n",
    )
    assert said.splitlines() == ["ksym(f:a) = a0b0", "ksym(f:b) = 0"]


def test_two_packages_for_one_kernel_conflict_and_for_two_kernels_they_do_not(
    kmp: Path, kernel: str, flavour: str
) -> None:
    number = kernel.removesuffix(f"-{flavour}").replace("-", "_")
    name = f"vbus-kmp-{flavour}-k{number}"
    assert query(kmp, "--conflicts") == [name]
    assert name in query(kmp, "--provides")
    assert query(kmp, "--enhances") == [f"kernel-{flavour}"]


def test_without_modversions_only_the_very_kernel_will_do(
    tree: Path, modules: dict[str, Artifact], kernel: str, flavour: str, tmp_path: Path
) -> None:
    plain = {}
    for name, module in modules.items():
        raw = module.path.read_bytes().replace(b" modversions ", b" ".ljust(13, b"\0"))
        plain[name] = write(tmp_path / f"{name}.ko", raw)
    made = rpm.build(Runner(), tree, RELEASE, kernel, plain, tmp_path / "out")
    package = made[f"vbus-kmp-{flavour}"].path
    first, _, rest = kernel.partition("-")
    wanted = f"kernel-uname-r = {first}-{rest.replace('-', '_')}"
    kernels = [line for line in query(package, "--requires") if line.startswith(("kernel", "ksym"))]
    assert kernels == [wanted]
    assert not [line for line in query(package, "--provides") if line.startswith("ksym(")]


def test_signed_modules_are_packed_as_they_were_signed(
    kmp: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    files = unpacked(kmp, tmp_path)
    assert {name: path.read_bytes() for name, path in files.items()} == {
        f"lib/modules/{kernel}/updates/{name}.ko": module.path.read_bytes()
        for name, module in modules.items()
    }


def test_the_udev_rules_and_the_dracut_module_are_in_the_package_that_all_kernels_share(
    packages: dict[str, Artifact], kmp: Path, tmp_path: Path
) -> None:
    files = unpacked(packages["vbus"].path, tmp_path)
    for rules in (ROOT / "initrd/udev").iterdir():
        assert files[f"usr/lib/udev/rules.d/{rules.name}"].read_bytes() == rules.read_bytes()
    module = files["usr/lib/dracut/modules.d/90vbus/module-setup.sh"]
    assert module.read_bytes() == (ROOT / "initrd/dracut/90vbus/module-setup.sh").read_bytes()
    assert os.access(module, os.X_OK)
    assert "vbus" in query(kmp, "--requires")


def test_what_a_build_host_compiles_is_signed_after_it_was_stripped(
    compiled: dict[str, Artifact], key: Key, kernel: str, flavour: str, tmp_path: Path
) -> None:
    files = unpacked(compiled[f"vbus-kmp-{flavour}"].path, tmp_path / "kmp")
    assert sorted(files) == [f"lib/modules/{kernel}/updates/{n}.ko" for n in ("vblk", "vbus", "venet")]
    for path in files.values():
        verify_module(path.read_bytes(), key.certificate)
        assert path.stat().st_mode & 0o777 == 0o644
        assert ".debug_info" not in Runner()(["readelf", "-SW", path])


def test_the_debug_information_of_each_module_is_in_a_package_of_its_own(
    compiled: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    files = unpacked(compiled["vbus-debuginfo"].path, tmp_path)
    found = sorted(name for name in files if name.endswith(".debug"))
    assert [Path(name).name.partition(".ko")[0] for name in found] == ["vblk", "vbus", "venet"]
    assert all(f"/{kernel}/updates/" in name for name in found)


def test_the_source_package_has_the_spec_with_nothing_left_to_fill_in(
    compiled: dict[str, Artifact], tmp_path: Path
) -> None:
    files = unpacked(compiled["vbus.src"].path, tmp_path)
    assert set(files) == {"vbus.files", "vbus.preamble", "vbus.spec", f"vbus-{RPM}.tar.xz"}
    text = files["vbus.spec"].read_text()
    assert not re.search(r"@[A-Z]+@", text)
    assert f"Version:        {RPM}\n" in text


def test_two_builds_have_the_same_bytes(
    tree: Path,
    packages: dict[str, Artifact],
    modules: dict[str, Artifact],
    kernel: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    longer = tmp_path / "another/longer/folder"
    longer.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(longer))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    again = rpm.build(Runner(), tree, RELEASE, kernel, modules, tmp_path / "out")
    assert {name: package.sha256 for name, package in again.items()} == {
        name: package.sha256 for name, package in packages.items()
    }


def test_every_date_is_the_releases_even_when_this_machines_clock_is_slow(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    ahead = replace(RELEASE, epoch=4_000_000_000)
    made = rpm.build(Runner(), tree, ahead, kernel, modules, tmp_path)
    dates = [
        line
        for each in made.values()
        for line in query(each.path, "--qf", "[%{FILEMTIMES}\n]%{BUILDTIME}\n")
    ]
    assert set(dates) == {"4000000000"}


def test_settings_of_the_user_do_not_reach_the_package(
    tree: Path,
    packages: dict[str, Artifact],
    modules: dict[str, Artifact],
    kernel: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".rpmmacros").write_text("%packager somebody\n%vendor somebody\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    again = rpm.build(Runner(), tree, RELEASE, kernel, modules, tmp_path / "out")
    assert again["vbus"].sha256 == packages["vbus"].sha256
    assert query(again["vbus"].path, "--qf", "%{BUILDHOST}\n") == ["vbuskit"]


def flipped(raw: bytes) -> Iterator[bytes]:
    """One bit of the main header's index, of its values, and of the payload's middle and end."""
    header = raw.index(b"\x8e\xad\xe8\x01", 104)
    for at in (header + 40, header + 2000, (header + len(raw)) // 2, len(raw) - 20):
        yield raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def test_rpm_refuses_a_package_with_a_changed_byte(kmp: Path, tmp_path: Path) -> None:
    run, changed = Runner(), tmp_path / "changed.rpm"
    assert run.attempt(["rpm", "-K", kmp]).out.endswith("digests OK\n")
    for raw in flipped(kmp.read_bytes()):
        changed.write_bytes(raw)
        assert run.attempt(["rpm", "-K", changed]).code != 0
        with pytest.raises(Refused, match="is a broken RPM package"):
            read_rpm(raw)


def test_a_module_of_another_kernel_is_refused_in_words(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    words = rf"vbus\.ko: is built for {re.escape(kernel)}, not for 6\.4\.0-1-default"
    with pytest.raises(Refused, match=words):
        rpm.build(Runner(), tree, RELEASE, "6.4.0-1-default", modules, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_module_of_another_kernel_stops_a_build_host_as_well(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpm, "module_of", lambda *words: words[2].path.read_bytes())
    with pytest.raises(CommandFailed, match=r"rpmbuild: exit code 1: .*kmp-deps: .*is built for "):
        rpm.build(Runner(), tree, RELEASE, "6.4.0-1-default", modules, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_module_of_another_architecture_is_refused_in_words(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    raw = bytearray(modules["vblk"].path.read_bytes())
    struct.pack_into("<H", raw, 18, 183)  # EM_AARCH64
    foreign = {**modules, "vblk": write(tmp_path / "vblk.ko", bytes(raw))}
    with pytest.raises(Refused, match=r"vblk\.ko: is built for ELF machine 183, not for x86_64"):
        rpm.build(Runner(), tree, RELEASE, kernel, foreign, tmp_path / "out")


def test_a_kernel_without_headers_is_one_line_and_a_hint(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(Blocked, match=r"kernel 9\.9\.0-1-amd64: its headers are not installed") as caught:
        rpm.build_from_source(Runner(), tree, RELEASE, "9.9.0-1-amd64", tmp_path)
    assert caught.value.hint == "apt-get install linux-headers-9.9.0-1-amd64"


def test_what_the_compiler_says_is_the_line_that_is_told(tree: Path, kernel: str, tmp_path: Path) -> None:
    broken = tmp_path / "tree"
    shutil.copytree(tree, broken)
    (broken / "drivers/linux/disk.c").write_text("int f(void) { return 1 }\n")
    with pytest.raises(CommandFailed, match=r"rpmbuild: exit code 1: .*disk\.c:1:.* error: expected ';'"):
        rpm.build_from_source(Runner(), broken, RELEASE, kernel, tmp_path / "out")


@pytest.mark.parametrize("release", ["", "../../etc", "6.1 x", "6.1'; rm -rf /", "6.1\n", "default"])
def test_what_is_no_kernel_release_never_reaches_a_spec(
    tree: Path, modules: dict[str, Artifact], tmp_path: Path, release: str
) -> None:
    with pytest.raises(UsageError, match="no kernel release"):
        rpm.build(Runner(), tree, RELEASE, release, modules, tmp_path)


@pytest.mark.parametrize(
    ("release", "flavour"),
    [
        ("6.1.0-56-cloud-amd64", "cloud-amd64"),
        ("7.2.13+deb14-amd64", "amd64"),
        ("6.4.0-150600.21-default", "default"),
        ("5.14.0-427.el9.x86_64", "default"),
        ("6.12.0-rc3-rt", "rt"),
        ("6.12.0-rc3", "default"),
    ],
)
def test_the_flavour_is_what_follows_the_numbers(release: str, flavour: str) -> None:
    assert flavour_of(release) == flavour


def test_rpm_reads_the_changelog_that_debian_has(kmp: Path) -> None:
    text = "b (2~rc1) u; urgency=low\n\n  * 100% of\n    it.\n  * More.\n\n"
    text += " -- M <m@m>  Thu, 01 Oct 2026 23:30:00 -0200\n"
    assert rpm.changelog(text) == (f"* Fri Oct 02 2026 {MAINTAINER} - 2~rc1-1\n- 100%% of it.\n- More.\n")
    assert query(kmp, "--changelog")[0].endswith(f"- {RPM}-1")


def test_rpmlint_has_nothing_to_say_but_what_is_waived(packages: dict[str, Artifact]) -> None:
    waived = ROOT / "kmp/rpm/vbus.rpmlintrc"
    done = Runner().attempt(["rpmlint", "-r", waived, *(package.path for package in packages.values())])
    said = re.findall(r"^\S+: [EW]: .*$", done.out, re.MULTILINE)
    assert (said, done.code) == ([], 0)


def test_on_rhel_the_package_is_a_kmod_in_extra_without_initrd_words(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path: Path
) -> None:
    """RHEL's macro in miniature: other names, other options, one flavour, and no -b."""
    theirs = tmp_path / "tree"
    shutil.copytree(tree, theirs)
    (theirs / "kmp/rpm/macros/macros.kmp").write_text("""\
%rhel 9
%kernel_module_package_buildreqs kernel-devel
%flavors_to_build default
%kernel_source() %{kmp_kernels}/%{kmp_flavour}$([ %{1} = default ] || echo ".%{1}")
%kernel_module_package(n:v:r:s:f:xp:) %{expand:
%package -n kmod-%{-n*}
Summary: %{-n*} kernel module(s)
%(cat %{-p*})
%description -n kmod-%{-n*}
This package provides the %{-n*} kernel modules.
%files -n kmod-%{-n*}
%(cat %{-f*})
}
""")
    flavour = flavour_of(kernel)
    spec = theirs / "kmp/rpm/vbus.spec"
    text = spec.read_text().replace("modules/$flavor/", f"modules/{flavour}/")
    spec.write_text(f"%global kmp_flavour {flavour}\n{text}")
    made = rpm.build(Runner(), theirs, RELEASE, kernel, modules, tmp_path / "out")
    assert sorted(made) == ["kmod-vbus", "vbus"]
    files = [line for line in query(made["kmod-vbus"].path, "-l") if line.endswith(".ko")]
    assert files == [f"/lib/modules/{kernel}/extra/vbus/{name}.ko" for name in ("vblk", "vbus", "venet")]
    assert query(made["kmod-vbus"].path, "--qf", "%{LICENSE}\n") == ["GPL-2.0-only"]
