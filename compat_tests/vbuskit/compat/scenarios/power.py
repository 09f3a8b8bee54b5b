# SPDX-License-Identifier: MIT
"""The bridge goes and comes back under traffic, and so does the guest that sleeps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from vbuskit.base.errors import VbuskitError
from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Card
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.diskcheck import checking
from vbuskit.compat.disks import MIB, Disk, plugged
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.disk import all_is_right
from vbuskit.compat.traffic import bring_up, flood, ping

SECONDS = 120
WOKEN, PM_TEST = "/run/woken", "/sys/power/pm_test"
BUSY = Disk(name="busy", number=8, mib=128)


class Reload(Scenario):
    name = "reload"
    title = "the modules are unloaded and loaded under traffic, three times"
    order = 70
    needs = ("negotiate",)

    def run(self, bench: Bench, cell: Cell) -> None:
        for number in range(1, 4):
            with flood(bench, bench.bus.net):
                bench.guest("for module in vblk venet vbus; do modprobe -r $module || exit; done")
            cell.compare(f"{number}: the host", expected="no driver", seen=bench.bus.abandoned())
            left = bench.guest("grep -c vbus /proc/interrupts; :").strip()
            cell.compare(f"{number}: irqs left", expected="0", seen=left)
            bench.guest("modprobe vbus && modprobe venet")
            works(bench, cell, f"{number}: loaded")


class Unplug(Scenario):
    name = "unplug"
    title = "the bridge is removed from the guest under traffic and found again, three times"
    order = 71
    needs = ("negotiate",)

    def run(self, bench: Bench, cell: Cell) -> None:
        device = f"/sys/bus/pci/devices/{bench.guest.hardware.bridge}"
        for number in range(1, 4):
            with flood(bench, bench.bus.net):
                bench.guest(f"echo 1 >{device}/remove")
            cell.compare(f"{number}: the host", expected="no driver", seen=bench.bus.abandoned())
            bench.guest("echo 1 >/sys/bus/pci/rescan")
            works(bench, cell, f"{number}: found again")


class Sleep(Scenario):
    name = "sleep"
    title = "the guest sleeps under traffic and checked reads and writes, lightly and deeply"
    order = 49
    needs = ("negotiate",)
    cold = True

    def run(self, bench: Bench, cell: Cell) -> None:
        has_one_cpu(bench)
        before = slept(bench)
        with plugged(bench, BUSY) as disk, checking(bench, f"/dev/{disk.node}") as check:
            self.lightly(bench, cell)
            disk.moved(MIB)
            self.deeply(bench, cell)
            disk.moved(MIB)
            all_is_right(cell, check)
        cell.compare("times that it slept", expected=before + 2, seen=slept(bench))
        cell.compare("the disk afterwards", expected="gone", seen=disk.vanishes())
        # After S3 this QEMU does not hear a guest that switches itself off, with our modules or without.
        bench.guest("sync")
        bench.guest.domain.destroy()
        boot_again(bench)

    def lightly(self, bench: Bench, cell: Cell) -> None:
        with flood(bench, bench.bus.net):
            lie_down(bench, "echo freeze >/sys/power/state")
            # Its agent's port goes with the other devices; for QEMU it runs on.
            silent = until(lambda: not bench.guest.agent.ping(), SECONDS)
            cell.compare("s2idle: asleep", expected=True, seen=bool(silent))
            # A button that is pressed on the way down does not count.
            until(lambda: pressed(bench), SECONDS, pause=2)
        works(bench, cell, "after s2idle")

    def deeply(self, bench: Bench, cell: Cell) -> None:
        with flood(bench, bench.bus.net):
            lie_down(bench, "echo deep >/sys/power/mem_sleep && echo mem >/sys/power/state")
            asleep = until(bench.guest.domain.is_asleep, SECONDS)
            cell.compare("S3: asleep", expected=True, seen=bool(asleep))
            bench.guest.domain.wake()
            bench.guest.agent.wait(SECONDS)
        works(bench, cell, "after S3")


class Nap(Scenario):
    name = "nap"
    title = "the guest sleeps until its second CPU is offline, with requests of both at the disk"
    order = 48
    needs = ("irqs",)

    def run(self, bench: Bench, cell: Cell) -> None:
        """As far as the kernel's own test of sleep goes: SeaBIOS does not wake a second CPU from S3."""
        if bench.guest.execute(f"test -e {PM_TEST}").code:
            raise CellSkipped(f"needs {PM_TEST}, which the guest's kernel does not have")
        before = slept(bench)
        with plugged(bench, BUSY) as disk:
            rings = bench.guest(f"ls /sys/block/{disk.node}/mq").split()
            cell.compare("rings", expected=["0", "1"], seen=rings)
            with checking(bench, f"/dev/{disk.node}") as check:
                for level in ("devices", "processors"):
                    with flood(bench, bench.bus.net):
                        lie_down(
                            bench,
                            f"echo {level} >{PM_TEST}; echo mem >/sys/power/state; : >{WOKEN}",
                        )
                        until(lambda: has_woken(bench), SECONDS, pause=1)
                    works(bench, cell, f"after {level}")
                    disk.moved(MIB)
                bench.guest(f"echo none >{PM_TEST}")
                all_is_right(cell, check)
        cell.compare("times that it slept", expected=before + 2, seen=slept(bench))
        cell.compare(
            "CPUs afterwards", expected="0-1", seen=bench.guest("cat /sys/devices/system/cpu/online").strip()
        )
        cell.compare("the disk afterwards", expected="gone", seen=disk.vanishes())


