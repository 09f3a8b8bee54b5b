# SPDX-License-Identifier: MIT
"""The judgement: one image that can reach its root disk, and one thing of it broken at a time."""

from __future__ import annotations

import ast
import gzip
import lzma
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.initrd import kmod, sample
from vbuskit.initrd.check import Finding, check
from vbuskit.initrd.image import read_image

Files = dict[str, bytes | str]
RELEASE = sample.RELEASE
OTHER = "6.12.117+deb13-amd64"
FOLDER = f"usr/lib/modules/{RELEASE}"
VBUS, VBLK = f"{FOLDER}/updates/vbus.ko", f"{FOLDER}/updates/vblk.ko"
DEP, ALIAS = f"{FOLDER}/modules.dep", f"{FOLDER}/modules.alias"
UDEVD, DRIVERS = "usr/lib/systemd/systemd-udevd", "usr/lib/udev/rules.d/80-drivers.rules"
RULE = "usr/lib/udev/rules.d/61-vblk.rules"


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., list[Finding]]:
    """What is wrong with an image of these files."""

    def judge(files: Files, root: str | None = None, kernel: str | None = None) -> list[Finding]:
        (tmp_path / "image").write_bytes(sample.tree(files))
        found = check(read_image(tmp_path / "image"), root=root, kernel=kernel)
        assert all(finding.holds or finding.next_step for finding in found)
        return [finding for finding in found if not finding.holds]

    return judge


Judged = Callable[..., list[Finding]]


def without(*names: str) -> Files:
    return {name: body for name, body in sample.files().items() if name not in names}


def having(**changes: bytes | str) -> Files:
    """Keys are names of constants of this file."""
    return {**sample.files(), **{globals()[name]: body for name, body in changes.items()}}


def made(name: str, **fields: str) -> bytes:
    return sample.module(
        **{"depends": "", "vermagic": f"{RELEASE} {sample.VERMAGIC}", **fields, "name": name}
    )


def test_an_image_with_all_that_it_needs_reaches_its_root_disk(judged: Judged) -> None:
    for words in ({}, {"kernel": RELEASE}, {"root": "/dev/vba1"}, {"root": "root=LABEL=root"}):
        assert judged(sample.files(), **words) == []


