# SPDX-License-Identifier: MIT
"""Checked reads and writes of a disk or file in a guest: guest/diskcheck.c, which needs but a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.compat.bench import Bench

SOURCE = "compat_tests/guest/diskcheck.c"
THREADS, MIB_EACH = 8, 8


def program(bench: Bench) -> Path:
    """Static: the guest's libraries may be others."""
    target = bench.places.work("work") / "diskcheck"
    if not target.is_file():
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-pthread"]
        bench.run(["gcc", *flags, "-o", target, bench.places.tree / SOURCE])
    return target


class Check:
    """One under way; `ends` has it look at everything once more and returns its last line.

    base: of the names of its files in the guest
    """

    def __init__(self, bench: Bench, base: str) -> None:
        self._bench = bench
        self._base = base

    def ends(self, seconds: float = 240) -> str:
        base = self._base
        waiting = f"touch {base}.stop; until [ -e {base}.done ]; do sleep 0.1; done; tail -n 3 {base}.out"
        return self._bench.guest(waiting, seconds).strip()


@contextmanager
def checking(bench: Bench, target: str) -> Iterator[Check]:
    """Reads and writes from many threads, while the block lasts.

    target: in the guest; its first THREADS * MIB_EACH MiB, all zeroes so far, are what is written
    """
    binary, base = program(bench), f"/dev/shm/check-{Path(target).name}"
    copy = f"{base}.program"  # each its own: one that runs cannot be written
    bench.guest(f"rm -f {base}.*")
    bench.guest.write(copy, binary.read_bytes())
    sent = bench.guest(f"chmod 755 {copy}; sha256sum {copy}").split()[0]
    if sent != Artifact.of(binary).sha256:
        raise RuntimeError("the guest has another program than was sent")
    words = f"{copy} {target} {THREADS} {MIB_EACH} {base}.stop"
    bench.guest.agent.start(f"{words} >{base}.out 2>&1; touch {base}.done")
    try:
        yield Check(bench, base)
    finally:
        bench.guest.execute(f"touch {base}.stop")
