# SPDX-License-Identifier: MIT
"""Builds the fuzz targets with clang, lets them run for a time, and says which lines they came through."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.places import Places, make
from vbuskit.base.run import Runner
from vbuskit.drivers.build import BuildFailed, compiled, configured

TARGETS = ("fuzz_admin", "fuzz_window")
LONGEST = 1024  # bytes of an input
# What takes words from a guest, an administrator or a worker: the lines that must be covered.
JUDGED = (
    "core/ioq.c",
    "core/shm_signal.c",
    "core/vbus_features.c",
    "host/classes/vblk_request.c",
    "host/classes/venet.c",
    "host/vbusd_admin.c",
    "host/vbusd_config.c",
    "host/worker_calls.c",
    "host/worker_device.c",
    "host/worker_queue.c",
    "host/worker_route.c",
)
# Sanitizers, and the targets' own word.
FINDING = re.compile(r"ERROR: \w+: .*|found: .*|.*runtime error: .*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """What came of one target: `finding` is a line, empty when there is none; `rate` is inputs a second."""

    finding: str
    inputs: int
    rate: int
    profile: Path


@dataclass(frozen=True, slots=True)
class Lines:
    """How many lines of a file can be run, and how many were."""

    count: int
    covered: int

    @property
    def percent(self) -> float:
        return 100 * self.covered / self.count


def targets(run: Runner, places: Places, *, defect: str = "none") -> dict[str, Path]:
    """The programs by name; a planted defect has a build folder of its own."""
    native = places.tree / "drivers/fuzz/clang.ini"
    options = ["--native-file", str(native), "-Dfuzz=true", f"-Ddefect={defect}"]
    folder = configured(run, places, f"fuzz-{defect}", options=options)
    compiled(run, places, folder)
    return {name: folder / "fuzz" / name for name in TARGETS}


def fuzz(run: Runner, target: Path, folder: Path, *, seconds: int) -> Fuzzed:
    """Begin with the seeds that the target writes itself; what it finds is in `folder`, with its log."""
    corpus, seeds = make(folder / "corpus"), make(folder / "seeds")
    profile = folder / f"{target.name}.profraw"
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-print_final_stats=1"]
    env = {"VBUS_FUZZ_SEEDS": str(seeds), "LLVM_PROFILE_FILE": str(profile)}
    done = run.attempt([target, *limits, corpus, seeds], cwd=folder, env=env)
    (folder / f"{target.name}.log").write_text(done.out + done.err)
    found = FINDING.search(done.err)
    return Fuzzed(
        finding=found[0] if found else f"exit code {done.code}" if done.code else "",
        inputs=statistic(done.err, "number_of_executed_units"),
        rate=statistic(done.err, "average_exec_per_sec"),
        profile=profile,
    )


def statistic(log: str, name: str) -> int:
    """A number that libFuzzer prints at its end, also when it found something; 0 when it did not."""
    value = re.search(rf"^stat::{name}:\s*(\d+)$", log, re.MULTILINE)
    return int(value[1]) if value else 0


def coverage(
    run: Runner, programs: Iterable[Path], profiles: Iterable[Path], folder: Path
) -> dict[str, Lines]:
    """Lines by file of JUDGED, over all programs together."""
    merged = folder / "merged.profdata"
    first, *others = programs
    run(["llvm-profdata", "merge", "-o", merged, *profiles])
    objects = [f"-object={program}" for program in others]
    told = run(["llvm-cov", "export", "-summary-only", f"-instr-profile={merged}", first, *objects])
    files = json.loads(told)["data"][0]["files"]
    lines = {file["filename"]: file["summary"]["lines"] for file in files}
    return {name: lines_of(lines, name) for name in JUDGED}


def lines_of(lines: Mapping[str, Mapping[str, int]], name: str) -> Lines:
    for path, found in lines.items():
        if path.endswith(f"/{name}"):
            return Lines(found["count"], found["covered"])
    raise BuildFailed(f"{name}: no target has it", hint="name it in drivers/fuzz/meson.build")


def total(table: Mapping[str, Lines]) -> Lines:
    return Lines(sum(each.count for each in table.values()), sum(each.covered for each in table.values()))


def report(table: Mapping[str, Lines]) -> str:
    """One line a file, and one of all."""
    rows = [*table.items(), ("all", total(table))]
    return "\n".join(f"{name:30} {of.covered:5} of {of.count:5} {of.percent:6.1f} %" for name, of in rows)
