# SPDX-License-Identifier: MIT
"""The package for dkms: what is in it, and what the real dkms does with it on a copy of this machine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner
from vbuskit.drivers.kernel import sources_of
from vbuskit.kmp import deb, dkms
from vbuskit.kmp.changelog import Release, current_release
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.rpmfile import read_rpm

RELEASE = current_release(ROOT)
NEWER = replace(RELEASE, version="9.0.dev0", debian_version="9.0~dev0")
NAMES = ("vblk", "vbus", "venet")
SCRIPT = f"/{dkms.SCRIPT}"
VERSION, NEW = RELEASE.debian_version, NEWER.debian_version  # as dkms knows them

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a copy of the machine, by mounts")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The packages of this checkout, by format."""
    return dkms.build(Runner(), ROOT, RELEASE, tmp_path_factory.mktemp("ours"))


def unpacked(package: Path, into: Path) -> dict[str, Path]:
    into.mkdir(parents=True, exist_ok=True)
    if package.suffix == ".deb":
        Runner()(["dpkg-deb", "-x", package, into])
    else:
        Runner()(["sh", "-c", 'rpm2cpio "$1" | cpio -idm --quiet', "sh", package], cwd=into)
    return {str(path.relative_to(into)): path for path in sorted(into.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_it_has_the_sources_that_the_pipeline_compiles_and_what_tells_dkms_how(
    ours: Mapping[str, Artifact], kind: str, tmp_path: Path
) -> None:
    top = f"usr/src/vbus-{RELEASE.debian_version}/"
    files = unpacked(ours[kind].path, tmp_path)
    packed = {
        path.removeprefix(top): file.read_bytes() for path, file in files.items() if path.startswith(top)
    }
    conf = packed.pop("dkms.conf").decode()
    wanted = {str(name): file.read_bytes() for name, file in sources_of(ROOT / "drivers").items()}
    assert packed == wanted
    assert not re.search("@[A-Z]+@", conf + files[dkms.SCRIPT].read_text())
    assert os.access(files[dkms.SCRIPT], os.X_OK)


def test_both_formats_have_the_same_files_but_for_what_is_of_one_family(
    ours: Mapping[str, Artifact], tmp_path: Path
) -> None:
    debian, other = (set(unpacked(ours[kind].path, tmp_path / kind)) for kind in ("deb", "rpm"))
    documents = {f"usr/share/doc/vbus-dkms/{name}" for name in ("changelog.gz", "copyright")}
    assert debian - other == documents | {*dkms.HOOKS, "lib/depmod.d/vbus-dkms.conf"}
    licences = {f"usr/share/licenses/vbus-dkms/{name}" for name in ("GPL-2.0-only.txt", "MIT.txt")}
    assert other - debian == licences | {dkms.PLUGIN}


def test_each_needs_dkms_and_what_all_kernels_share(ours: Mapping[str, Artifact]) -> None:
    version = RELEASE.debian_version
    needed = Runner()(["dpkg-deb", "-f", ours["deb"].path, "Depends"]).strip()
    assert needed == f"vbus-common (>= {version}), dkms (>= 3.0), kmod"
    lines = Runner()(["rpm", "-qp", "--requires", ours["rpm"].path]).splitlines()
    assert {f"vbus >= {version}", "dkms >= 3.0"} <= set(lines)


def test_an_rpm_of_modules_cannot_be_beside_it_for_dkms_would_move_its_files_away(
    ours: Mapping[str, Artifact],
) -> None:
    said = Runner()(["rpm", "-qp", "--conflicts", ours["rpm"].path]).split()
    provided = Runner()(["rpm", "-qp", "--provides", ours["rpm"].path]).split()
    assert said == ["kmod(vbus.ko)"]
    assert {f"kmod({name}.ko)" for name in NAMES} <= set(provided)


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_nothing_in_it_is_a_module_so_verify_has_nothing_to_look_at(
    ours: Mapping[str, Artifact], kind: str
) -> None:
    raw = ours[kind].path.read_bytes()
    assert (read_deb(raw) if kind == "deb" else read_rpm(raw)).modules() == {}


def test_two_builds_have_the_same_bytes(
    ours: Mapping[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = tmp_path / "another/longer/folder"
    longer.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(longer))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".rpmmacros").write_text("%packager somebody\n")
    before = os.umask(0o077)
    try:
        again = dkms.build(Runner(), ROOT, RELEASE, tmp_path / "out")
    finally:
        os.umask(before)
    assert {kind: package.sha256 for kind, package in again.items()} == {
        kind: package.sha256 for kind, package in ours.items()
    }


def test_its_hooks_come_after_dkms_and_before_whatever_makes_an_initrd() -> None:
    for hook in dkms.HOOKS:
        assert sorted(["initramfs-tools", "dracut", Path(hook).name, "dkms"])[:2] == [
            "dkms",
            Path(hook).name,
        ]
    plugin = Path(dkms.PLUGIN).name
    assert sorted(["50-dracut.install", plugin, "40-dkms.install"])[1] == plugin


def test_what_an_administrator_may_change_is_marked_as_such(ours: Mapping[str, Artifact]) -> None:
    listed = Runner()(["dpkg-deb", "-I", ours["deb"].path, "conffiles"]).split()
    assert listed == sorted(f"/{hook}" for hook in dkms.HOOKS)


@pytest.mark.parametrize(
    ("release", "is_built"),
    [
        ("5.10.0-46-amd64", False),
        ("5.14.0-427.el9.x86_64", False),
        ("6.0.0-1-amd64", False),
        ("6.1.0-56-cloud-amd64", True),
        ("6.4.0-150600.21-default", True),
        ("6.12.117+deb13-amd64", True),
        ("7.2.13+deb14-amd64", True),
        ("10.0.0-1-amd64", True),
    ],
)
def test_it_is_built_for_the_kernels_that_the_drivers_are_made_for(release: str, is_built: bool) -> None:
    script = '. "$1"; [[ $2 =~ $BUILD_EXCLUSIVE_KERNEL ]]'
    done = Runner().attempt(["bash", "-c", script, "bash", ROOT / "kmp/dkms/dkms.conf", release])
    assert (done.code == 0) is is_built


def test_lintian_has_nothing_to_say(ours: Mapping[str, Artifact]) -> None:
    words = ["lintian", "--profile", "debian", "--display-info", "--fail-on", "error,warning,info"]
    done = Runner().attempt([*words, ours["deb"].path], env={"LC_ALL": "C.UTF-8"})
    assert (done.code, done.out) == (0, "")


def test_rpmlint_has_nothing_to_say_but_what_is_waived(ours: Mapping[str, Artifact]) -> None:
    done = Runner().attempt(["rpmlint", "-r", ROOT / "kmp/rpm/vbus-dkms.rpmlintrc", ours["rpm"].path])
    said = re.findall(r"^\S+: [EW]: .*$", done.out, re.MULTILINE)
    assert (said, done.code) == ([], 0)


def test_scripts_are_sound_shell(ours: Mapping[str, Artifact], tmp_path: Path) -> None:
    for step in ("POSTIN", "PREUN"):
        text = Runner()(["rpm", "-qp", "--qf", f"%{{{step}}}", ours["rpm"].path])
        (tmp_path / step).write_text(f"#!/bin/sh\n{text}\n")
    sources = [ROOT / "kmp/dkms" / name for name in (*dkms.HOOKS.values(), "dkms-vbus", "vbus-dkms.install")]
    scripts = [ROOT / f"kmp/debian/vbus-dkms.{name}" for name in ("postinst", "prerm")]
    Runner()(["shellcheck", *sorted(tmp_path.iterdir()), *sources, *scripts])


ENTER = """\
set -eu
top=$1
shift
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
mount -t proc proc "$top/root/proc"
mount --bind /dev "$top/root/dev"
exec chroot "$top/root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine with changes, which are kept in `folder`; its programs are the real ones."""

    folder: Path

    @classmethod
    def like(cls, other: Machine | None, folder: Path) -> Machine:
        folder.mkdir(exist_ok=True)
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        if other:
            Runner()(["cp", "-aT", other.upper, folder / "upper"])
        return cls(folder)

    @property
    def upper(self) -> Path:
        return self.folder / "upper"

    def run(self, script: str) -> Finished:
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return Runner().attempt([*namespaces, "sh", "-c", ENTER, "sh", self.folder, "sh", "-c", script])

    def must(self, script: str) -> str:
        done = self.run(script)
        assert done.code == 0, done.out + done.err
        return done.out

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Seen from the next `run` on; /lib is a link to a folder, and must stay one."""
        file = self.upper / str(Path(path).parent.resolve()).lstrip("/") / Path(path).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)

    def install(self, *packages: Path) -> Finished:
        for package in packages:
            self.write(f"/packages/{package.name}", package.read_bytes())
        names = " ".join(f"/packages/{package.name}" for package in packages)
        if packages[0].suffix == ".rpm":  # Debian's rpm tells everybody else to use Alien
            return self.run(f"rpm -U --nodeps --force-debian {names}")
        return self.run(f"dpkg --force-unsafe-io -i {names}")

    def modules(self, kernel: str) -> dict[str, str]:
        """Name -> digest, of what dkms has installed."""
        said = self.run(f"cd /lib/modules/{kernel}/updates/dkms && sha256sum *.ko").out.split()
        return dict(zip((Path(name).stem for name in said[1::2]), said[::2], strict=True))

    def status(self) -> set[str]:
        """What dkms says of each version and kernel; and nothing that it complains of."""
        done = self.run("dkms status vbus")
        assert (done.code, done.err) == (0, "")
        return {line.replace(", x86_64", "") for line in done.out.splitlines()}

    def noted(self) -> list[str]:
        """How the stand-ins were called since the last look."""
        return self.must("touch /calls; cat /calls; rm /calls").splitlines()

    def broken(self, kernel: str) -> None:
        """Headers with which nothing compiles."""
        self.must(f"rm -rf /lib/modules/{kernel}/build; mkdir -p /lib/modules/{kernel}/build/include")
        makefile = b"all modules clean:\n\t@echo 'bus.c:7:1: error: no such type' >&2; exit 1\n"
        self.write(f"/lib/modules/{kernel}/build/Makefile", makefile)


# -o DRAFT KERNEL; its image is a list of what would be in it.
MKINITRAMFS = b"""\
#!/bin/sh
echo "mkinitramfs $3" >>/calls
find /lib/modules/$3/ -name '*.ko' >"$2"
echo /lib/udev/rules.d/61-vblk.rules >>"$2"
"""


@pytest.fixture(scope="module")
def bare(kernel: str, other_kernel: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Two kernels with an initrd each, one's headers under both names, stand-ins for what makes initrds."""
    if shutil.which("dkms", path="/usr/sbin") is None:
        pytest.skip("dkms: not installed")
    machine = Machine.like(None, tmp_path_factory.mktemp("bare"))
    if machine.run("true").code:
        pytest.skip("overlayfs: this machine's folders cannot be copied by mounts")
    for name in (kernel, other_kernel):
        machine.write(f"/boot/initrd.img-{name}", b"")
        machine.must(f"mkdir -p /lib/modules/{name}/kernel")
    headers = f"/usr/src/linux-headers-{other_kernel}"
    machine.must(f"""
        cp -a /usr/src/linux-headers-{kernel} {headers}
        sed -i 's/{kernel}/{other_kernel}/' {headers}/include/generated/utsrelease.h
        ln -s {headers} /lib/modules/{other_kernel}/build
    """)
    noting = b'#!/bin/sh\necho "${0##*/} $*" >>/calls\n'
    machine.write("/etc/kernel/postinst.d/initramfs-tools", noting, 0o755)
    machine.write("/usr/sbin/mkinitramfs", MKINITRAMFS, 0o755)
    machine.write("/usr/bin/lsinitramfs", b'#!/bin/sh\nexec cat "$1"\n', 0o755)
    return machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """vbus-common and vbus-dkms, of this version and of a newer one; the drivers are compiled in seconds."""

    common: Path
    ours: Mapping[str, Artifact]
    newer_common: Path
    newer: Mapping[str, Artifact]


@pytest.fixture(scope="module")
def shelf(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    run, folder = Runner(), tmp_path_factory.mktemp("shelf")

    def common(release: Release) -> Path:
        return deb.packed(run, ROOT, release, deb.common(ROOT, release), folder).path

    return Shelf(
        common=common(RELEASE),
        ours=dkms.build(run, tree, RELEASE, folder),
        newer_common=common(NEWER),
        newer=dkms.build(run, tree, NEWER, folder),
    )


@pytest.fixture(scope="module")
def installed(
    bare: Machine, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, Finished]]:
    machine = Machine.like(bare, tmp_path_factory.mktemp("installed"))
    yield machine, machine.install(shelf.common, shelf.ours["deb"].path)


@pytest.fixture
def machine(installed: tuple[Machine, Finished], tmp_path: Path) -> Machine:
    """With the package installed, and built for both kernels."""
    return Machine.like(installed[0], tmp_path / "machine")


@needs_root
def test_dpkg_installs_it_and_each_kernel_gets_signed_modules_and_an_initrd(
    installed: tuple[Machine, Finished], machine: Machine, kernel: str, other_kernel: str
) -> None:
    assert (installed[1].code, installed[1].err) == (0, "")
    assert machine.status() == {f"vbus/{VERSION}, {name}: installed" for name in (kernel, other_kernel)}
    for name in (kernel, other_kernel):
        assert sorted(machine.modules(name)) == sorted(NAMES)
    assert machine.noted() == [f"mkinitramfs {name}" for name in sorted((kernel, other_kernel))]
    signer = machine.must(f"modinfo -F signer /lib/modules/{kernel}/updates/dkms/vblk.ko")
    assert signer == "DKMS module signing key\n"


@needs_root
def test_the_real_drivers_are_built_for_a_kernel_that_does_not_run(
    bare: Machine, ours: Mapping[str, Artifact], shelf: Shelf, kernel: str, other_kernel: str, tmp_path: Path
) -> None:
    machine = Machine.like(bare, tmp_path / "machine")
    machine.broken(other_kernel)
    done = machine.install(shelf.common, ours["deb"].path)
    assert done.code == 0, done.err
    for name in NAMES:
        file = f"/lib/modules/{kernel}/updates/dkms/{name}.ko"
        assert machine.must(f"modinfo -F version {file}") == f"{RELEASE.version}\n"
        assert machine.must(f"modinfo -F vermagic {file}").startswith(f"{kernel} ")
    assert machine.status() == {f"vbus/{VERSION}, {kernel}: installed"}
    wanted = f"vbus-dkms: {other_kernel}: no drivers of version {VERSION}: bus.c:7:1: error: no such type; "
    assert done.err.startswith(wanted)
    assert done.err.count("\n") == 1
    assert machine.noted() == [f"mkinitramfs {kernel}"]


@needs_root
@pytest.mark.parametrize("autoinstall", [False, True])
def test_a_kernel_that_it_does_not_build_for_gets_its_initrd_as_dkms_own_hook_would_not_let_it(
    machine: Machine, kernel: str, other_kernel: str, autoinstall: bool
) -> None:
    before = machine.modules(kernel)
    machine.noted()
    machine.must(f"dkms remove vbus/{VERSION} -k {other_kernel}")
    machine.broken(other_kernel)
    if autoinstall:
        machine.must(f"echo 'AUTOINSTALL=yes' >>/usr/src/vbus-{VERSION}/dkms.conf")
    done = machine.run(f"run-parts --exit-on-error --arg={other_kernel} /etc/kernel/postinst.d")
    assert machine.noted() == ([] if autoinstall else [f"initramfs-tools {other_kernel}"])
    assert (done.code != 0) is autoinstall
    assert autoinstall or done.err.startswith(
        f"vbus-dkms: {other_kernel}: no drivers of version {VERSION}: "
    )
    assert machine.modules(kernel) == before
    assert machine.status() == {f"vbus/{VERSION}, {kernel}: installed"}


@needs_root
def test_a_kernel_whose_headers_come_later_gets_modules_and_another_initrd(
    machine: Machine, other_kernel: str
) -> None:
    machine.must(f"dkms remove vbus/{VERSION} -k {other_kernel}; rm /calls")
    machine.must(f"mv /lib/modules/{other_kernel}/build /build")
    run_parts = f"run-parts --exit-on-error --arg={other_kernel} /etc/kernel"
    said = machine.run(f"{run_parts}/postinst.d").err
    assert said.startswith(
        f"vbus-dkms: {other_kernel}: no drivers, for its headers are not installed; next: "
    )
    assert machine.noted() == [f"initramfs-tools {other_kernel}"]
    machine.must(f"mv /build /lib/modules/{other_kernel}/build; {run_parts}/header_postinst.d")
    assert sorted(machine.modules(other_kernel)) == sorted(NAMES)
    assert machine.noted() == [f"mkinitramfs {other_kernel}"]
    machine.must(f"{run_parts}/header_postinst.d")
    assert machine.noted() == []  # there was nothing to do


@needs_root
def test_headers_without_their_kernel_and_older_kernels_get_nothing(machine: Machine, kernel: str) -> None:
    machine.must("mkdir -p /lib/modules/5.10.0-1/kernel /lib/modules/9.8.7")
    for name in ("5.10.0-1", "9.8.7"):
        machine.must(f"ln -s /usr/src/linux-headers-{kernel} /lib/modules/{name}/build")
    assert machine.run(f"{SCRIPT} build 9.8.7") == Finished(0, "", "")
    done = machine.run(f"{SCRIPT} build 5.10.0-1")
    assert (done.code, done.err) == (
        1,
        "vbus-dkms: 5.10.0-1: no drivers, for they are made for Linux 6.1 and later on x86_64\n",
    )
    assert machine.must("find /lib/modules/5.10.0-1 /lib/modules/9.8.7 -name '*.ko'") == ""


@needs_root
def test_a_new_version_replaces_the_old_one_where_it_builds_and_nowhere_else(
    machine: Machine, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    old = machine.modules(other_kernel)
    machine.noted()
    machine.broken(other_kernel)
    done = machine.install(shelf.newer_common, shelf.newer["deb"].path)
    assert done.code == 0, done.err
    assert f"vbus-dkms: {other_kernel}: no drivers of version {NEW}: bus.c:7:1: error: " in done.err
    assert machine.status() == {
        f"vbus/{NEW}, {kernel}: installed",
        f"vbus/{VERSION}, {other_kernel}: installed",
    }
    assert machine.modules(other_kernel) == old
    assert f"mkinitramfs {kernel}" in machine.noted()
    assert machine.run(f"dkms autoinstall -k {kernel}").code == 0
    machine.must("dpkg --purge vbus-dkms")
    assert machine.modules(other_kernel) == machine.modules(kernel) == {}
    assert machine.must("find /var/lib/dkms/vbus /usr/src/vbus-* 2>/dev/null || :") == ""


@needs_root
def test_the_same_version_once_more_builds_nothing_and_dkms_has_the_packages_sources_again(
    machine: Machine, shelf: Shelf, kernel: str
) -> None:
    before = machine.modules(kernel)
    machine.must(f"touch /lib/modules/{kernel}/updates/dkms/mark")
    done = machine.install(shelf.ours["deb"].path)
    assert (done.code, done.err) == (0, "")
    machine.must(f"test -e /lib/modules/{kernel}/updates/dkms/mark")
    assert machine.modules(kernel) == before
    source = machine.must(f"readlink /var/lib/dkms/vbus/{VERSION}/source")
    assert source == f"/usr/src/vbus-{VERSION}\n"


@needs_root
def test_removing_it_leaves_no_module_and_hooks_that_say_nothing(
    machine: Machine, kernel: str, other_kernel: str
) -> None:
    machine.noted()
    machine.must("dpkg --remove vbus-dkms")
    assert machine.modules(kernel) == machine.modules(other_kernel) == {}
    assert machine.status() == set()
    assert machine.noted() == [f"mkinitramfs {name}" for name in sorted((kernel, other_kernel))]
    for hook in dkms.HOOKS:
        assert machine.run(f"/{hook} {kernel}") == Finished(0, "", "")
    machine.must("dpkg --purge vbus-dkms")
    assert not [hook for hook in dkms.HOOKS if machine.run(f"test -e /{hook}").code == 0]


@needs_root
def test_the_running_kernels_drivers_are_loaded_for_a_device_and_kept_while_a_disk_on_the_bus_is_in_use(
    machine: Machine, kernel: str
) -> None:
    def program(name: str, body: str) -> None:
        machine.write(f"/usr/local/sbin/{name}", f"#!/bin/sh\n{body}\n".encode(), 0o755)

    program("uname", f'[ "$1" != -r ] || {{ echo {kernel}; exit; }}; exec /usr/bin/uname "$@"')
    program("rmmod", 'echo "rmmod $*" >>/calls')
    program("modprobe", '[ "$1" = --resolve-alias ] && echo vbus || echo "modprobe $*" >>/calls')
    machine.write("/sys/bus/pci/devices/bus/modalias", b"pci:v00001AF4d00001110\n")
    machine.must(f"rm -f /calls; PATH=/usr/local/sbin:$PATH {SCRIPT} all")
    assert machine.noted() == ["modprobe vbus"]
    machine.must(
        "mkdir -p /sys/block/vba/device /sys/block/vba/holders/dm-0; echo 252:0 >/sys/block/vba/dev"
    )
    machine.must("ln -s /sys/bus/vbus/drivers/vblk /sys/block/vba/device/driver")
    machine.write("/sys/block/vba/holders/dm-0/dev", b"253:0\n")
    machine.must(f"mkdir /lib/modules/{kernel}/updates/vbus")  # a folder has no driver
    done = machine.run("PATH=/usr/local/sbin:$PATH dpkg --remove vbus-dkms")
    assert done.code != 0
    assert "vbus-dkms: stays, for this machine needs disks on the bus: vba (held by dm-0); " in done.err
    assert sorted(machine.modules(kernel)) == sorted(NAMES)
    machine.must("rm -r /sys/block/vba/holders/dm-0")
    machine.noted()
    machine.must("PATH=/usr/local/sbin:$PATH dpkg --remove vbus-dkms")
    assert machine.modules(kernel) == {}
    assert not [call for call in machine.noted() if "rmmod" in call or " -r " in call]


@needs_root
def test_what_all_kernels_share_reaches_each_initrd_when_it_is_new(
    machine: Machine, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    machine.noted()
    assert machine.install(shelf.newer_common).code == 0
    assert machine.noted() == [f"mkinitramfs {name}" for name in sorted((kernel, other_kernel))]


@needs_root
def test_an_initrd_that_would_lack_the_drivers_leaves_the_old_one_and_says_how_to_go_on(
    machine: Machine, kernel: str
) -> None:
    before = machine.must(f"cat /boot/initrd.img-{kernel}")
    machine.write("/usr/sbin/mkinitramfs", b'#!/bin/sh\necho /lib/other >"$2"\n', 0o755)
    done = machine.run(f"{SCRIPT} initrd {kernel}")
    why = "the new one has no 61-vblk.rules vbus.ko vblk.ko, so "
    assert f"vbus-dkms: {kernel}: {why}" in done.err
    assert f"mend that, then: {SCRIPT} initrd {kernel}\n" in done.err
    assert machine.must(f"cat /boot/initrd.img-{kernel}") == before
    assert ".vbus-new" not in machine.must("ls /boot")


@needs_root
@pytest.mark.parametrize("folder", ["/lib/modules", "/usr/lib/modules"])
def test_modules_that_dkms_compressed_are_found_in_an_initrd_that_has_them_as_they_were(
    machine: Machine, kernel: str, folder: str
) -> None:
    """mkinitramfs takes the compression off; some modinfo name the folder by its real path."""
    machine.must(f"xz /lib/modules/{kernel}/updates/dkms/*.ko && depmod {kernel}")
    unpacking = MKINITRAMFS.replace(b".ko'", b".ko.xz'") + b"sed -i 's/[.]xz$//' \"$2\"\n"
    machine.write("/usr/sbin/mkinitramfs", unpacking, 0o755)
    renamed = f"/sbin/modinfo \"$@\" | sed 's,^/lib/modules,{folder},'"
    machine.write("/usr/local/bin/modinfo", f"#!/bin/sh\n{renamed}\n".encode(), 0o755)
    machine.must(f": >/boot/initrd.img-{kernel}")
    done = machine.run(f"PATH=/usr/local/bin:$PATH {SCRIPT} initrd {kernel}")
    assert (done.code, done.err) == (0, "")
    assert "/updates/dkms/vblk.ko\n" in machine.must(f"cat /boot/initrd.img-{kernel}")


@needs_root
def test_a_kernel_that_was_deleted_by_hand_keeps_no_other_from_its_initrd_nor_the_package_from_going(
    machine: Machine, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    gone, left = sorted((kernel, other_kernel))
    machine.must(f"rm -r /lib/modules/{gone} /boot/initrd.img-{gone}; rm /calls")
    done = machine.install(shelf.newer_common)
    assert (done.code, done.err) == (0, "")
    assert machine.noted() == [f"mkinitramfs {left}"]
    machine.must("dpkg --purge vbus-dkms")
    assert machine.modules(left) == {}


@needs_root
def test_an_upgrade_that_was_cut_off_while_it_copied_the_sources_is_made_up_for(
    machine: Machine, shelf: Shelf, other_kernel: str
) -> None:
    tree = f"/var/lib/dkms/vbus/{VERSION}"
    machine.must(f"mkdir {tree}/source.kept; touch {tree}/source.kept/half")
    machine.broken(other_kernel)
    assert machine.install(shelf.newer_common, shelf.newer["deb"].path).code == 0
    machine.must(f"test -e {tree}/source/dkms.conf && test ! -e {tree}/source/half")
    machine.must(f"dkms remove vbus/{VERSION} -k {other_kernel}")


@needs_root
def test_an_upgrade_that_was_cut_off_while_it_put_the_copy_in_place_is_made_up_for(
    machine: Machine, shelf: Shelf, kernel: str, other_kernel: str
) -> None:
    tree = f"/var/lib/dkms/vbus/{VERSION}"
    machine.must(f"cp -a /usr/src/vbus-{VERSION} {tree}/source.kept; rm {tree}/source")
    assert machine.install(shelf.ours["deb"].path).code == 0
    assert machine.must(f"readlink {tree}/source") == f"/usr/src/vbus-{VERSION}\n"
    assert machine.status() == {f"vbus/{VERSION}, {name}: installed" for name in (kernel, other_kernel)}
    machine.must(f"test ! -e {tree}/source.kept")


@needs_root
@pytest.mark.parametrize("order", ["dkms vbus", "vbus dkms"])
def test_modules_of_their_own_package_come_before_those_of_dkms_in_whatever_order_depmod_meets_them(
    machine: Machine, kernel: str, order: str
) -> None:
    """tmpfs lists what came last first, so without our configuration the order decides."""
    base = f"/b/lib/modules/{kernel}"
    mine = f"/lib/modules/{kernel}/updates/dkms"
    said = machine.must(f"""
        mkdir /b && mount -t tmpfs tmpfs /b && mkdir -p {base}/updates
        for folder in {order}; do cp -r {mine} {base}/updates/$folder; done
        depmod -C /lib/depmod.d -b /b {kernel} 2>/dev/null
        grep -o '^[^:]*' {base}/modules.dep
    """)
    assert sorted(said.split()) == [f"updates/vbus/{name}.ko" for name in NAMES]


@needs_root
def test_it_is_built_where_that_package_has_the_same_version_too(machine: Machine, kernel: str) -> None:
    updates = f"/lib/modules/{kernel}/updates"
    machine.must(f"cp -r {updates}/dkms {updates}/vbus && dkms remove vbus/{VERSION} -k {kernel}")
    assert machine.modules(kernel) == {}
    machine.must(f"{SCRIPT} build {kernel}")
    assert sorted(machine.modules(kernel)) == sorted(NAMES)
    machine.must("dpkg --purge vbus-dkms")
    left = machine.must(f"find {updates} -name '*.ko'").split()
    assert sorted(left) == [f"{updates}/vbus/{name}.ko" for name in NAMES]


@needs_root
def test_as_rpm_it_is_built_kept_where_the_next_version_does_not_build_and_removed(
    bare: Machine, shelf: Shelf, kernel: str, other_kernel: str, tmp_path: Path
) -> None:
    machine = Machine.like(bare, tmp_path / "machine")
    assert machine.install(shelf.ours["rpm"].path).code == 0
    assert machine.status() == {f"vbus/{VERSION}, {name}: installed" for name in (kernel, other_kernel)}
    machine.noted()
    machine.broken(other_kernel)
    assert machine.install(shelf.newer["rpm"].path).code == 0
    assert machine.status() == {
        f"vbus/{NEW}, {kernel}: installed",
        f"vbus/{VERSION}, {other_kernel}: installed",
    }
    plugin = machine.run(f"/{dkms.PLUGIN} add {other_kernel} /boot/entry /boot/vmlinuz")
    assert plugin.code == 0
    assert f"vbus-dkms: {other_kernel}: no drivers of version {NEW}: bus.c:7:1: error: " in plugin.err
    assert machine.noted() == [f"mkinitramfs {kernel}"]
    machine.must("rpm -e --nodeps vbus-dkms")
    assert machine.modules(kernel) == machine.modules(other_kernel) == {}
