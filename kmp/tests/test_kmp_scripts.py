# SPDX-License-Identifier: MIT
"""dpkg and rpm are cut off, run out of room, are lied to, or shall remove what the machine lives on."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.kmp import deb, rpm
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.defects import another, planted, spoiling
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.keys import Key

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="dpkg --root and rpm --root change root")

PROGRAMS = ("cat", "find", "grep", "head", "ln", "modinfo", "mv", "readlink", "rm", "sed")
OLD, DRAFT = "old\nend\n", ".vbus-new"
PADDING = "x" * 16384 + "\n"  # more than what a full /boot has room for

# In front of each program: it is noted, and after the one whose number is in /cut nothing lives on,
# neither dpkg nor rpm.
COUNTED = """\
#!/bin/sh
echo "{name} $*" >>/calls
/bin/{name} "$@"
code=$?
read -r count </count
echo $((count + 1)) >/count
read -r cut </cut
[ "$count" != "$cut" ] || kill -9 0
exit $code
"""
MAKERS = {
    # As Debian's does it: it writes where it is told to, piece by piece.
    "mkinitramfs": 'cat /pieces/1 >"$2" && cat /pieces/2 >>"$2"',
    # As dracut does it: not without --force over a file, and none is left where it fails.
    "dracut": 'for to; do :; done; [ ! -e "$to" ] && cat /pieces/1 >"$to" && cat /pieces/2 >>"$to"'
    ' || { rm -f "$to"; exit 1; }',
}
# cpio's end is the last that is written, and whoever reads it misses it.
LISTER = 'image=$(cat "$1"); case $image in *end) echo "$image" ;; *) exit 1 ;; esac'


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What differs. `folder` is where its packages have the modules, `image` what it calls an initrd."""

    image: str
    folder: str
    maker: str
    lister: str
    install: tuple[Arg, ...]
    again: tuple[Arg, ...]
    remove: tuple[Arg, ...]


