# SPDX-License-Identifier: MIT
"""The lists of `vbuskit selftest`: what the documents say that nobody has tried, and what would try it.

A test holds that the words quoted here are in the documents, and that none says "not run" without a check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vbuskit.base.errors import Exit, VbuskitError
from vbuskit.ci import results
from vbuskit.ci.machine import Machine
from vbuskit.ci.selftest import Check, Need
from vbuskit.compat.cells import Outcome
from vbuskit.compat.guests import GuestKind, guest_kinds

US = "{tree}/vbuskit"
STATUS = "docs/status.md"


def has(program: str) -> Need:
    return lambda machine: machine.has(program)


def is_a(architecture: str) -> Need:
    return lambda machine: machine.is_a(architecture)


def guest(kind: GuestKind | None) -> Need:
    """A guest of guests.toml that can be run here."""
    missing = "guests.toml has no such guest" if kind is None else kind.excluded
    return lambda _: missing


ROOT, KVM, SYSTEMD = Machine.superuser, Machine.kvm, Machine.systemd


def on_kvm(out: Path) -> str:
    """Green, and not under TCG after all."""
    facts, cells = results.read(out)
    if facts.accelerator != "kvm":
        return f"the guests ran on {facts.accelerator}, not on kvm"
    return "" if any(cell.outcome is Outcome.GREEN for cell in cells) else "no cell was green"


def caught(out: Path) -> str:
    """A planted defect: the guest was fine, and a cell saw what was not."""
    facts, cells = results.read(out)
    boot = next((cell for cell in cells if cell.name == "boot"), None)
    if boot is None or boot.outcome is not Outcome.GREEN:
        raise VbuskitError("the guest did not even boot, so the planted defect was not met")
    if facts.accelerator != "kvm":
        return f"the guests ran on {facts.accelerator}, not on kvm"
    return "" if any(cell.outcome is Outcome.RED for cell in cells) else "no cell was red"


def arm64_guest(tree: Path) -> GuestKind | None:
    return next((kind for kind in guest_kinds(tree).values() if kind.linux and kind.arch == "arm64"), None)


def kvm(tree: Path) -> tuple[Check, ...]:
    """What no machine was at hand for: KVM first, and everything else that a Linux machine may have."""
    arm64 = arm64_guest(tree)
    return (
        Check(
            id="kvm-cells",
            statement="every cell of the profile kernels holds on KVM",
            where=STATUS,
            quote="KVM (no vmx or svm flag here)",
            needs=(ROOT, KVM),
            command=(US, "matrix", "run", "--profile", "kernels", "--guest", "debian-12", "--out", "{out}"),
            judge=on_kvm,
            minutes=180,
        ),
        Check(
            id="kvm-guests",
            statement="the profile smoke holds on KVM for every guest",
            where=STATUS,
            quote="KVM (no vmx or svm flag here)",
            needs=(ROOT, KVM),
            command=(US, "matrix", "run", "--profile", "smoke", "--out", "{out}"),
            judge=on_kvm,
            minutes=180,
        ),
        Check(
            id="kvm-defect",
            statement="a lost wake-up that is planted in the modules is caught on KVM",
            where=STATUS,
            quote="KVM (no vmx or svm flag here)",
            needs=(ROOT, KVM),
            command=(US, "run", "--defect", "wakeup", "--out", "{out}"),
            code=Exit.FAILED,
            judge=caught,
            minutes=60,
        ),
        Check(
            id="kvm-net",
            statement="on KVM, TCP over the bus keeps its bounds beside virtio-net",
            where="docs/releases/v0.1.md",
            quote="Without KVM guests run under TCG, which is how all figures of",
            needs=(ROOT, KVM),
            command=(US, "bench", "net", "--json", "--out", "{out}"),
            minutes=60,
        ),
        Check(
            id="kvm-disk",
            statement="on KVM, a disk on the bus keeps its bounds beside virtio-blk",
            where="docs/releases/v0.1.md",
            quote="Without KVM guests run under TCG, which is how all figures of",
            needs=(ROOT, KVM),
            command=(US, "bench", "disk", "--json", "--out", "{out}"),
            minutes=60,
        ),
        Check(
            id="connect",
            statement="a guest of the system's own libvirtd holds every cell (`--connect`)",
            where=STATUS,
            quote="`--connect` with a guest",
            needs=(ROOT, Machine.libvirt),
            command=(US, "run", "--connect", "qemu:///system", "--out", "{out}"),
            changes="starts a guest under the libvirtd of this machine",
            minutes=120,
        ),
        Check(
            id="systemd",
            statement="under a real systemd, buses and descriptors outlive vbusd's death and restart",
            where="docs/host.md",
            quote="Not run: these units on a machine of their own",
            needs=(ROOT, SYSTEMD, has("apt-get")),
            command=("sh", "{tree}/ci/selftest/systemd.sh", US, "{out}"),
            changes="installs the package vbusd and purges it",
        ),
        Check(
            id="apparmor-parser",
            statement="AppArmor's parser takes the rules that come with vbusd",
            where="docs/host.md",
            quote="AppArmor's rules: **untested**",
            needs=(has("apparmor_parser"),),
            command=(
                "apparmor_parser",
                "-Q",
                "-K",
                "-o",
                "/dev/null",
                "{tree}/drivers/host/apparmor/vbuskit",
            ),
            minutes=5,
        ),
        Check(
            id="apparmor",
            statement="AppArmor's rules refuse nothing that vbusd and its workers do under systemd",
            where="docs/host.md",
            quote="AppArmor's rules: **untested**",
            needs=(ROOT, SYSTEMD, Machine.apparmor, has("apparmor_parser"), has("apt-get")),
            command=("sh", "{tree}/ci/selftest/systemd.sh", US, "{out}", "apparmor"),
            changes="installs the package vbusd and AppArmor's rules for it, and removes both",
        ),
        Check(
            id="selinux",
            statement="SELinux, enforcing, lets vbusd and its workers do their work",
            where=STATUS,
            quote="SELinux and AppArmor",
            needs=(Machine.selinux,),
            by_hand="install the RPM vbusd, run a guest with a bus, and look for `avc: denied`",
        ),
        Check(
            id="mok",
            statement="MokManager enrols the certificate of `vbuskit mok`, and our modules load after it",
            where="docs/signing.md",
            quote="**MokManager and `mokutil`**",
            by_hand="do what `./vbuskit mok` prints, on a machine or guest with Secure Boot",
        ),
        Check(
            id="token",
            statement="a hardware token signs by PKCS#11",
            where="docs/signing.md",
            quote="**No hardware token**",
            by_hand="`./vbuskit sign` as docs/signing.md has it for tokens, then `./vbuskit verify`",
        ),
        Check(
            id="arm64-core",
            statement="the portable half and the host's programs pass their tests on an arm64 machine",
            where=STATUS,
            quote="arm64 (modules are built, the guest boots",
            needs=(is_a("aarch64"),),
            command=(US, "build", "--only", "core"),
        ),
        Check(
            id="arm64-guest",
            statement="an arm64 guest boots and holds the profile smoke",
            where=STATUS,
            quote="arm64 (modules are built, the guest boots",
            needs=(ROOT, guest(arm64), has("qemu-system-aarch64")),
            command=(
                US,
                "matrix",
                "run",
                "--profile",
                "smoke",
                "--guest",
                arm64.name if arm64 else "",
                "--out",
                "{out}",
            ),
            minutes=120,
        ),
        Check(
            id="hibernate-vblk",
            statement="a guest hibernates to a disk on the bus and comes back from it",
            where=STATUS,
            quote="hibernation to a disk on the bus",
            by_hand="as the cell `hibernate` does it, but with resume= on a vblk disk",
        ),
        Check(
            id="suse-rhel",
            statement="build hosts and guests of SUSE and RHEL make and take our RPMs",
            where="docs/packages.md",
            quote="**No build host of SUSE or RHEL**",
            by_hand="rebuild the src.rpm there, and install what comes of it in a guest",
        ),
        Check(
            id="dkms-elsewhere",
            statement="dkms of SUSE and RHEL, and dkms 3.1 and later, build the drivers",
            where="docs/packages.md",
            quote="Not run here: dkms of SUSE and RHEL",
            by_hand="install vbus-dkms there, and see `dkms status`",
        ),
        Check(
            id="repository",
            statement="a guest installs from the ISO as a repository, by apt, zypper and dnf",
            where="docs/packages.md",
            quote="Not tried: a guest that installs from the repository",
            by_hand="mount the ISO in a guest and do what docs/packages.md says",
        ),
        Check(
            id="initrd-tools",
            statement="other dracuts and initramfs-tools make an initrd that reaches a root disk on the bus",
            where="docs/initrd.md",
            quote="Other ages of dracut and of initramfs-tools",
            by_hand="install our packages in such a guest, then `./vbuskit initrd check` its initrd",
        ),
        Check(
            id="pipelines",
            statement="GitHub and GitLab run the pipelines that `vbuskit ci` writes",
            where="docs/ci.md",
            quote="it has run on neither of them",
            by_hand="commit what `./vbuskit ci github` or `gitlab` writes, and watch it to its end",
        ),
    )


def windows(tree: Path) -> tuple[Check, ...]:
    """Comes with the Windows drivers."""
    return ()


LISTS: Mapping[str, Callable[[Path], tuple[Check, ...]]] = {"kvm": kvm, "windows": windows}
