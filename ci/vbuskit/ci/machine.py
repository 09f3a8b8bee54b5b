# SPDX-License-Identifier: MIT
"""What this machine has that a check may need; each question is answered by what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vbuskit.compat.domain import has_kvm

LIBVIRT = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock")


@dataclass(frozen=True, slots=True)
class Machine:
    """`root` is where its files are seen; a test has another one."""

    root: Path = Path("/")
    user: int = -1
    architecture: str = ""
    which: Callable[[str], str | None] = shutil.which

    def superuser(self) -> str:
        return "" if (os.geteuid() if self.user < 0 else self.user) == 0 else "not root"

    def kvm(self) -> str:
        """As guests are started: a device without the flag would hang them."""
        cpuinfo, device = self.root / "proc/cpuinfo", self.root / "dev/kvm"
        if not cpuinfo.is_file() or not re.search(r"^flags\s*:.*\b(vmx|svm)\b", cpuinfo.read_text(), re.M):
            return "no vmx or svm flag in /proc/cpuinfo"
        return "" if has_kvm(cpuinfo, device) else "no /dev/kvm"

    def systemd(self) -> str:
        return "" if (self.root / "run/systemd/system").is_dir() else "systemd is not pid 1"

    def libvirt(self) -> str:
        there = any((self.root / socket).exists() for socket in LIBVIRT)
        return "" if there else f"no libvirtd listens ({' or '.join('/' + each for each in LIBVIRT)})"

    def apparmor(self) -> str:
        enabled = self.root / "sys/module/apparmor/parameters/enabled"
        on = enabled.is_file() and enabled.read_text().strip() == "Y"
        return "" if on else "the kernel has AppArmor off"

    def selinux(self) -> str:
        enforce = self.root / "sys/fs/selinux/enforce"
        on = enforce.is_file() and enforce.read_text().strip() == "1"
        return "" if on else "SELinux does not enforce"

    def is_a(self, wanted: str) -> str:
        here = self.architecture or platform.machine()
        return "" if here == wanted else f"this machine is {here}, not {wanted}"

    def has(self, program: str) -> str:
        path = os.pathsep.join([os.environ.get("PATH") or os.defpath, "/usr/sbin", "/sbin"])
        there = self.which(program) if self.which is not shutil.which else shutil.which(program, path=path)
        return "" if there else f"{program}: not installed"
