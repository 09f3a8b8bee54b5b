# SPDX-License-Identifier: MIT
"""What a guest says of itself, for whoever looks for a defect later; asked through its agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.run import Finished

SECONDS = 20  # for one answer of a guest that is not at its best

ASKED = {
    "dmesg.txt": "dmesg",
    "modules.txt": "cat /proc/modules; for name in vbus venet vblk; do echo; modinfo $name; done",
    "packages.txt": "dpkg-query -W 'vbus*' 'linux-image*' dkms; rpm -qa 'vbus*' 'kernel*'",
    "initrd.txt": "ls -l /boot; lsinitramfs /boot/initrd.img-$(uname -r) | grep -E 'vbus|venet|vblk'"
    " || lsinitrd | grep -E 'vbus|venet|vblk'",
    "kernel.txt": "uname -rv; cat /proc/cmdline",
    "counters.txt": "cat /sys/kernel/debug/vbus/*/counters",
    "devices.txt": "grep -s . /sys/bus/vbus/devices/*/*; cat /proc/interrupts",
    "links.txt": "ip -s link",
    "disks.txt": "cat /proc/partitions; cat /proc/mounts",
    # Who waits for something that does not come, and where.
    "tasks.txt": "cat /proc/loadavg; cd /proc && for task in [0-9]*; do"
    " grep -qs '^State:.D' $task/status && cat $task/comm $task/stack; done",
}


def answers(execute: Callable[[str, float], Finished]) -> Iterator[tuple[str, str]]:
    """(file name, text) of each; after one that did not come in time nothing more is asked."""
    for name, command in ASKED.items():
        try:
            done = execute(f"exec 2>&1; {command}", SECONDS)
        except TimedOut as error:
            yield name, f"{error}\n"
            return
        except VbuskitError as error:
            yield name, f"{error}\n"
            continue
        yield name, done.out
