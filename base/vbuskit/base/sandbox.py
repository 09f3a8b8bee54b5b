# SPDX-License-Identifier: MIT
"""A namespace of its own for a command, so that nothing that it starts can outlive it.

Three processes come of one:

    the command   the pid the user knows; waits, forwards signals, nothing else
    the reaper    pid 1 of a new PID namespace; when it ends, the kernel kills everything in there
    the worker    carries on with the command, as an ordinary child of the reaper

The kernel kills the reaper when the command dies, by whatever signal (PR_SET_PDEATHSIG). The worker is
never pid 1 itself: what it starts leaves orphans behind (libvirtd does), and somebody must reap them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vbuskit.base.errors import Blocked, Exit

# <linux/sched.h>, <linux/prctl.h>, <linux/mount.h>: the kernel's ABI, the same on every architecture.
CLONE_NEWNS = 0x0002_0000
CLONE_NEWPID = 0x2000_0000
PR_SET_PDEATHSIG = 1
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_MOVE = 0x1000, 0x2000
MS_REC, MS_PRIVATE = 0x4000, 0x4_0000

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ENDS = "vbuskit-ends"  # name of the memory file in which the reaper notes how orphans ended
MARK = "VBUSKIT_SANDBOX"  # the number of the worker's mount namespace, for what it starts

libc = ctypes.CDLL(None, use_errno=True)


def is_inside() -> bool:
    """Whether this process is a worker, or was started by one and has the same mounts, which are its own."""
    return os.environ.get(MARK) == own_mounts()


def own_mounts() -> str:
    return str(Path("/proc/self/ns/mnt").stat().st_ino)


def enter() -> None:
    """Return in the worker; the command itself stays in here and leaves with the worker's exit code.

    Raises Blocked when the caller may not make namespaces. Call it before any thread is started.
    """
    if os.geteuid() != 0:
        raise Blocked(
            "guests need root: this command makes namespaces and mounts of its own",
            hint="run it as root, for example with sudo",
        )
    if threading.active_count() != 1:
        raise RuntimeError("sandbox.enter: threads do not survive a fork")
    unshare(CLONE_NEWPID)
    sys.stdout.flush()
    sys.stderr.flush()
    alive, guard = os.pipe()
    ends = os.memfd_create(ENDS)
    reaper = os.fork()
    if reaper == 0:
        os.close(guard)
        become_reaper(alive, ends)
        return
    os.close(alive)
    os.close(ends)
    sys.exit(wait_for(reaper))


def end_of(pid: int, reaper: Path = Path("/proc/1/fd")) -> int | None:
    """How an orphan ended that did not end well: its exit code, or minus the number of a signal.

    QEMU is one: libvirt lets go of it, and so knows that it is gone, and not why. None: it runs, ended well,
    it was nobody's orphan, or this is not below a sandbox.
    """
    try:
        notes = next(link for link in reaper.iterdir() if f"/memfd:{ENDS} " in str(link.readlink()))
        lines = notes.read_text().split("\n")
    except (OSError, StopIteration):
        return None
    found = [code for noted, _, code in (line.partition(" ") for line in lines) if noted == str(pid)]
    return int(found[-1]) if found else None


def become_reaper(alive: int, ends: int) -> None:
    """Pid 1 of the namespace: tied to the command's life, with mounts of its own; returns in the worker."""
    try:
        die_with_parent(alive)
        os.setsid()  # a terminal's Ctrl-C reaches the command only, which passes it on once
        unshare(CLONE_NEWNS)
        if is_chroot():
            make_root_a_mount()
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        # Blocked until both sides have their handlers, or a signal in between would be lost to pid 1.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        worker = os.fork()
    except Blocked as error:
        print(f"vbuskit: {error}\nhint: {error.hint}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except KeyboardInterrupt:
        os._exit(Exit.INTERRUPTED)
    except BaseException as error:
        print(f"vbuskit: the namespace could not be set up: {error}", file=sys.stderr, flush=True)
        os._exit(Blocked.exit_code)
    if worker == 0:
        os.close(alive)
        os.close(ends)
        for number in FORWARDED:
            signal.signal(number, interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.environ[MARK] = own_mounts()
        return
    os._exit(wait_for(worker, ends))


def die_with_parent(alive: int) -> None:
    """SIGKILL for this process when its parent dies; also when the parent died before this line.

    `alive` is the reading end of a pipe whose writing end only the parent holds. getppid() would not do:
    it is 0 in a new PID namespace, whether the parent lives or not.
    """
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    if select.select([alive], [], [], 0)[0]:
        os._exit(128 + signal.SIGKILL)


def wait_for(child: int, ends: int | None = None) -> int:
    """Forward signals to `child` and reap everybody until it ends; its exit code, shell fashion.

    How others ended that did not end well is noted in the file `ends`, a line each.
    """

    def forward(number: int, frame: FrameType | None) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if status and ends is not None:
            os.write(ends, f"{pid} {os.waitstatus_to_exitcode(status)}\n".encode())


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM and SIGHUP end the worker as Ctrl-C does: through every `finally`."""
    raise KeyboardInterrupt


def is_chroot() -> bool:
    """Whether / is a mere folder of some mount, as in a chroot, and not a mount of its own."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return all(line.split()[4] != "/" for line in mounts)


def make_root_a_mount() -> None:
    """In a chroot, in a new mount namespace: / becomes the namespace's own root, with all that is below it.

    A folder cannot be made private, and `nsenter --mount` would lead out of the chroot: both know only
    mounts. Joining the own namespace once more leads to its real root; from there the way back is moved on
    top of it. Everything is private before anything is bound, or the bind would be seen outside.
    """
    here = Path.cwd()
    inside = os.open("/", os.O_PATH | os.O_DIRECTORY)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    if libc.setns(own, CLONE_NEWNS) != 0:
        raise refused(ctypes.get_errno(), "a namespace")
    os.close(own)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    os.fchdir(inside)
    os.close(inside)
    mount(".", ".", None, MS_BIND | MS_REC)
    os.chdir(Path.cwd())  # by its name, onto what was bound there
    mount(".", "/", None, MS_MOVE)
    os.chroot(".")
    os.chdir(here)


def unshare(flags: int) -> None:
    if libc.unshare(flags) != 0:
        raise refused(ctypes.get_errno(), "a namespace")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2), in the namespace of the caller. Raises Blocked."""
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    if libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        raise refused(ctypes.get_errno(), f"a mount on {target}")


def refused(number: int, what: str) -> Blocked:
    hint = "root needs CAP_SYS_ADMIN here; in a container, start it privileged"
    if number == errno.ENOSPC:
        hint = "raise user.max_pid_namespaces and user.max_mnt_namespaces"
    return Blocked(f"{what} cannot be made: {os.strerror(number)}", hint=hint)