BROKEN: dict[str, tuple[Files, str, str]] = {
    "no modules at all": (
        {"lib": "usr/lib", RULE: sample.files()[RULE]},
        "there are no kernel modules",
        "build the image again",
    ),
    "hook not run": (
        {**without(VBUS, VBLK, f"{FOLDER}/updates/venet.ko"), DEP: b"kernel/ext4.ko:\n"},
        "vbus: is not in the image",
        "install",
    ),
    "no vblk": (
        {**without(VBLK), DEP: b"updates/vbus.ko:\n"},
        "vblk: is not in the image",
        f"install the modules for {RELEASE}, then: update-initramfs -u -k {RELEASE}",
    ),
    "only in modules.dep": (
        without(VBLK),
        f"modules.dep names /lib/modules/{RELEASE}/updates/vblk.ko",
        "install",
    ),
    "not in modules.dep": (having(DEP=b"updates/vbus.ko:\n"), "not in modules.dep", f"depmod {RELEASE}"),
    "what it needs is missing": (
        having(DEP=b"updates/vbus.ko:\nupdates/vblk.ko: updates/vbus.ko kernel/gone.ko\n"),
        f"vblk: needs /lib/modules/{RELEASE}/kernel/gone.ko, which is not in the image",
        "update-initramfs",
    ),
    "stale modules.dep": (
        having(DEP=b"updates/vbus.ko:\nupdates/vblk.ko:\n"),
        "vblk: needs vbus, and modules.dep does not say so",
        "depmod",
    ),
    "another kernel's": (
        having(VBLK=made("vblk", vermagic=f"{OTHER} {sample.VERMAGIC}")),
        f"is built for {OTHER}, not for this one",
        f"install the modules for {RELEASE}",
    ),
    "no vermagic": (having(VBLK=sample.module(name="vblk")), "is built for no kernel", "install"),
    "cut off": (having(VBLK=sample.modules()["vblk"][:80]), "updates/vblk.ko: is cut off", "again"),
    "empty": (having(VBLK=b""), "is no kernel module", "again"),
    "no alias of the bridge": (
        having(ALIAS=b"alias vbus:vblk vblk\n"),
        "vbus: modules.alias has no pci:v00001AF4d00001110",
        "depmod",
    ),
    "no alias of the disk": (
        having(ALIAS=b"alias pci:* vbus\n"),
        "vblk: modules.alias has no vbus:vblk",
        "depmod",
    ),
    "no udevd": (without(UDEVD), "vbus: nothing loads it", "list of modules"),
    "no rule that loads": (without(DRIVERS), "vblk: nothing loads it", "list of modules"),
    "blacklisted": (
        {**sample.files(), "etc/modprobe.d/local.conf": b"# why\nblacklist vblk # no\n"},
        "vblk: /etc/modprobe.d/local.conf keeps it from being loaded",
        "take the line away",
    ),
    "no udev rule": (without(RULE), "61-vblk.rules is not in the image", "update-initramfs"),
    "no udevd and no script": (
        without(UDEVD, "conf/initramfs.conf", "conf/modules"),
        "the image has no udevd, so a root disk by UUID or label is never found",
        "build the image again",
    ),
    "udev rule switched off": (
        {**sample.files(), "etc/udev/rules.d/61-vblk.rules": "/dev/null"},
        "/etc/udev/rules.d/61-vblk.rules is not ours or switched off",
        "update-initramfs",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_thing_broken_is_found_and_said(case: str, judged: Judged) -> None:
    files, words, next_step = BROKEN[case]
    wrong = judged(files)
    assert any(words in finding.text and next_step in finding.next_step for finding in wrong), wrong


def test_only_a_root_disk_that_udev_names_needs_the_rule(judged: Judged) -> None:
    needing = [
        "LABEL=a",
        "UUID=1-2",
        "PARTUUID=3",
        "/dev/disk/by-id/vbus-1",
        "/dev/mapper/vg-root",
        "ZFS=rpool",
    ]
    assert [root for root in needing if not judged(without(RULE), root=root)] == []
    assert [root for root in ("/dev/vba", "/dev/vbb2") if judged(without(RULE), root=root)] == []


def test_a_disk_of_another_bus_is_not_reached(judged: Judged) -> None:
    for root in ("/dev/vda1", "/dev/sda", "root=/dev/nvme0n1p2"):
        (wrong,) = judged(sample.files(), root=root)
        assert "is no disk on vbus" in wrong.text


def test_what_is_no_root_disk_is_a_usage_error(judged: Judged) -> None:
    for root in ("", "vba", "UUID=", "/dev/"):
        with pytest.raises(UsageError, match="is no root disk"):
            judged(sample.files(), root=root)


def test_a_list_of_modules_stands_in_for_aliases_and_udev(judged: Judged) -> None:
    for name in ("conf/modules", "usr/lib/modules-load.d/vblk.conf"):
        files = {**without(UDEVD, ALIAS), name: b"ext4\nvblk\n"}
        assert judged(files, root="/dev/vba1") == []


def test_every_kernel_of_the_image_is_judged_unless_one_is_named(judged: Judged) -> None:
    files = {**without(VBLK, DEP), DEP: b"updates/vbus.ko:\n", **sample.files(OTHER)}
    assert {finding.release for finding in judged(files)} == {RELEASE}
    assert judged(files, kernel=OTHER) == []
    (wrong,) = judged(files, kernel="5.10")
    assert f"no modules of this kernel, only of {RELEASE}, {OTHER}" in wrong.text


def test_a_module_of_another_kernel_is_right_only_behind_a_weak_update(judged: Judged) -> None:
    target = f"usr/lib/modules/{OTHER}/updates"
    weak = f"{FOLDER}/weak-updates"
    files: Files = {
        **without(VBUS, VBLK, DEP),
        DEP: b"weak-updates/vbus.ko:\nweak-updates/vblk.ko: weak-updates/vbus.ko\n",
    }
    for name in ("vbus", "vblk"):
        files[f"{target}/{name}.ko"] = sample.modules(OTHER)[name]
        files[f"{weak}/{name}.ko"] = f"/lib/modules/{OTHER}/updates/{name}.ko"
    assert judged(files) == []
    files[f"{target}/vblk.ko"] = made("vblk", depends="vbus", vermagic=f"{OTHER} SMP")
    assert [f"built for {OTHER}, not for this one" in finding.text for finding in judged(files)] == [True]
    del files[f"{target}/vblk.ko"]
    assert any("vblk: is not in the image" in finding.text for finding in judged(files))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda raw: lzma.compress(raw, check=lzma.CHECK_CRC32),
    "gz": gzip.compress,
    "zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}


@pytest.mark.parametrize("suffix", PACKED)
def test_compressed_modules_are_looked_into(suffix: str, judged: Judged) -> None:
    dep = f"updates/vbus.ko.{suffix}:\nupdates/vblk.ko.{suffix}: updates/vbus.ko.{suffix}\n"
    files: Files = {**without(VBUS, VBLK), DEP: dep.encode()}
    for name in ("vbus", "vblk"):
        files[f"{FOLDER}/updates/{name}.ko.{suffix}"] = PACKED[suffix](sample.modules()[name])
    assert judged(files) == []
    for broken, words in (
        (PACKED[suffix](sample.modules()["vblk"])[:-20], "is cut off"),
        (b"?", "is not what"),
    ):
        files[f"{FOLDER}/updates/vblk.ko.{suffix}"] = broken
        assert any(words in finding.text for finding in judged(files))


def test_xz_that_the_kernel_cannot_unpack_is_found(judged: Judged) -> None:
    files: Files = {**without(VBLK), DEP: b"updates/vbus.ko:\nupdates/vblk.ko.xz: updates/vbus.ko\n"}
    files[f"{FOLDER}/updates/vblk.ko.xz"] = lzma.compress(sample.modules()["vblk"])
    (wrong,) = judged(files)
    assert "a check that the kernel does not know" in wrong.text and "crc32" in wrong.next_step


def test_what_depmod_writes_is_read_and_its_binary_form_decides(judged: Judged, tmp_path: Path) -> None:
    if shutil.which("depmod") is None:
        pytest.skip("depmod: not installed")
    # depmod goes by symbols, of which these modules have none.
    files = {**without(DEP, ALIAS), VBLK: made("vblk", alias="vbus:vblk")}
    for name, body in files.items():
        if isinstance(body, bytes) and name.startswith(FOLDER):
            path = tmp_path / "root" / name.removeprefix("usr/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
    Runner()(["depmod", "-b", tmp_path / "root", RELEASE])
    for path in (tmp_path / "root/lib/modules" / RELEASE).glob("modules.*"):
        files[f"{FOLDER}/{path.name}"] = path.read_bytes()
    assert judged(files) == []
    assert judged({**files, DEP: b"", ALIAS: b""}) == []
    whole = files[f"{DEP}.bin"]
    assert isinstance(whole, bytes)
    for size in range(len(whole)):
        (wrong, *_) = judged({**files, f"{DEP}.bin": whole[:size]})
        assert "modules.dep.bin" in wrong.text or "modules.dep" in wrong.text
    del files[f"{DEP}.bin"], files[f"{ALIAS}.bin"]
    assert judged(files) == []


@pytest.mark.parametrize("child", [kmod.CHILDREN | 12, kmod.VALUES | 22])
def test_an_index_that_leads_to_one_place_twice_is_refused(child: int) -> None:
    """From there it could go on for ever, or branch 2 ** 40 times."""
    root = kmod.CHILDREN | 12
    raw = struct.pack(">IIIBBII", kmod.INDEX_MAGIC, 2 << 16, root, ord("a"), ord("b"), child, child)
    with pytest.raises(Refused, match="no tree"):
        list(kmod.index(raw + bytes(4)))


def test_comments_say_nothing(judged: Judged) -> None:
    files = {
        **without(UDEVD),
        "conf/modules": b"# vblk\n#vblk\n",
        "etc/modprobe.d/a.conf": b"# blacklist vblk\n",
    }
    wrong = judged(files)
    assert ["nothing loads it" in finding.text for finding in wrong] == [True, True]


def test_a_file_whose_folder_has_no_entry_is_lost(tmp_path: Path) -> None:
    early = sample.archive([sample.entry(VBLK, sample.modules()["vblk"])])
    (tmp_path / "image").write_bytes(early + sample.tree({**without(VBLK), DEP: b"updates/vbus.ko:\n"}))
    wrong = [finding.text for finding in check(read_image(tmp_path / "image")) if not finding.holds]
    assert wrong == [f"vblk: is lost: the image has no entry for the folder of {VBLK}"]


def test_a_folder_in_place_of_the_link_lib_hides_the_modules(tmp_path: Path) -> None:
    late = sample.archive([sample.entry("lib", mode=sample.FOLDER)])
    (tmp_path / "image").write_bytes(sample.tree(sample.files()) + late)
    assert [finding.text for finding in check(read_image(tmp_path / "image")) if not finding.holds] != []


def test_the_judgement_needs_nothing_but_four_files_of_base() -> None:
    """So that a package may carry it into a guest that has Python and nothing else of ours."""
    own = {"archive", "check", "image", "kmod", "rootfs"}
    below = {"cpio", "errors", "inputs", "unpack"}
    files = [*(ROOT / f"initrd/vbuskit/initrd/{name}.py" for name in own)]
    for file in [*files, *(ROOT / f"base/vbuskit/base/{name}.py" for name in below)]:
        source = ast.parse(file.read_text())
        statements = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
        full = {f"{node.module}.{each.name}" for node in statements for each in node.names}
        ours = {each.split(".")[2] for each in full if each.startswith("vbuskit.")}
        assert ours <= own | below, file
