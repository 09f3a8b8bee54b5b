# SPDX-License-Identifier: MIT
"""What the Debian guest is made of: packages, files, what it does not start; its hash names the image."""

from __future__ import annotations

import json
from dataclasses import dataclass

from vbuskit.base.artifact import Artifact, digest_of

VERSION = 1  # raise it when images.py builds something else from the same recipe

PACKAGES = (
    "dbus",
    "e2fsprogs",
    "ethtool",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "irqbalance",
    "kexec-tools",
    "kmod",
    "qemu-guest-agent",
    "systemd-sysv",
    "udev",
    "zstd",
)
MEASURING = ("fio", "iperf3")  # for a bench; fio alone brings 100 MB of what it could read from
INIT = "/sbin/vbuskit-init"
DISK_MIB = 2048  # sparse: the qcow2 holds what is used

# Without it every boot of an overlay is a first boot, with all that systemd does then.
MACHINE_ID = "76627573000040008000000000000001"

# Never unpacked: nobody reads a manual in there, and each initramfs hook costs seconds of every rebuild.
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    *(
        f"/usr/share/initramfs-tools/hooks/{hook}"
        for hook in ("dmsetup", "fsck", "keymap", "resume", "thermal")
    ),
)

# Subsystems that no udev rule in there does anything for: hundreds of events in every boot.
UNHEARD = (
    "clockevents",
    "clocksource",
    "cpu",
    "event_source",
    "memory",
    "tty",
    "vc",
    "vtconsole",
    "workqueue",
)

# Programs that systemd runs before it starts anything, for things that this guest does not have.
GENERATORS = (
    "cryptsetup",
    "debug",
    "fstab",
    "gpt-auto",
    "hibernate-resume",
    "integritysetup",
    "rc-local",
    "run",
    "system-update",
    "sysv",
    "veritysetup",
)

FILES = {
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost guest\n",
    "etc/machine-id": f"{MACHINE_ID}\n",
    "etc/resolv.conf": "",
    "etc/fstab": "",
    # A driver package rebuilds the initrd on install and on removal; with all modules that takes minutes.
    "etc/initramfs-tools/conf.d/vbuskit": "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\nFSTYPE=ext4\n",
    "usr/share/initramfs-tools/modules.d/vbuskit": "virtio_pci\nvirtio_blk\next4\n",
    # Every device but those that only the kernel cares about; drivers and their buses are all in.
    "etc/systemd/system/systemd-udev-trigger.service.d/vbuskit.conf": (
        "[Service]\nExecStart=\nExecStart=-udevadm trigger --type=subsystems --action=add\n"
        "ExecStart=-udevadm trigger --type=devices --action=add --prioritized-subsystem=virtio-ports,block"
        + "".join(f" --subsystem-nomatch={name}" for name in UNHEARD)
        + "\nExecStart=-udevadm trigger --type=devices --action=add --sysname-match=ttyS0\n"
    ),
    "etc/systemd/journald.conf.d/vbuskit.conf": "[Journal]\nStorage=volatile\nAudit=no\nRateLimitBurst=0\n",
    "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf": (
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - $TERM\n"
    ),
}

# Seconds of every boot under TCG, for things that a guest of an hour's life does not need.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "irqbalance.service",  # who steers an irq finds it there
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-repart.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One guest image, of one Debian suite, for one kernel: `release` as `uname -r` says it.

    kernel: a package of it, or None: the suite has it as linux-image-`release`
    more:   packages beside those that every guest has
    init:   a program that it has as INIT, for the kernel to start in systemd's place
    arch:   as Debian calls it
    """

    release: str
    suite: str = "bookworm"
    kernel: Artifact | None = None
    more: tuple[str, ...] = ()
    init: Artifact | None = None
    arch: str = "amd64"

    @property
    def packages(self) -> tuple[str, ...]:
        kernel = () if self.kernel else (f"linux-image-{self.release}",)
        return (*PACKAGES, *self.more, *kernel)

    @property
    def foreign(self) -> str:
        """Its architecture, when that is not the usual one."""
        return "" if self.arch == "amd64" else self.arch

    @property
    def wanted(self) -> str:
        """32 hexadecimal digits over what a mirror is asked for; a file of ours in it is no matter."""
        return digest_of(json.dumps([self.suite, self.arch, self.packages]))[:32]

    @property
    def key(self) -> str:
        """32 hexadecimal digits over everything that decides what the image is."""
        whole = [VERSION, self.suite, self.packages, DISK_MIB, EXCLUDED, FILES, MASKED, GENERATORS]
        whole += [self.kernel.sha256] if self.kernel else []
        whole += [[INIT, self.init.sha256]] if self.init else []
        whole += [self.arch] if self.foreign else []
        return digest_of(json.dumps(whole, sort_keys=True))[:32]
