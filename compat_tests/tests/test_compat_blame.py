# SPDX-License-Identifier: MIT
"""Which red cell is whose, from evidence that is made up here."""

from __future__ import annotations

import errno
import re
from typing import Any

import pytest

from vbuskit.base.errors import Blocked, TimedOut, VbuskitError
from vbuskit.base.places import ROOT
from vbuskit.compat.blame import RULES, UNKNOWN, Evidence, blame
from vbuskit.compat.cells import Blame, CellRed
from vbuskit.compat.console import Floods, KeepsRestarting
from vbuskit.drivers.host import VbusdSilent

BROKE = VbuskitError("guest: broke")
LATE = TimedOut("guest: its agent did not answer within 300 s", moved="")
UNSEEN = TimedOut("guest: `x` did not end within 60 s")
MOVED = TimedOut("guest: its agent did not answer within 300 s", moved="its disk moved 0.4 s before that")
ENDED = "2026-11-23T22:34:46.8Z qemu-system-x86_64: terminating on signal 15 from pid 17 ({})\n"
STALL = "[  60.1] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!"
OOPS = "[  60.1] BUG: kernel NULL pointer dereference, address: 0000000000000000"
TIMER = "IO-APIC + timer doesn't work!  Boot with apic=debug and send a report."
NEW: dict[str, Any] = {"installed": False, "answered": False}


def on_the_way(cause: BaseException) -> VbuskitError:
    error = VbuskitError(f"on the way, `install`: {cause}")
    error.__cause__ = cause
    return error


