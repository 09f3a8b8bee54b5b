# SPDX-License-Identifier: MIT
"""install.sh as a user runs it from a mounted ISO (here: its files in a folder), on stand-in machines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Finished, Runner
from vbuskit.ci.media import read_iso
from vbuskit.ci.pipeline import Factory
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.deb import COMMON, MODULES
from vbuskit.kmp.keys import Key, store

VERSION = current_release(ROOT).debian_version
SHARED = f"linux/deb/{COMMON}_{VERSION}_all.deb"
DPKG = shutil.which("dpkg")
# A pattern: of the one kernel that has headers here.
DEB = f"linux/deb/{MODULES}-*_{VERSION}_amd64.deb"
RPM, KMP = f"linux/rpm/vbus-{VERSION}-1.x86_64.rpm", f"linux/rpm/vbus-kmp-*-{VERSION}_k*.rpm"
INDEXES = ["linux/deb/*/Packages", "linux/deb/*/Release", "linux/rpm/repodata/primary.xml.gz"]


class Guest:
    """A folder with the ISO's files, and stand-ins for `uname`, `id` and the programs of dpkg, or of rpm."""

    def __init__(self, folder: Path, kernel: str) -> None:
        self.mnt, self._bin, self.installed = folder / "mnt", folder / "bin", folder / "installed"
        self._bin.mkdir()
        self.program("uname", f"echo {kernel}")
        self.program("id", "echo 0")
        self.initrd = folder / "initrd"
        self.program("stat", f'[ ! -e {self.initrd} ] || cat {self.initrd}; echo "$@" >{folder}/looked-for')
        self.knows()
        self.program(
            "dpkg", f'[ "$1" != --compare-versions ] || exec {DPKG} "$@"\necho "$@" >>{self.installed}'
        )

    def program(self, name: str, body: str) -> None:
        (self._bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self._bin / name).chmod(0o755)

    def knows(self, common: str = "") -> None:
        """dpkg's database has itself, and `common` as the state and the version of vbus-common."""
        self.program(
            "dpkg-query",
            f"case $4 in dpkg) echo installed ;; *) [ -n '{common}' ] && echo '{common}' ;; esac",
        )

    def of_rpm(self, body: str) -> None:
        """Not dpkg's any more; `body` is what rpm does besides saying that it is installed."""
        self.program("dpkg-query", "exit 1")
        self.program("rpm", f'case "$*" in "-q rpm") exit 0 ;; esac\n{body}')

    def file(self, pattern: str) -> Path:
        (path,) = self.mnt.glob(pattern)
        return path

    def install(self, *words: str | Path, path: str | None = None) -> Finished:
        env = {"PATH": f"{self._bin}:{path or os.environ['PATH']}"}
        return Runner().attempt(["/bin/sh", self.mnt / "linux/install.sh", *words], env=env)

    def without(self, missing: str, folder: Path) -> str:
        """A PATH with the programs that install.sh uses, but one."""
        folder.mkdir()
        for name in (
            "dirname",
            "basename",
            "sha256sum",
            "cut",
            "grep",
            "sed",
            "awk",
            "sort",
            "paste",
            "dpkg-deb",
            "openssl",
            "tar",
        ):
            if name != missing:
                (folder / name).symlink_to(Runner()(["sh", "-c", f"command -v {name}"]).strip())
        return str(folder)


@pytest.fixture
def guest(dummies: dict[str, Artifact], kernel: str, key: Key, tmp_path: Path) -> Guest:
    places = Places(tree=ROOT, out=tmp_path / "out", cache=tmp_path, state=tmp_path)
    iso = Factory(run=Runner(), places=places, key=key, kernel=kernel, build=lambda *_: dummies).iso()
    guest = Guest(tmp_path, kernel)
    for name, raw in read_iso(iso.path).items():
        (guest.mnt / name).parent.mkdir(parents=True, exist_ok=True)
        (guest.mnt / name).write_bytes(raw)
    store(key, tmp_path / "keys")
    return guest


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_the_packages_of_the_running_kernel_are_installed_at_once(guest: Guest) -> None:
    done = guest.install()
    assert done.code == 0, done.err
    assert guest.installed.read_text() == f"-i {guest.file(SHARED)} {guest.file(DEB)}\n"
    assert "the signature was not checked; --certificate FILE checks it" in done.out


@pytest.mark.parametrize(
    ("state", "taken"),
    [
        ("installed 99.0", False),
        ("half-configured 99.0", True),
        ("config-files 99.0", True),
        (f"installed {VERSION}", True),
        ("installed 0.0.1", True),
        ("not-installed ", True),
    ],
)
def test_a_newer_shared_package_stays_because_other_kernels_may_need_it(
    guest: Guest, state: str, taken: bool
) -> None:
    guest.knows(state)
    assert guest.install().code == 0
    assert (SHARED in guest.installed.read_text()) == taken
    assert str(guest.file(DEB)) in guest.installed.read_text()


def test_check_only_looks_and_needs_no_root(guest: Guest) -> None:
    guest.program("id", "echo 1000")
    done = guest.install("--check")
    assert done.code == 0, done.err
    assert "nothing was installed" in done.out
    assert not guest.installed.exists()


