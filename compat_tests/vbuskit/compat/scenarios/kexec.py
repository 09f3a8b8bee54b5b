# SPDX-License-Identifier: MIT
"""Another kernel takes over in the same machine: the host hears of it, and lets go of what was shared."""

from __future__ import annotations

from contextlib import suppress

from vbuskit.base.errors import TimedOut, VbuskitError
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.disks import MIB, Disk, found, plugged
from vbuskit.compat.guest import KEXEC
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.power import lie_down, works
from vbuskit.compat.traffic import flood
from vbuskit.drivers import host as south

SECONDS = 240
LOADED, MOUNT = "/sys/kernel/kexec_loaded", "/mnt/kept"
LOAD = "kexec -l /boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r) --reuse-cmdline"
# With the card up and nothing written back; after the agent has said that it was started.
AT_ONCE = "sleep 1; exec kexec -x -y -e"
IN_ORDER = f"kill -s {KEXEC} 1"
KEPT = Disk(name="kept", number=10, mib=64)
WRITE = f"while dd if=/dev/zero of={MOUNT}/busy bs=64k count=128 oflag=direct; do :; done"


class Kexec(Scenario):
    name = "kexec"
    title = "another kernel takes over, at once and in order; the host lets go of what the old one shared"
    order = 81
    needs = ("install",)
    long = True

    def run(self, bench: Bench, cell: Cell) -> None:
        if bench.guest.execute(f"test -e {LOADED}").code:
            raise CellSkipped(f"needs {LOADED}, which the guest's kernel does not have")
        with plugged(bench, KEPT) as disk:
            bench.guest(f"mkfs.ext4 -q /dev/{disk.node} && mkdir -p {MOUNT}")
            for when, command in (("at once", AT_ONCE), ("in order", IN_ORDER)):
                disk = found(bench, KEPT, disk.image)
                bench.guest(f"mount /dev/{disk.node} {MOUNT}")
                kept = bench.guest(f"head -c {MIB} /dev/urandom >{MOUNT}/kept; sync; sha256sum {MOUNT}/kept")
                with flood(bench, bench.bus.net):
                    bench.guest.agent.start(WRITE)
                    disk.moved(MIB)
                    self.goes(bench, cell, when, command)
                works(bench, cell, when)
                disk = found(bench, KEPT, disk.image)
                bench.guest(f"mount /dev/{disk.node} {MOUNT}")
                again = bench.guest(f"sha256sum {MOUNT}/kept")
                cell.compare(f"{when}: what was synced is on the disk", expected=kept, seen=again)
                bench.guest(f"umount {MOUNT}")
        cell.compare("the disk afterwards", expected="gone", seen=disk.vanishes())

    def goes(self, bench: Bench, cell: Cell, when: str, command: str) -> None:
        """From one kernel to the next; the host is looked at while there is none."""
        before, boot = bench.bus.status(), boot_id(bench)
        bench.guest(LOAD, seconds=120)
        cell.compare(f"{when}: loaded", expected="1", seen=bench.guest(f"cat {LOADED}").strip())
        lie_down(bench, command)
        cell.compare(f"{when}: the host", expected="no driver", seen=bench.bus.abandoned())
        between = bench.bus.status()
        cell.compare(f"{when}: the host has a connection", expected=False, seen=between.negotiated)
        cell.compare(f"{when}: devices with something shared", expected=[], seen=opened(bench))
        if not until(lambda: boot_id(bench, boot) != boot, SECONDS, pause=0.5):
            raise TimedOut(f"{bench.guest.name}: no other kernel within {SECONDS} s")
        for card in bench.bus.cards:
            cell.compare(f"{when}: {card.name}", expected="open", seen=bench.bus.appears(bench.guest, card))
        after = bench.bus.status()
        for what in ("sessions", "worker", "epoch", "lost"):
            seen = getattr(after, what)
            cell.compare(f"{when}: the host's {what}", expected=getattr(before, what), seen=seen)
        more = negotiations(after) - negotiations(before)
        cell.check(f"{when}: NEGOTIATEs", expected="1 or more", seen=more, holds=more >= 1)


def boot_id(bench: Bench, last: str = "") -> str:
    """The running kernel's; `last` while no kernel answers."""
    with suppress(VbuskitError):
        if bench.guest.agent.ping():
            return bench.guest("cat /proc/sys/kernel/random/boot_id").strip()
    return last


def opened(bench: Bench) -> list[str]:
    return [str(device.uuid) for device in bench.bus.client.devices(bench.bus.name) if device.is_open]


def negotiations(bus: south.Bus) -> int:
    return bus.counters["negotiations"]