PRODUCT, IMAGE, INFRASTRUCTURE, TIMEOUT = Blame.PRODUCT, Blame.IMAGE, Blame.INFRASTRUCTURE, Blame.TIMEOUT
CASES: dict[str, tuple[Blame, Evidence]] = {
    "nothing known": (PRODUCT, Evidence(error=BROKE)),
    "a defect of vbuskit": (PRODUCT, Evidence(error=KeyError("x"))),
    "comparison": (PRODUCT, Evidence(error=CellRed("x: expected 1, saw 2"), agent=True)),
    "comparison on a slow machine": (PRODUCT, Evidence(error=CellRed("x"), slow=9)),
    "full folder": (INFRASTRUCTURE, Evidence(error=BROKE, room={"out": 1 << 20})),
    "comparison on a full disk": (INFRASTRUCTURE, Evidence(error=CellRed("x"), room={"out": 0})),
    "room enough": (PRODUCT, Evidence(error=BROKE, room={"out": 1 << 30})),
    "no space": (INFRASTRUCTURE, Evidence(error=OSError(errno.ENOSPC, "No space left on device"))),
    "no space in the guest": (PRODUCT, Evidence(error=VbuskitError("cp: No space left on device"))),
    "disk cannot grow": (INFRASTRUCTURE, Evidence(error=LATE, state="paused: its disk cannot grow")),
    "guest memory": (INFRASTRUCTURE, Evidence(error=BROKE, qemu=1, qemu_log="cannot set up guest memory")),
    "oom killer": (INFRASTRUCTURE, Evidence(error=BROKE, vbusd=-9, oom_kills=1)),
    "oom killer elsewhere": (PRODUCT, Evidence(error=BROKE, oom_kills=1)),
    "vbusd segfault": (PRODUCT, Evidence(error=Blocked("vbusd: has ended"), vbusd=-11)),
    "vbusd refuses": (PRODUCT, Evidence(error=BROKE, vbusd=1)),
    "vbusd killed": (INFRASTRUCTURE, Evidence(error=VbusdSilent("vbusd: has ended"), vbusd=-9)),
    "worker seccomp": (PRODUCT, Evidence(error=MOVED, vbusd_log="worker 7 died (signal 31: a system call)")),
    "worker killed by the cell": (TIMEOUT, Evidence(error=MOVED, vbusd_log="worker 7 died (signal 9), the")),
    "qemu segfault": (PRODUCT, Evidence(error=LATE, qemu=-11, slow=9)),
    "qemu assertion": (PRODUCT, Evidence(error=BROKE, qemu=-6, qemu_log="qemu-system-x86_64: Assertion")),
    "qemu killed": (INFRASTRUCTURE, Evidence(error=BROKE, qemu=-9, qemu_log="reason=crashed")),
    "qemu ended by us": (PRODUCT, Evidence(error=BROKE, qemu=-9, qemu_log="reason=destroyed")),
    "qemu told to end": (INFRASTRUCTURE, Evidence(error=BROKE, qemu=0, qemu_log=ENDED.format("bash"))),
    "qemu told by libvirt": (PRODUCT, Evidence(error=BROKE, qemu=0, qemu_log=ENDED.format("libvirtd"))),
    "qemu told by /libvirtd": (PRODUCT, Evidence(error=BROKE, qemu_log=ENDED.format("/usr/sbin/libvirtd"))),
    "qemu gone, nobody knows how": (PRODUCT, Evidence(error=BROKE, qemu_log="reason=crashed")),
    "libvirtd": (INFRASTRUCTURE, Evidence(error=BROKE, libvirtd=-11)),
    "segfault and libvirtd": (PRODUCT, Evidence(error=BROKE, libvirtd=-9, qemu=-11)),
    "a lost host": (INFRASTRUCTURE, Evidence(error=BROKE, host="the lease is lost", vbusd=255)),
    "emergency shell of an image": (IMAGE, Evidence(error=LATE, serial="(initramfs) ", **NEW)),
    "dracut's": (IMAGE, Evidence(error=LATE, serial="Entering emergency mode.", **NEW)),
    "emergency shell with our hook": (PRODUCT, Evidence(error=LATE, serial="(initramfs) ", answered=False)),
    "shell, and slow": (PRODUCT, Evidence(error=LATE, serial="(initramfs) ", slow=9)),
    "panic of an image": (IMAGE, Evidence(error=LATE, serial="Kernel panic - not syncing: VFS", **NEW)),
    "no timer": (INFRASTRUCTURE, Evidence(error=LATE, serial=f"Kernel panic - not syncing: {TIMER}")),
    "panic": (PRODUCT, Evidence(error=LATE, serial="Kernel panic - not syncing: VFS")),
    "oops of an image": (IMAGE, Evidence(error=CellRed("dmesg"), sick=(OOPS,), installed=False)),
    "oops": (PRODUCT, Evidence(error=MOVED, sick=(OOPS,))),
    "stall on a slow machine": (TIMEOUT, Evidence(error=CellRed("x"), sick=(STALL,), slow=3, **NEW)),
    "stall of an image": (IMAGE, Evidence(error=CellRed("x"), sick=(STALL,), **NEW)),
    "stall and oops": (IMAGE, Evidence(error=CellRed("x"), sick=(STALL, OOPS), slow=3, **NEW)),
    "stall with our modules": (PRODUCT, Evidence(error=CellRed("x"), sick=(STALL,), slow=3)),
    "floods": (PRODUCT, Evidence(error=Floods("guest: floods"))),
    "floods by itself": (IMAGE, Evidence(error=Floods("guest: floods"), **NEW)),
    "restarts": (PRODUCT, Evidence(error=KeepsRestarting("guest: has started 6 times"))),
    "restarts by itself": (IMAGE, Evidence(error=KeepsRestarting("guest: has started"), **NEW)),
    "hangs": (PRODUCT, Evidence(error=LATE)),
    "hangs by itself": (PRODUCT, Evidence(error=LATE, **NEW)),
    "no agent in the image": (IMAGE, Evidence(error=LATE, serial="\r\nguest login: ", **NEW)),
    "blocked": (INFRASTRUCTURE, Evidence(error=Blocked("the mirror cannot be reached"))),
    "silent vbusd": (PRODUCT, Evidence(error=VbusdSilent("vbusd: no answer"))),
    "late and moving": (TIMEOUT, Evidence(error=MOVED)),
    "late and slow": (TIMEOUT, Evidence(error=UNSEEN, slow=2)),
    "late, at rest, and slow": (PRODUCT, Evidence(error=LATE, slow=2)),
    "late and slow, and the guest does nothing": (PRODUCT, Evidence(error=UNSEEN, slow=2, rested=True)),
    "late and slow, and the guest is at work": (TIMEOUT, Evidence(error=UNSEEN, slow=2, rested=False)),
    "late, and not slow": (PRODUCT, Evidence(error=UNSEEN)),
    "late, and as slow as granted": (PRODUCT, Evidence(error=UNSEEN, slow=2, granted=2)),
    "on the way, full": (INFRASTRUCTURE, Evidence(error=on_the_way(Blocked("out: the disk is full")))),
    "on the way, late": (TIMEOUT, Evidence(error=on_the_way(MOVED))),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_put_down_to_whom_its_evidence_points_at(case: str) -> None:
    expected, evidence = CASES[case]
    found, lines = blame(evidence)
    assert (found, lines) == (expected, lines)
    assert all(line and "\n" not in line for line in lines)


def test_every_rule_is_what_decides_some_case() -> None:
    decided = {blame(evidence)[1][0] for _, evidence in CASES.values()}
    lacking = [rule.says for rule in RULES if not any(line.startswith(f"{rule.says}: ") for line in decided)]
    assert lacking == []
    assert UNKNOWN in decided


def test_the_evidence_tells_how_things_stood() -> None:
    evidence = Evidence(error=BROKE, state="running", agent=True, libvirtd=-9, load=3.25, cpus=2, slow=2.0)
    lines = blame(evidence)[1]
    assert lines == [
        "libvirtd ended, which is none of ours: signal 9 (SIGKILL)",
        "the guest is running, its agent answers",
        "libvirtd ended with signal 9 (SIGKILL)",
        "the host has a load of 3.2 on 2 CPUs",
        "the machine is 2.0 times as slow as the reference, waits were made for 1.0",
    ]


def test_the_table_for_people_has_the_rules_in_their_order() -> None:
    rows = re.findall(r"^\| \d+ \| (.+?) \| (.+?) \|", (ROOT / "docs/blame.md").read_text(), re.MULTILINE)
    assert rows == [(rule.says, rule.blame.value) for rule in RULES] + [(UNKNOWN, PRODUCT.value)]
