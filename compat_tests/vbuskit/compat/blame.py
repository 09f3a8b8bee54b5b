# SPDX-License-Identifier: MIT
"""What a red cell is put down to: rules over evidence, the first that fits; what is unknown is ours.

`evidence.py` collects; nothing in here looks at anything. docs/blame.md is the same table for people.
"""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from vbuskit.base.errors import Blocked, TimedOut
from vbuskit.compat.cells import Blame, CellRed
from vbuskit.compat.console import Floods, KeepsRestarting
from vbuskit.drivers.host import VbusdSilent

ROOM = 32 << 20  # bytes; with less of them free, anything may have failed for it
SLOW = 1.5  # times as slow as the waits were made for: they may have been too short

# Signals that a program sends itself, or is sent for what it did.
CRASHES = frozenset(
    -int(number)
    for number in (
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
    )
)
KILLED = -int(signal.SIGKILL)

# What initramfs-tools, dracut and systemd say before they open a shell on the console.
SHELLS = re.compile(
    r"\(initramfs\)|Dropping to a shell|[Ee]ntering emergency mode|You are in (emergency|rescue) mode|"
    r"Give root password for maintenance|Press Enter for maintenance|Cannot open access to console"
)
PANIC = re.compile(r"Kernel panic - not syncing[^\r\n]*")
# Before any module can be: the host did not get round to the guest's timer while its kernel looked for it.
NO_TIMER = re.compile(r"IO-APIC \+ timer doesn't work")
STALLS = re.compile(r"soft lockup|blocked for more than|self-detected stall|detected stalls")
NO_MEMORY = re.compile(r"[Cc]annot allocate memory|cannot set up guest memory")
SIGNALLED = re.compile(r"terminating on signal (\d+) from pid \d+ \((?P<who>[^)]*)\)")
QEMU_SAYS = re.compile(r"qemu-system-\w+: ")
WORKER_DIED = re.compile(r"worker \d+ died \((?P<how>(?!signal (?:9|15)\b)[^)]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen when a cell had turned red; exit codes are minus the number of a signal that ended it.

    installed: our packages may be in the guest
    answered:  its agent has answered since it was switched on; `agent`: it answers now
    state:     of the guest, as libvirt has it
    serial, qemu_log, vbusd_log: the ends of these, as far as they are of this cell
    sick:      lines of the kernel's log that no healthy guest has
    qemu, libvirtd, vbusd: how they ended; None: they run, or nobody knows how
    host:      of a pool, why it is ours no more; all that ran there ended with it
    rested:    QEMU had nothing to do when a wait ran out
    oom_kills: of the host's kernel, since the cell began
    room:      free bytes of the folders that it writes to
    slow:      the machine now, against the one that the waits were measured on; `granted`: their factor
    """

    error: BaseException
    installed: bool = True
    answered: bool = True
    agent: bool = False
    state: str = ""
    serial: str = ""
    sick: tuple[str, ...] = ()
    qemu: int | None = None
    qemu_log: str = ""
    libvirtd: int | None = None
    vbusd: int | None = None
    vbusd_log: str = ""
    host: str = ""
    rested: bool | None = None
    oom_kills: int = 0
    room: Mapping[str, int] = field(default_factory=dict)
    load: float = 0.0
    cpus: int = 1
    slow: float = 1.0
    granted: float = 1.0

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """The error and what it came of."""
        return tuple(causes(self.error))

    @property
    def is_slow(self) -> bool:
        return self.slow >= SLOW * self.granted


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


@dataclass(frozen=True, slots=True)
class Rule:
    """`seen`: what of the evidence makes it fit, in words; empty when it does not."""

    blame: Blame
    says: str
    seen: Callable[[Evidence], str]


def blame(evidence: Evidence) -> tuple[Blame, list[str]]:
    """The first rule that fits, what it fits by, and the state of things; a line each."""
    for rule in RULES:
        if seen := rule.seen(evidence):
            return rule.blame, [f"{rule.says}: {seen}", *surroundings(evidence)]
    return Blame.PRODUCT, [UNKNOWN, *surroundings(evidence)]


def surroundings(evidence: Evidence) -> Iterator[str]:
    """What somebody who doubts the rule wants to know."""
    agent = "answers" if evidence.agent else "does not answer"
    if evidence.state:
        yield f"the guest is {evidence.state}, its agent {agent}"
    names = ("QEMU", evidence.qemu), ("libvirtd", evidence.libvirtd), ("vbusd", evidence.vbusd)
    yield from (f"{name} ended with {ended(code)}" for name, code in names if code is not None)
    free = ", ".join(f"{size >> 20} MiB free in {folder}" for folder, size in evidence.room.items())
    yield f"the host has a load of {evidence.load:.1f} on {evidence.cpus} CPUs{free and f', {free}'}"
    waits = f"waits were made for {evidence.granted:.1f}"
    yield f"the machine is {evidence.slow:.1f} times as slow as the reference, {waits}"


def ended(code: int) -> str:
    """`exit code 1`, `signal 11 (SIGSEGV)`."""
    if code >= 0:
        return f"exit code {code}"
    known = {each.value: each.name for each in signal.Signals}
    return f"signal {-code} ({known.get(-code, 'of no name')})"


def full(evidence: Evidence) -> str:
    for folder, free in evidence.room.items():
        if free < ROOM:
            return f"{free >> 10} KiB are free in {folder}"
    for error in evidence.errors:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return str(error)
        if isinstance(error, Blocked) and "the disk is full" in str(error):
            return str(error)
    return evidence.state if "cannot grow" in evidence.state else ""


def no_memory(evidence: Evidence) -> str:
    if found := NO_MEMORY.search(evidence.qemu_log):
        return found[0]
    dead = [name for name, code in daemons(evidence) if code == KILLED]
    if evidence.oom_kills and dead:
        return f"the kernel killed {evidence.oom_kills} of its processes for memory, {dead[0]} is dead"
    return ""


def daemons(evidence: Evidence) -> tuple[tuple[str, int | None], ...]:
    return ("QEMU", evidence.qemu), ("vbusd", evidence.vbusd), ("libvirtd", evidence.libvirtd)


def crash_of_ours(evidence: Evidence) -> str:
    if evidence.vbusd is not None and evidence.vbusd not in (KILLED, -int(signal.SIGTERM)):
        return f"vbusd: {ended(evidence.vbusd)}"
    if found := WORKER_DIED.search(evidence.vbusd_log):
        return f"vbus-worker: {found['how']}"
    return ""


def crash_of_qemu(evidence: Evidence) -> str:
    if evidence.qemu is None or not (evidence.qemu in CRASHES or evidence.qemu > 0):
        return ""
    said = [line for line in evidence.qemu_log.splitlines() if QEMU_SAYS.search(line)]
    return f"{ended(evidence.qemu)}{f', it said: {said[-1]}' if said else ''}"


def libvirtd_gone(evidence: Evidence) -> str:
    return "" if evidence.libvirtd is None else ended(evidence.libvirtd)


def killed(evidence: Evidence) -> str:
    """By somebody else: libvirtd writes down whom it ended itself, and QEMU who asked it to end."""
    if evidence.qemu == KILLED and "reason=destroyed" not in evidence.qemu_log:
        return f"QEMU: {ended(KILLED)}"
    asked = SIGNALLED.search(evidence.qemu_log)
    if asked is not None and asked["who"] != "libvirtd" and not asked["who"].endswith("/libvirtd"):
        return f"QEMU: {asked[0]}"
    return f"vbusd: {ended(KILLED)}" if evidence.vbusd == KILLED else ""


def untimed(evidence: Evidence) -> str:
    found = PANIC.search(evidence.serial)
    return found[0] if found and NO_TIMER.search(found[0]) else ""


def stalled(evidence: Evidence) -> str:
    """Only before we are in it: a stall with our modules loaded may be theirs, on whatever machine."""
    only = all(STALLS.search(line) for line in evidence.sick)
    return evidence.sick[0] if evidence.sick and only and evidence.is_slow and not evidence.installed else ""


def lost_guest(evidence: Evidence) -> str:
    """In which way it never came up, or went down."""
    for error in evidence.errors:
        if isinstance(error, (Floods, KeepsRestarting)):
            return str(error)
    if found := PANIC.search(evidence.serial):
        return found[0]
    if not evidence.agent and (found := SHELLS.search(evidence.serial)):
        return f"its console says {found[0]!r}"
    return evidence.sick[0] if evidence.sick else ""


def lost_image(evidence: Evidence) -> str:
    return "" if evidence.installed else lost_guest(evidence)


def up_without_agent(evidence: Evidence) -> str:
    if evidence.installed or evidence.answered or evidence.is_slow:
        return ""
    return next((line for line in evidence.serial.splitlines() if line.rstrip().endswith("login:")), "")


def of_kind(kind: type[BaseException]) -> Callable[[Evidence], str]:
    return lambda evidence: next((str(error) for error in evidence.errors if isinstance(error, kind)), "")


def late(evidence: Evidence) -> str:
    for error in evidence.errors:
        if isinstance(error, TimedOut):
            if error.moved:
                return f"{error}; {error.moved}"
            if error.moved is None and evidence.is_slow and not evidence.rested:
                short = evidence.slow / evidence.granted
                return f"{error}; on this machine that is {short:.1f} times too short"
    return ""


UNKNOWN = "no rule excuses it: what is not known to be another's is ours"

# The order is what decides: what makes every other observation worthless, then what we did, then who else.
RULES = (
    Rule(Blame.INFRASTRUCTURE, "a disk of the host is full", full),
    Rule(Blame.INFRASTRUCTURE, "the host has no memory left", no_memory),
    Rule(Blame.INFRASTRUCTURE, "the host of the pool is lost", lambda evidence: evidence.host),
    Rule(Blame.PRODUCT, "vbusd or its worker ended by itself", crash_of_ours),
    Rule(Blame.PRODUCT, "QEMU crashed, and our device is what is special about it", crash_of_qemu),
    Rule(Blame.INFRASTRUCTURE, "libvirtd ended, which is none of ours", libvirtd_gone),
    Rule(Blame.INFRASTRUCTURE, "a program was killed from outside", killed),
    Rule(Blame.INFRASTRUCTURE, "the guest's kernel found no timer, before it loads any module", untimed),
    Rule(Blame.TIMEOUT, "the guest's watchdogs found it late, without our packages in it", stalled),
    Rule(Blame.IMAGE, "the guest is lost, and our packages were never in it", lost_image),
    Rule(
        Blame.IMAGE, "the guest is up without its agent, and our packages were never in it", up_without_agent
    ),
    Rule(Blame.PRODUCT, "the guest is lost with our packages in it", lost_guest),
    Rule(Blame.PRODUCT, "vbusd does not answer", of_kind(VbusdSilent)),
    Rule(Blame.PRODUCT, "a comparison does not hold", of_kind(CellRed)),
    Rule(Blame.INFRASTRUCTURE, "something outside vbuskit is missing", of_kind(Blocked)),
    Rule(Blame.TIMEOUT, "the time was over while there was still something to wait for", late),
)