def test_one_line_says_what_was_chosen_and_why(guest: Guest, kernel: str) -> None:
    line = (
        f"install.sh: {guest.file(DEB).name} fits the running kernel, {kernel}, and dpkg manages this system"
    )
    assert f"{line} (with {Path(SHARED).name}, which it needs)\n" in guest.install().out


def test_another_kernel_than_the_running_one_can_be_named(guest: Guest, kernel: str) -> None:
    guest.program("uname", "echo 9.9.0-1-amd64")
    done = guest.install("--kernel", kernel)
    assert done.code == 0, done.err
    assert f"{guest.file(DEB).name} fits kernel {kernel}, and dpkg" in done.out
    assert str(guest.file(DEB)) in guest.installed.read_text()


@pytest.mark.parametrize("form", ["pem", "der"])
def test_the_signature_is_checked_against_the_users_certificate(
    guest: Guest, key: Key, tmp_path: Path, form: str
) -> None:
    certificate = tmp_path / f"trusted.{form}"
    certificate.write_bytes(key.certificate_pem if form == "pem" else key.certificate_der)
    done = guest.install("--check", "--certificate", certificate)
    assert done.code == 0, done.err
    assert "the manifest is signed by" in done.out


def test_a_manifest_of_another_key_is_refused(guest: Guest, other_key: Key, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(other_key.certificate_pem)
    done = guest.install("--certificate", tmp_path / "other.pem")
    assert (done.code, guest.installed.exists()) == (4, False)
    assert "manifest.p7s: was not made with the key of" in done.err


def test_a_signature_that_brings_its_own_certificate_is_refused(
    guest: Guest, other_key: Key, tmp_path: Path
) -> None:
    store(other_key, tmp_path / "other")
    pair: list[str | Path] = [
        "-signer",
        tmp_path / "other/module.pem",
        "-inkey",
        tmp_path / "other/module.key",
    ]
    words = ["openssl", "cms", "-sign", "-binary", "-noattr", "-outform", "DER", "-in", "manifest.json"]
    Runner()([*words, "-out", "manifest.p7s", *pair], cwd=guest.mnt)
    done = guest.install("--certificate", tmp_path / "keys/module.pem")
    assert (done.code, guest.installed.exists()) == (4, False)


def test_a_changed_manifest_is_refused_by_its_signature(guest: Guest, tmp_path: Path) -> None:
    manifest = guest.mnt / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"vbuskit"', b'"vbuskot"'))
    assert guest.install("--check", "--certificate", tmp_path / "keys/module.pem").code == 4


@pytest.mark.parametrize(
    "name", ["README.txt", "linux/certificate.der", "linux/certificate.pem", SHARED, DEB, RPM, KMP, *INDEXES]
)
def test_a_flipped_byte_installs_nothing_and_is_named(guest: Guest, name: str) -> None:
    path = guest.file(name)
    flip(path)
    done = guest.install()
    assert (done.code, guest.installed.exists()) == (4, False)
    assert f"{path.relative_to(guest.mnt)}: FAILED" in done.err


@pytest.mark.parametrize(("like", "stranger"), [(SHARED, "vbus-common_99_all.deb"), (RPM, "vbus-99.rpm")])
def test_a_file_that_nobody_has_listed_is_never_installed(guest: Guest, like: str, stranger: str) -> None:
    """The sums know nothing of it, and a name is nobody's word."""
    if like == RPM:
        guest.of_rpm(f'case "$*" in "-q vbus") exit 1 ;; esac\necho "$@" >>{guest.installed}')
    (guest.mnt / like).with_name(stranger).write_bytes(b"evil")
    done = guest.install()
    assert done.code == 0, done.err
    said = guest.installed.read_text()
    assert str(guest.mnt / like) in said and stranger not in said


def test_changed_sums_are_refused(guest: Guest) -> None:
    flip(guest.file(DEB))
    Runner()(["sh", "-c", "sha256sum README.txt $(find linux -type f) >SHA256SUMS"], cwd=guest.mnt)
    done = guest.install()
    assert (done.code, guest.installed.exists()) == (4, False)
    assert "SHA256SUMS: is not the one of the manifest" in done.err


@pytest.mark.parametrize("name", ["manifest.json", "manifest.p7s", "SHA256SUMS", SHARED, DEB])
def test_a_missing_file_installs_nothing(guest: Guest, name: str) -> None:
    guest.file(name).unlink()
    assert (guest.install().code, guest.installed.exists()) == (4, False)


def test_a_kernel_without_a_package_is_told_which_kernels_there_are(guest: Guest, kernel: str) -> None:
    guest.program("uname", "echo 9.9.0-1-amd64")
    done = guest.install()
    assert (done.code, guest.installed.exists()) == (5, False)
    said = f"no deb package for the running kernel, 9.9.0-1-amd64; this ISO has one for: {kernel}\n"
    assert said in done.err
    assert "boot one of these, or have an ISO made for yours: vbuskit iso --kernel 9.9.0-1-amd64" in done.err


@pytest.mark.parametrize(("vbus", "how"), [("exit 1", "-i"), ("exit 0", "-F")])
def test_where_rpm_manages_the_system_rpm_installs(guest: Guest, kernel: str, vbus: str, how: str) -> None:
    guest.of_rpm(f'case "$*" in "-q vbus") {vbus} ;; esac\necho "$@" >>{guest.installed}')
    done = guest.install()
    assert done.code == 0, done.err
    shared, kmp = guest.file(RPM), guest.file(KMP)
    assert guest.installed.read_text() == f"{how} {shared}\n-i --replacepkgs {kmp}\n"
    assert f"{kmp.name} fits the running kernel, {kernel}, and rpm manages this system" in done.out


def test_rpms_refusal_is_passed_on_with_what_resolves_more(guest: Guest) -> None:
    guest.of_rpm("case $2 in *-kmp-*) exit 1 ;; *--replacepkgs*) exit 1 ;; esac")
    done = guest.install()
    assert done.code == 1
    assert "rpm failed" in done.err and "linux/rpm as a repository" in done.err


def test_a_system_of_neither_dpkg_nor_rpm_is_told_so(guest: Guest) -> None:
    guest.program("dpkg-query", "exit 1")
    guest.program("rpm", "exit 1")
    done = guest.install("--check")
    assert (done.code, "neither dpkg nor rpm manages this system" in done.err) == (3, True)


def test_only_root_installs(guest: Guest) -> None:
    guest.program("id", "echo 1000")
    assert (guest.install().code, guest.installed.exists()) == (3, False)


def test_dpkgs_refusal_is_passed_on(guest: Guest) -> None:
    guest.program("dpkg", "exit 2")
    done = guest.install()
    assert done.code == 1
    assert "dpkg failed" in done.err


@pytest.mark.parametrize(
    ("state", "next_step"),
    [
        ("half-configured", "is not set up, for the reason above; mend that, then: dpkg --configure -a\n"),
        ("unpacked", "where packages are missing: apt-get --fix-broken install\n"),
    ],
)
def test_what_to_do_next_follows_from_how_far_dpkg_came(guest: Guest, state: str, next_step: str) -> None:
    guest.program("dpkg", "exit 1")
    guest.program("dpkg-query", f"case $4 in dpkg) echo installed ;; {MODULES}-*) echo {state} ;; esac")
    done = guest.install()
    assert (done.code, done.err.endswith(next_step)) == (1, True)


@pytest.mark.parametrize("family", ["deb", "rpm"])
def test_an_initrd_that_nobody_made_again_is_told_of_with_what_makes_it(
    guest: Guest, kernel: str, family: str
) -> None:
    """dpkg, and rpm in any case, may say that all is well."""
    if family == "rpm":
        guest.of_rpm("")
    guest.program("update-initramfs", "")
    guest.initrd.write_text(f"/boot/initrd.img-{kernel} 17 yesterday\n")
    done = guest.install()
    assert done.code == 6
    assert f", but /boot/initrd.img-{kernel} was not made again: a boot by it goes without" in done.err
    assert done.err.endswith(f"before a boot needs them: update-initramfs -u -k {kernel}\n")
    assert "install.sh: installed" not in done.out


def test_a_new_initrd_is_as_good_as_none_before(guest: Guest) -> None:
    guest.program("dpkg", f"echo /boot/initrd 18 today >{guest.initrd}")
    assert guest.install().code == 0
    guest.program("dpkg", f"echo /boot/initrd 19 today >{guest.initrd}")
    assert guest.install().code == 0


def test_install_sh_looks_for_the_initrd_where_the_packages_do(
    guest: Guest, kernel: str, tmp_path: Path
) -> None:
    script = (ROOT / "kmp/scripts/initrd.sh").read_text()
    loop = script.partition("for initrd in ")[2].partition("; do")[0]
    theirs = Runner()(["sh", "-c", f"release={kernel}; echo {loop}"])
    assert guest.install().code == 0
    assert (tmp_path / "looked-for").read_text().partition("%y ")[2] == theirs


@pytest.mark.parametrize("words", [["--frobnicate"], ["--certificate"], ["--kernel"]])
def test_wrong_words_are_answered_with_two(guest: Guest, words: list[str]) -> None:
    assert guest.install(*words).code == 2


def test_a_certificate_that_cannot_be_read_is_no_reason_to_go_on(guest: Guest, tmp_path: Path) -> None:
    assert guest.install("--check", "--certificate", tmp_path / "absent").code == 3
    (tmp_path / "junk").write_text("junk")
    assert guest.install("--check", "--certificate", tmp_path / "junk").code == 3


def test_without_openssl_a_wanted_check_is_not_skipped(guest: Guest, tmp_path: Path) -> None:
    path = guest.without("openssl", tmp_path / "few")
    done = guest.install("--check", "--certificate", tmp_path / "keys/module.pem", path=path)
    assert (done.code, "openssl is missing" in done.err) == (3, True)
    assert guest.install("--check", path=path).code == 0


def test_help_prints_the_words_and_the_exit_codes(guest: Guest) -> None:
    done = guest.install("--help")
    assert done.code == 0
    assert "--certificate FILE" in done.out and "5 no package for this kernel" in done.out