def has_one_cpu(bench: Bench) -> None:
    """SeaBIOS never comes back from S3 with a second CPU, and one that is plugged in later is not seen."""
    if bench.guest("cat /sys/devices/system/cpu/present").strip() != "0":
        bench.guest.hardware = replace(bench.guest.hardware, cpus=1)
        bench.guest.shut_down()
        boot_again(bench)


def boot_again(bench: Bench) -> None:
    bench.guest.boot()
    for card in bench.bus.cards:
        bench.bus.appears(bench.guest, card)


def lie_down(bench: Bench, command: str) -> None:
    """Start it; the agent may be asleep before it has answered."""
    with suppress(VbuskitError):
        bench.guest.agent.start(command)


def has_woken(bench: Bench) -> bool:
    with suppress(VbuskitError):
        return bench.guest.agent.ping() and not bench.guest.execute(f"rm {WOKEN}").code
    return False


def slept(bench: Bench) -> int:
    """How often sleep succeeded."""
    return int(bench.guest("cat /sys/power/suspend_stats/success"))


def works(bench: Bench, cell: Cell, when: str) -> None:
    """Both cards are open again, the network passes, both sides mean one connection, the log is clean."""
    cell.compare(f"{when}: the host", expected="confirmed", seen=bench.bus.confirmed())
    for card in bench.bus.cards:
        cell.compare(f"{when}: {card.name}", expected="open", seen=opened(bench, card))
    bring_up(bench, bench.bus.net)
    cell.compare(f"{when}: ping", expected="20 of 20", seen=str(ping(bench, bench.bus.net)))
    epoch = f"{bench.bus.status().epoch:#018x}"
    cell.compare(f"{when}: epoch", expected=epoch, seen=bench.bus.north(bench.guest)["epoch"])
    cell.compare(f"{when}: kernel log", expected="no complaint", seen=complaints(bench))


def opened(bench: Bench, card: Card) -> str:
    """The card's state, once it is open and has an interface; whatever it is when that takes too long."""
    there = f'test -n "$(ls /sys/bus/vbus/devices/{card.uuid}/net)"'
    until(
        lambda: bench.bus.state(bench.guest, card) == "open" and not bench.guest.execute(there).code,
        SECONDS,
        pause=0.1,
    )
    return bench.bus.state(bench.guest, card)


def pressed(bench: Bench) -> bool:
    """Press the power button; whether the guest is awake by now."""
    bench.guest.domain.press()
    return bench.guest.agent.ping()
