# SPDX-License-Identifier: MIT
"""Images that real dracut and mkinitramfs made on a small Debian 12: what `check` says of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact, digest_of
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Exit
from vbuskit.base.mirror import UNREAD, bootstrap, source, why_not
from vbuskit.base.places import ROOT, Places
from vbuskit.base.remembered import remembered
from vbuskit.base.run import Arg, Runner
from vbuskit.ci import cli
from vbuskit.drivers.kernel import modules
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import sign_module

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a chroot with mounts of its own"),
]
Capture = pytest.CaptureFixture[str]
Said = Callable[[], str]

SUITE = "bookworm"
PACKAGES = ("binutils", "dracut-core", "initramfs-tools", "kmod", "systemd-sysv", "udev", "zstd")
DRACUT, HOOK, RULE = (
    "usr/lib/dracut/modules.d/90vbus/module-setup.sh",
    "usr/share/initramfs-tools/hooks/vbus",
    "61-vblk.rules",
)
# Where the packages put them -> below initrd/.
OURS = {
    DRACUT: "dracut/90vbus/module-setup.sh",
    HOOK: "initramfs-tools/hooks/vbus",
    **{
        f"usr/lib/udev/rules.d/{path.name}": f"udev/{path.name}" for path in (ROOT / "initrd/udev").iterdir()
    },
}
YES = "yes: it can reach its root disk on vbus"
NO_RULE = f"{RULE} is not in the image, so root=UUID=1 is never found"
FAST = ("--compress", "gzip -1")  # dracut's own gzip -9 takes four times as long as all the rest
# Half the time of what is left, and the bus does not depend on it.
SLIM = ("--nostrip", "--omit", "systemd systemd-initrd dracut-systemd crypt i18n terminfo qemu")


@dataclass(frozen=True, slots=True)
class Machine:
    """A Debian with our signed drivers for `kernel`; `work` is its /mnt, where its tools write.

    built: our drivers by name, unsigned
    """

    root: Path
    kernel: str
    work: Path
    key: Key
    built: Mapping[str, Artifact]

    @property
    def folder(self) -> Path:
        return self.root / "lib/modules" / self.kernel

    def run(self, args: Sequence[Arg], binds: Mapping[Path, str]) -> str:
        """Standard output and error together, where the tool said nothing of an error by its exit code."""
        done = Runner().attempt(inside(self.root, args, binds={self.work: "/mnt", **binds}), seconds=600)
        assert done.code == 0, done.out + done.err
        return done.out + done.err

    def dracut(self, *words: str, bus: bool = False) -> str:
        """An image by dracut; `bus`: of a machine that has a bridge."""
        args = ["dracut", "--force", "--tmpdir", "/tmp", *FAST, *words, "--kver", self.kernel, "/mnt/image"]
        return self.run(args, {self.hardware(bus): "/sys"})

    def hardware(self, bus: bool) -> Path:
        """Of /sys no more than check() of our dracut module looks at."""
        device = self.work / f"sys-{bus}/bus/pci/devices/0000:00:05.0"
        device.mkdir(parents=True, exist_ok=True)
        (device / "vendor").write_text("0x1af4\n")
        (device / "device").write_text("0x1110\n" if bus else "0x1000\n")
        bar = "0x00000000fe000000 0x00000000fe0fffff 0x0000000000040208\n"
        (device / "resource").write_text(bar * 3)
        return self.work / f"sys-{bus}"

    def mkinitramfs(self, kind: str = "list") -> None:
        """With MODULES=`kind`; `dep` looks for the disk of / in this machine's own /sys and /dev."""
        folder = self.work / f"conf-{kind}"
        shutil.copytree(self.root / "etc/initramfs-tools", folder, dirs_exist_ok=True)
        settings = (folder / "initramfs.conf").read_text().replace("MODULES=most", f"MODULES={kind}")
        assert f"\nMODULES={kind}\n" in settings
        (folder / "initramfs.conf").write_text(settings)
        args = ["mkinitramfs", "-l", "1", "-d", f"/mnt/{folder.name}", "-o", "/mnt/image", self.kernel]
        self.run(args, {Path("/sys"): "/sys", Path("/dev"): "/dev"})

    def drivers(self, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
        """The files of our drivers, with something done to each between build and package."""
        return {f"{name}.ko": change(module.path.read_bytes()) for name, module in self.built.items()}

    def signed(self, module: bytes) -> bytes:
        return sign_module(module, self.key)

    def depmod(self) -> None:
        """Inside: links lead to where they lead there."""
        Runner()(inside(self.root, ["depmod", self.kernel], writable=True))

    @contextmanager
    def having(self, files: Mapping[str, bytes]) -> Iterator[None]:
        """In place of our drivers these, below updates/vbus."""
        away = (self.folder / "updates").rename(self.work / "away")
        put(self.folder / "updates/vbus", files)
        self.depmod()
        try:
            yield
        finally:
            shutil.rmtree(self.folder / "updates")
            away.rename(self.folder / "updates")
            self.depmod()

    def check(self) -> int:
        store(self.key, self.work / "keys")
        trust = str(self.work / "keys/module.pem")
        spec = ["--root", "UUID=1", "--kernel", self.kernel, "--trust", trust]
        return cli.main(["initrd", "check", str(self.work / "image"), *spec])


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def packed_system(kernel: str, into: Path) -> dict[str, Artifact]:
    packages = [*PACKAGES, f"linux-image-{kernel}"]
    done = bootstrap(Runner(), SUITE, into / "system.tar", "minbase", packages, UNREAD)
    if done.code:
        raise why_not(done, "a machine with dracut and initramfs-tools", source())
    return {"system": Artifact.of(into / "system.tar")}


@pytest.fixture(scope="module")
def debian(kernel: str, key: Key, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The system is in the cache from the second time on."""
    run, folder, places = Runner(), tmp_path_factory.mktemp("debian"), Places.from_environment()
    (folder / "root").mkdir()
    (folder / "work").mkdir()
    made_from = digest_of(SUITE, source(), kernel, *PACKAGES, *UNREAD)
    with ThreadPoolExecutor() as pool:  # the mirror and the compiler do not wait for each other
        built = pool.submit(modules, run, places, kernel)
        system = remembered(places.cache / "systems", made_from, lambda into: packed_system(kernel, into))
    run(["tar", "--extract", "--file", system["system"].path, "--directory", folder / "root"])
    machine = Machine(folder / "root", kernel, folder / "work", key, built.result())
    put(machine.folder / "updates/vbus", machine.drivers(machine.signed))
    machine.depmod()
    return machine


@pytest.fixture
def machine(debian: Machine) -> Iterator[Machine]:
    """Nothing of ours but the drivers is installed yet, and there is no image."""
    yield debian
    for name in OURS:
        (debian.root / name).unlink(missing_ok=True)
    (debian.work / "image").unlink(missing_ok=True)


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """With the rules, the dracut module and the hook."""
    for name, ours in OURS.items():
        (machine.root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "initrd" / ours, machine.root / name)
    return machine


@pytest.fixture
def said(capsys: Capture) -> Said:
    return lambda: capsys.readouterr().out


def whole(machine: Machine, said: Said) -> None:
    """The image boots from a disk on the bus, and has the NIC and all the rules as well."""
    assert (machine.check(), said().partition("\n")[0].partition(": ")[2]) == (Exit.OK, YES)
    cli.main(["initrd", "inspect", str(machine.work / "image")])
    inspected = said()
    assert [name for name in machine.built if f"/{name}.ko: for " not in inspected] == []
    assert [name for name in OURS if name.endswith(".rules") and Path(name).name not in inspected] == []


def refused(machine: Machine, said: Said) -> str:
    assert machine.check() == Exit.REFUSED
    return said()


def test_a_dracut_image_for_any_machine_reaches_the_bus(installed: Machine, said: Said) -> None:
    installed.dracut("--no-hostonly")
    whole(installed, said)


def test_a_dracut_image_for_one_machine_reaches_its_bus(installed: Machine, said: Said) -> None:
    installed.dracut("--hostonly", bus=True)
    whole(installed, said)


def test_a_dracut_image_for_a_machine_without_a_bus_has_none_and_the_proposed_command_brings_it(
    installed: Machine, said: Said
) -> None:
    installed.dracut("--hostonly", *SLIM)
    no = refused(installed, said)
    assert "vblk: is not in the image" in no and NO_RULE in no
    assert f"then: dracut --force --add vbus --kver {installed.kernel}\n" in no
    installed.dracut("--hostonly", "--add", "vbus", *SLIM)
    whole(installed, said)


def test_without_our_dracut_module_an_image_has_the_drivers_but_no_rule(
    machine: Machine, said: Said
) -> None:
    """dracut takes what lies in updates/ into an image for any machine; that is not enough."""
    machine.dracut("--no-hostonly", *SLIM)
    no = refused(machine, said)
    assert NO_RULE in no and "is not in the image\n" not in no


def test_a_kernel_without_our_drivers_gets_its_image_and_dracut_says_what_it_lacks(
    installed: Machine, said: Said
) -> None:
    with installed.having({}):
        printed = installed.dracut("--hostonly", *SLIM, bus=True)
    assert f"vbus: kernel {installed.kernel} lacks vbus, vblk or venet" in printed
    no = refused(installed, said)
    assert f"vblk: is not in the image\n    next: install the modules for {installed.kernel}" in no


@pytest.mark.parametrize("kind", ["most", "list", "dep"])
def test_an_image_of_initramfs_tools_reaches_the_bus_by_the_hook_alone(
    kind: str, installed: Machine, said: Said
) -> None:
    if kind == "dep" and not on_a_disk(installed.root):
        pytest.skip("MODULES=dep needs a root folder on a disk, and this one is on none")
    installed.mkinitramfs(kind)
    whole(installed, said)
    (installed.root / HOOK).unlink()
    installed.mkinitramfs(kind)
    no = refused(installed, said)
    assert "vbus: is not in the image" in no and "vblk: is not in the image" in no and NO_RULE in no
    assert f"then: update-initramfs -u -k {installed.kernel}\n" in no


def on_a_disk(folder: Path) -> bool:
    """Whether the file system of `folder` is on a block device that sysfs knows."""
    device = folder.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists()


def test_an_image_that_lost_the_udev_rule_is_refused(installed: Machine, said: Said) -> None:
    (installed.root / "usr/lib/udev/rules.d" / RULE).unlink()
    installed.mkinitramfs()
    no = refused(installed, said)
    assert NO_RULE in no and "vblk" not in no.replace(RULE, "")


def test_an_image_with_the_modules_of_another_kernel_is_refused(installed: Machine, said: Said) -> None:
    with installed.having(installed.drivers(lambda raw: installed.signed(of_kernel(raw, installed.kernel)))):
        installed.mkinitramfs()
    no = refused(installed, said)
    assert f"vblk.ko: is built for {older(installed.kernel)}, not for this one" in no


def test_an_image_with_unsigned_modules_is_refused_where_somebody_is_trusted(
    installed: Machine, said: Said
) -> None:
    with installed.having(installed.drivers(bytes)):
        installed.mkinitramfs()
    assert "vblk.ko: is not signed" in refused(installed, said)


@pytest.mark.parametrize(
    "tool", [Machine.mkinitramfs, lambda machine: machine.dracut(*SLIM)], ids=["initramfs-tools", "dracut"]
)
def test_modules_that_weak_updates_lends_from_another_kernel_are_in_the_image(
    tool: Callable[[Machine], object], installed: Machine, said: Said
) -> None:
    """As weak-modules leaves it: absolute links into the folder of the kernel they were built for."""
    kernel, lent = older(installed.kernel), installed.folder / "weak-updates/updates/vbus"
    lender = installed.folder.with_name(kernel)
    put(
        lender / "updates/vbus",
        installed.drivers(lambda raw: installed.signed(of_kernel(raw, installed.kernel))),
    )
    lent.mkdir(parents=True)
    for path in (lender / "updates/vbus").iterdir():
        (lent / path.name).symlink_to(f"/lib/modules/{kernel}/updates/vbus/{path.name}")
    try:
        with installed.having({}):
            tool(installed)
    finally:
        shutil.rmtree(lender)
        shutil.rmtree(installed.folder / "weak-updates")
        installed.depmod()
    whole(installed, said)


# dracut is taken where mkinitramfs is in no folder of PATH. What makes a cut image says that all is well.
RENEWS = """\
set -eu
release=$1 package=test needed="$1/updates/vbus/vbus.ko $1/updates/vbus/vblk.ko rules.d/61-vblk.rules"
. /mnt/initrd.sh
modinfo() { /sbin/modinfo "$@"; }
export TMPDIR=/tmp
PATH=$2 initrd=/mnt/image
renew_initrd || echo "$why"
cp "$initrd" /mnt/whole
cut_off() { head -c "$(($(stat -c %s /mnt/whole) * $share / 100))" /mnt/whole >"$draft"; }
make_draft() { why=cut lister=$3 && cut_off; }
for share in 0 1 50 90 99; do renew_initrd 2>/dev/null || echo "$share: $why"; done
cmp "$initrd" /mnt/whole
"""
TOOLS = {
    "mkinitramfs": ("/usr/sbin:/usr/bin:/sbin:/bin", "lsinitramfs"),
    "dracut": ("/usr/bin:/bin", "lsinitrd"),
}


@pytest.mark.parametrize("tool", [*TOOLS])
def test_the_packages_scripts_take_what_either_tool_makes_and_nothing_that_is_cut(
    installed: Machine, said: Said, tool: str
) -> None:
    path, lister = TOOLS[tool]
    shutil.copy(ROOT / "kmp/scripts/initrd.sh", installed.work)
    (installed.work / "image").write_text("old")
    words = ["sh", "-c", RENEWS.replace("$3", lister), "sh", installed.kernel, path]
    printed = installed.run(words, {installed.hardware(True): "/sys"})
    why = f"{lister} cannot read the new one to its end, so /mnt/image stays as it was"
    cut = [line for line in printed.splitlines() if line.endswith(why)]
    assert cut == [f"{share}: {why}" for share in (0, 1, 50, 90, 99)], printed
    whole(installed, said)


def older(kernel: str) -> str:
    """6.1.0-55-cloud-amd64 of 6.1.0-56-cloud-amd64."""
    numbers, abi, flavour = kernel.split("-", 2)
    return f"{numbers}-{int(abi) - 1}-{flavour}"


def of_kernel(module: bytes, kernel: str) -> bytes:
    """The module as if it were built for the kernel before `kernel`."""
    was, becomes = (f"vermagic={release} ".encode() for release in (kernel, older(kernel)))
    assert len(was) == len(becomes) and module.count(was) == 1
    return module.replace(was, becomes)