RPM = ("rpm", "--force-debian", "--root")
FAMILIES = {
    "deb": Family(
        image="initrd.img-{kernel}",
        folder="updates/vbus",
        maker="mkinitramfs",
        lister="lsinitramfs",
        install=("dpkg", "--force-depends", "--force-unsafe-io", "-i", "--root"),
        again=("dpkg", "--force-depends", "--force-unsafe-io", "-i", "--root"),
        remove=("dpkg", "--purge", "--root"),
    ),
    "rpm": Family(
        image="initramfs-{kernel}.img",
        folder="updates",
        maker="dracut",
        lister="lsinitrd",
        install=("rpm", "--force-debian", "-i", "--nodeps", "--root"),
        again=("rpm", "--force-debian", "-U", "--replacepkgs", "--nodeps", "--root"),
        remove=("rpm", "--force-debian", "-e", "--root"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A root folder of one family, with a kernel that runs and its initrd; programs in it are counted."""

    folder: Path
    family: Family
    kernel: str
    packages: Sequence[Path]
    names: Sequence[str]

    @property
    def image(self) -> Path:
        return self.folder / "boot" / self.family.image.format(kernel=self.kernel)

    @property
    def new(self) -> str:
        return "".join((self.folder / f"pieces/{piece}").read_text() for piece in (1, 2))

    def run(self, words: Sequence[Arg], *what: Arg, cut: int = -1) -> Finished:
        (self.folder / "cut").write_text(f"{cut}\n")
        (self.folder / "count").write_text("0\n")
        return Runner().attempt([*words, self.folder, *what])

    def install(self, cut: int = -1) -> Finished:
        return self.run(self.family.install, *self.packages, cut=cut)

    def again(self) -> Finished:
        return self.run(self.family.again, *self.packages)

    def remove(self, cut: int = -1) -> Finished:
        return self.run(self.family.remove, *self.names, cut=cut)

    def program(self, name: str, body: str = "") -> None:
        """A stand-in, or what is there already; counted where dpkg's scripts look first, and rpm's."""
        real = self.folder / "bin" / name
        if not real.exists() or body:
            real.write_text(f"#!/bin/sh\n{body}\n")
            real.chmod(0o755)
        for folder in ("usr/local/sbin", "sbin"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
            (self.folder / folder / name).write_text(COUNTED.format(name=name))
            (self.folder / folder / name).chmod(0o755)

    def makes(self, drivers: Sequence[str]) -> None:
        """What the next initrd will have."""
        folder = f"usr/lib/modules/{self.kernel}/{self.family.folder}"
        (self.folder / "pieces").mkdir(exist_ok=True)
        (self.folder / "pieces/1").write_text(f"usr/lib/udev/rules.d/61-vblk.rules\n{folder}/{drivers[0]}\n")
        rest = "".join(f"{folder}/{driver}\n" for driver in drivers[1:])
        (self.folder / "pieces/2").write_text(f"{rest}{PADDING}end\n")

    def calls(self) -> list[str]:
        """What was called since the last look."""
        path = self.folder / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return said

    def in_boot(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.image.parent.iterdir()}

    def installed(self) -> set[str]:
        """Our packages that are whole."""
        if self.family is FAMILIES["deb"]:
            words: list[Arg] = ["dpkg-query", "--admindir", self.folder / "var/lib/dpkg", "-W"]
            said = Runner().attempt([*words, "-f", "${Package} ${db:Status-Status}\n", "vbus-*"]).out
            return {
                line.removesuffix(" installed") for line in said.splitlines() if line.endswith(" installed")
            }
        said = Runner()([*RPM, self.folder, "-qa", "--qf", "%{NAME}\n"])
        return set(said.split())

    def said(self, done: Finished) -> list[str]:
        """The lines that a package says for itself."""
        ours = re.compile(r"vbus(-modules-|-kmp-)?\S*: ")
        return [line for line in done.err.splitlines() if ours.match(line)]

    def disk(self, name: str, number: str, *, driver: str = "vblk", part_of: str = "") -> Path:
        """What the kernel says of a block device: its folder in /sys."""
        folder = self.folder / "sys/block" / part_of / name
        (folder / "holders").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        if not part_of:
            (folder / "device").mkdir()
            (folder / "device/driver").symlink_to(f"../../../bus/vbus/drivers/{driver}")
        return folder

    def mounted(self, *lines: str, process: int = 1) -> None:
        path = self.folder / f"proc/{process}/mountinfo"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def debs(signed: dict[str, Artifact], kernel: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = deb.build(Runner(), ROOT, current_release(ROOT), kernel, signed, tmp_path_factory.mktemp("debs"))
    return [package.path for package in made.values()][:2]


@pytest.fixture(scope="module")
def bare(bring: Callable[[str, Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bare")
    for name in ("sh", *PROGRAMS):
        bring(name, root)
    for name in ("boot", "dev", "run", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"):
        (root / name).mkdir(parents=True)
    for name in ("dev/null", "var/lib/dpkg/status"):
        (root / name).touch()
    Runner()(["rpm", "--root", root, "--initdb"])
    return root


@pytest.fixture(params=[*FAMILIES])
def system(
    request: pytest.FixtureRequest,
    bare: Path,
    debs: list[Path],
    packages: Mapping[str, Artifact],
    kernel: str,
    tmp_path: Path,
) -> System:
    family = FAMILIES[request.param]
    ours = {
        "deb": (debs, ["vbus-common", f"vbus-modules-{kernel}"]),
        "rpm": ([package.path for package in packages.values()], ["vbus", f"vbus-kmp-{flavour_of(kernel)}"]),
    }
    files, names = ours[request.param]
    root = tmp_path / "root"
    shutil.copytree(bare, root, symlinks=True)
    system = System(folder=root, family=family, kernel=kernel, packages=files, names=names)
    (root / f"lib/modules/{kernel}/kernel").mkdir(parents=True)
    system.image.write_text(OLD)
    for name in (*PROGRAMS, "depmod", "sync", "udevadm"):
        system.program(name)
    system.program("uname", f"echo {kernel}")
    system.program("dpkg-divert", 'echo "$2"')
    system.program("rpm", f"echo /lib/modules/{kernel}/updates/vbus.ko")
    system.program(family.maker, MAKERS[family.maker])
    system.program(family.lister, LISTER)
    system.makes(["vbus.ko", "vblk.ko"])
    return system


def test_the_initrd_is_made_beside_the_old_one_looked_into_written_and_renamed(system: System) -> None:
    assert system.install().code == 0
    assert system.in_boot() == {system.image.name: system.new}
    image, draft = f"/boot/{system.image.name}", f"/boot/{system.image.name}{DRAFT}"
    steps = [call for call in system.calls() if draft in call or call.startswith("sync")]
    family = system.family
    made = {
        "mkinitramfs": f"mkinitramfs -o {draft} {system.kernel}",
        "dracut": f"dracut --add vbus --kver {system.kernel} {draft}",
    }
    assert [step for step in steps if not step.startswith(("cat", "rm"))] == [
        made[family.maker],
        f"{family.lister} {draft}",
        f"sync {draft}",
        f"mv -f {draft} {image}",
        f"sync -f {image}",
    ]


def test_a_power_cut_after_any_step_of_an_installation_leaves_a_whole_initrd_and_is_made_up_for(
    system: System, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(system.folder, fresh, symlinks=True)
    seen = set()
    for cut in range(100):
        shutil.rmtree(system.folder)
        shutil.copytree(fresh, system.folder, symlinks=True)
        done = system.install(cut)
        if done.code == 0:
            break
        assert system.image.read_text() in (OLD, system.new), (cut, system.calls())
        seen.add((system.image.read_text(), tuple(sorted(system.in_boot()))))
        system.again()
        assert system.in_boot() == {system.image.name: system.new}, (cut, done.err)
        assert system.installed() == set(system.names)
    # Before a draft, with half or all of one, and after the rename: each was seen.
    assert cut > 5
    names = (system.image.name, f"{system.image.name}{DRAFT}")
    assert seen == {(OLD, names[:1]), (OLD, names), (system.new, names[:1])}


def test_a_power_cut_after_any_step_of_a_removal_leaves_a_whole_initrd(
    system: System, tmp_path: Path
) -> None:
    system.install()
    system.makes(["ext4.ko"])
    before, after = system.image.read_text(), system.new
    fresh = tmp_path / "fresh"
    shutil.copytree(system.folder, fresh, symlinks=True)
    for cut in range(100):
        shutil.rmtree(system.folder)
        shutil.copytree(fresh, system.folder, symlinks=True)
        if system.remove(cut).code == 0:
            break
        assert system.image.read_text() in (before, after), (cut, system.calls())
    assert cut > 5
    assert system.in_boot() == {system.image.name: after}
    assert system.installed() == set()


LIES = {
    "fails": ("maker", 'cat /pieces/1 >"$draft"; exit 1', "{maker} failed, as it says above"),
    "writes half": ("maker", 'cat /pieces/1 >"$draft"', "{lister} cannot read the new one to its end"),
    "writes nothing": ("maker", ":", "{lister} cannot read the new one to its end"),
    "writes no disk": (
        "maker",
        'cat /pieces/1 >"$draft"; echo end >>"$draft"',
        "the new one has no vblk.ko",
    ),
    "is not written": ("sync", "exit 1", "the new one could not be written to the disk"),
    "foreign": (
        "depmod",
        "cat /foreign >/lib/modules/{kernel}/{folder}/vblk.ko",
        "/lib/modules/{kernel}/{folder}/vblk.ko is built for another kernel: {other} ",
    ),
}


@pytest.mark.parametrize("lie", [*LIES])
def test_an_initrd_that_would_not_do_is_not_kept_and_one_line_says_why_and_what_next(
    system: System, other_signed: dict[str, Artifact], other_kernel: str, lie: str
) -> None:
    which, body, why = LIES[lie]
    family = system.family
    words = {
        "kernel": system.kernel,
        "other": other_kernel,
        "folder": family.folder,
        "maker": family.maker,
        "lister": family.lister,
    }
    name = family.maker if which == "maker" else which
    before = (system.folder / "bin" / name).read_text()
    shutil.copy(other_signed["vblk"].path, system.folder / "foreign")
    system.program(
        name, "for draft; do case $draft in */boot/*) break ;; esac; done\n" + body.format(**words)
    )
    done = system.install()
    said = system.said(done)
    assert len(said) == 1 and f": {why.format(**words)}" in said[0], done.err
    assert f", so /boot/{system.image.name} stays as it was; mend that, then" in said[0]
    assert system.in_boot() == {system.image.name: OLD}
    if family.maker == "mkinitramfs":
        assert (done.code, said[0].endswith("then: dpkg --configure -a")) == (1, True)
    else:
        assert "%posttrans(" in done.err and "scriptlet failed, exit status 1" in done.err
    (system.folder / "bin" / name).write_text(before)
    assert system.again().code == 0
    assert system.in_boot() == {system.image.name: system.new}


def test_a_full_boot_file_system_keeps_its_old_initrd(system: System) -> None:
    boot, kept = system.folder / "boot", system.folder / "kept"
    (system.folder / "cut").write_text("-1\n")
    (system.folder / "count").write_text("0\n")
    script = f"""\
set -e
cp -r {boot} {kept}
mount -t tmpfs -o size=12k tmpfs {boot}
cp {kept}/* {boot}
"$@" || :
rm -r {kept}
cp -r {boot} {kept}
"""
    install: list[Arg] = [*system.family.install, system.folder, *system.packages]
    done = Runner().attempt(["unshare", "--mount", "sh", "-c", script, "sh", *install])
    if "unshare: " in done.err or "mount: " in done.err:
        pytest.skip(f"no small file system: {done.err.splitlines()[0]}")
    assert done.code == 0, done.err
    assert "No space left on device" in done.err
    assert f"{system.family.maker} failed, as it says above" in system.said(done)[0]
    assert {path.name: path.read_text() for path in kept.iterdir()} == {system.image.name: OLD}


ROOTED = "30 1 254:1 / / rw,relatime shared:1 - ext4 /dev/disk/by-label/guest rw"
ELSEWHERE = "30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def on_root(system: System) -> None:
    system.disk("vba", "254:0")
    system.disk("vba1", "254:1", part_of="vba")
    system.mounted("22 30 0:5 / /dev rw - devtmpfs udev rw", ROOTED)


def on_data_of_a_container(system: System) -> None:
    system.disk("vbb", "254:16")
    system.mounted("31 30 254:16 /deep /srv/data rw - ext4 /dev/vbb rw", process=312)


def on_swap(system: System) -> None:
    system.disk("vba", "254:0")
    system.disk("vba2", "254:2", part_of="vba")
    swaps = "Filename\t\t\t\tType\t\tSize\n/dev/vba2                               partition\t1\n"
    (system.folder / "proc/swaps").write_text(swaps)


def on_volume(system: System) -> None:
    disk = system.disk("vba", "254:0")
    volume = system.disk("dm-0", "253:0")
    (disk / "holders/dm-0").symlink_to("../../dm-0")
    assert volume.samefile(disk / "holders/dm-0")
    system.mounted("30 1 253:0 / / rw - ext4 /dev/mapper/root rw")


def on_array(system: System) -> None:
    disk = system.disk("vbaa", "254:100")
    system.disk("md0", "9:0")
    (disk / "holders/md0").symlink_to("../../md0")


def on_btrfs(system: System) -> None:
    for name, number in (("vba", "254:0"), ("vbb", "254:16")):
        system.disk(name, number)
        (system.folder / "sys/fs/btrfs/1234/devices" / name).mkdir(parents=True)
    system.mounted("30 1 0:25 /@ / rw - btrfs /dev/vba rw,subvol=/@")


NEEDED = [
    (on_root, "vba1 (the root file system)"),
    (on_data_of_a_container, "vbb (mounted on /srv/data)"),
    (on_swap, "vba2 (swap)"),
    (on_volume, "vba (held by dm-0), dm-0 (the root file system)"),
    (on_array, "vbaa (held by md0)"),
    (on_btrfs, "vba (the root file system), vbb (a part of a btrfs)"),
]


@pytest.mark.parametrize(("needs", "what"), NEEDED)
def test_a_removal_is_refused_in_words_while_the_machine_needs_a_disk_on_the_bus(
    system: System, needs: Callable[[System], None], what: str
) -> None:
    system.install()
    system.calls()
    (system.folder / "proc").mkdir()
    system.mounted(ELSEWHERE)
    needs(system)
    before = system.in_boot()
    done = system.remove()
    assert done.code != 0
    assert (
        f"stays, for this machine needs disks on the bus: {what}; the next boot would"
        in system.said(done)[0]
    )
    assert system.installed() == set(system.names)
    assert system.in_boot() == before
    assert not [
        call for call in system.calls() if call.startswith(("depmod", system.family.maker, "modprobe"))
    ]
    assert system.again().code == 0


def test_what_the_machine_can_do_without_is_no_reason_to_keep_the_package(system: System) -> None:
    """A disk of ours that nobody uses, one that is not ours, another kernel's package."""
    system.install()
    (system.folder / "proc").mkdir()
    system.mounted(ELSEWHERE, "31 30 252:0 / /boot rw - ext4 /dev/vbz rw")
    system.disk("vbz", "252:0", driver="another")
    system.disk("vba", "254:0")
    system.makes(["ext4.ko"])
    system.calls()
    assert system.remove().code == 0
    assert system.in_boot() == {system.image.name: system.new}
    assert system.installed() == set()
    assert not [call for call in system.calls() if call.startswith(("rmmod", "modprobe"))]


def test_another_kernels_drivers_may_go_while_the_root_disk_is_on_the_bus(system: System) -> None:
    system.install()
    on_root(system)
    system.program("uname", "echo 5.10.0-1-amd64")
    system.makes(["ext4.ko"])
    said = system.said(system.remove())
    assert system.in_boot() == {system.image.name: system.new}
    if system.family.maker == "mkinitramfs":
        assert (said, system.installed()) == ([], set())
    else:  # what all kernels share refuses by itself, for rpm goes on with it after another one's refusal
        assert [line.split(":")[0] for line in said] == ["vbus"]
        assert system.installed() == {"vbus"}


# Makers that take along what the packages' own hook, or dracut module, names and what is there of it.
HONEST = {
    "mkinitramfs": """\
for hook in /usr/share/initramfs-tools/hooks/*; do
    [ ! -e "$hook" ] || version=$3 DESTDIR=/made sh "$hook"
done >"$2" && echo end >>"$2"
""",
    "dracut": """\
for to; do :; done
module=/usr/lib/dracut/modules.d/90vbus/module-setup.sh
[ -e "$module" ] || { echo "dracut: dracut module 'vbus' cannot be found or installed." >&2; exit 1; }
kernel=$4 bash -c '. /functions; . "$0"; installkernel; install' "$module" >"$to" && echo end >>"$to"
""",
}
HOOK_FUNCTIONS = """\
modinfo() { :; }
mkdir() { :; }
cp() { echo "usr/lib/udev/rules.d/${2##*/}"; }
manual_add_modules() { for name; do echo "usr/lib/modules/$version/updates/vbus/$name.ko"; done; }
"""
DRACUT_FUNCTIONS = """\
instmods() { for name; do there "lib/modules/$kernel/updates/$name.ko"; done; }
inst_rules() { for name; do there "usr/lib/udev/rules.d/$name"; done; }
there() { [ ! -e "/$1" ] || echo "usr/${1#usr/}"; }
"""
RULES = [path.name for path in (ROOT / "initrd/udev").iterdir()]
SAID = {
    ("hook", "mkinitramfs"): "the new one has no vbus.ko vblk.ko 61-vblk.rules",
    ("hook", "dracut"): "dracut failed, as it says above",
    "rule": "the new one has no 61-vblk.rules",
    "foreign": "/lib/modules/{kernel}/{folder}/vbus.ko is built for another kernel: {another} ",
    "lying": "/lib/modules/{kernel}/{folder}/vbus.ko is of another kernel, whatever it says: "
    "module_layout is 0x",
    "unsigned": "/lib/modules/{kernel}/{folder}/vbus.ko has lost its signature, "
    "and with Secure Boot no kernel loads it",
}


@pytest.fixture
def honest(system: System, bring: Callable[[str, Path], None], modules: Mapping[str, Artifact]) -> System:
    """The maker of initrds does what real ones do with our packages; the kernel has a module of its own."""
    for name in ("bash", "modprobe"):
        bring(name, system.folder)
    its_own = system.folder / f"lib/modules/{system.kernel}/kernel/drivers/its.ko"
    its_own.parent.mkdir()
    shutil.copy(modules["venet"].path, its_own)
    (system.folder / "functions").write_text(DRACUT_FUNCTIONS)
    functions = system.folder / "usr/share/initramfs-tools/hook-functions"
    functions.parent.mkdir(parents=True)
    functions.write_text(HOOK_FUNCTIONS)
    system.program(system.family.maker, HONEST[system.family.maker])
    return system


def with_defect(
    system: System, defect: str, modules: Mapping[str, Artifact], key: Key, into: Path
) -> System:
    """The same machine, and packages in which it is planted."""
    build = {"mkinitramfs": deb.build, "dracut": rpm.build}[system.family.maker]
    spoil = spoiling(defect, system.kernel, key)
    with planted(ROOT, defect) as spoilt:
        made = build(Runner(), spoilt, current_release(ROOT), system.kernel, modules, into, spoil)
    return replace(system, packages=[made[name].path for name in system.names])


def test_without_a_defect_the_initrd_gets_all_that_the_packages_name(honest: System) -> None:
    assert honest.install().code == 0
    had = honest.in_boot()[honest.image.name].split()
    assert {Path(name).name for name in had} == {"vbus.ko", "venet.ko", "vblk.ko", "end", *RULES}


@pytest.mark.parametrize("defect", ["hook", "rule", "foreign", "lying", "unsigned"])
def test_a_planted_defect_fails_the_package_in_words_and_the_old_initrd_stays(
    honest: System, modules: dict[str, Artifact], key: Key, tmp_path: Path, defect: str
) -> None:
    system = with_defect(honest, defect, modules, key, tmp_path / "made")
    done, family = system.install(), system.family
    why = SAID.get(defect) or SAID[defect, family.maker]
    words = {"kernel": system.kernel, "folder": family.folder, "another": another(system.kernel)}
    said = system.said(done)
    assert len(said) == 1 and f": {why.format(**words)}" in said[0], done.err
    assert f", so /boot/{system.image.name} stays as it was; mend that, then" in said[0]
    assert system.in_boot() == {system.image.name: OLD}
    assert (done.code == 1) if family.maker == "mkinitramfs" else ("%posttrans(" in done.err)


def test_with_stale_planted_the_initrd_stays_and_no_package_says_so(
    honest: System, modules: dict[str, Artifact], key: Key, tmp_path: Path
) -> None:
    """install.sh is who tells."""
    system = with_defect(honest, "stale", modules, key, tmp_path / "made")
    done = system.install()
    assert (done.code, system.said(done)) == (0, [])
    assert system.in_boot() == {system.image.name: OLD}
