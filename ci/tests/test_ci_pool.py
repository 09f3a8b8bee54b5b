# SPDX-License-Identifier: MIT
"""The matrix on hosts of a pool: what guests need goes there by ssh, and no host has two cells at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.run import Arg, Runner
from vbuskit.compat.lease import LeaseLog, overlaps

# In the sandbox, whose end is the lab's. Words: a folder, how many hosts, on which guest a worker is killed
# while it installs, guests.
LAB = """
import os, signal, sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.compat.lab import Lab
from vbuskit.compat.lease import LeaseLog

sandbox.enter()
run, folder, count, kill, guests = Runner(), Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
log = folder / "out/logs/leases.jsonl"


def installing():
    entries = LeaseLog(log).entries() if log.exists() else []
    return next((entry for entry in entries if entry["what"] == f"{kill}/install"), None)


def said(path):
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def pid_of(worker):
    # xdist starts gw0, gw1, ... in turn, each by this word of execnet's; those that one forks have it, too.
    word, parents = b"exec(eval(sys.stdin.readline()))\\0", {}
    for process in Path("/proc").glob("[0-9]*"):
        if word in said(process / "cmdline") and (stat := said(process / "stat")):
            parents[int(process.name)] = int(stat.rpartition(b")")[2].split()[1])
    started = sorted(pid for pid, parent in parents.items() if parent not in parents)
    return started[int(worker.removeprefix("gw"))]


with Lab(run, count, folder / "lab") as lab:
    words = [sys.executable, "-m", "vbuskit.ci.cli", "matrix", "run", "--out", folder / "out"]
    words += ["--only", "kill", "--guest", *guests, "--hosts", *lab.uris]
    with run.start(lab.command(words), env=lab.environment, output=folder / "said") as matrix:
        if kill != "nobody":
            entry = until(installing, 900, pause=0.2)
            os.kill(pid_of(entry["worker"]), signal.SIGKILL)
        code = matrix.wait(1500)
print((folder / "said").read_text())
sys.exit(code)
"""


def matrix(folder: Path, hosts: int, kill: str, *guests: str) -> dict[str, dict[str, Any]]:
    """What came of each cell; none was on a host that another one had."""
    # The lab has no way out: what comes from a mirror is fetched before.
    Runner()([sys.executable, "-m", "vbuskit.ci.cli", "guest", "build", *guests], seconds=1800)
    words: list[Arg] = [sys.executable, "-c", LAB, folder, str(hosts), kill, *guests]
    done = Runner().attempt(words, seconds=1800)
    print(done.out, done.err)
    assert done.code == 0
    log = folder / "out/logs/leases.jsonl"
    assert overlaps(log) == []
    assert {entry["host"] for entry in LeaseLog(log).entries()} == hosts_of(hosts)
    cells = json.loads((folder / "out/results.json").read_text())["cells"]
    assert {cell["outcome"] for cell in cells} == {"green"}
    return {f"{cell['guest']}/{cell['name']}": cell for cell in cells}


def hosts_of(count: int) -> set[str]:
    return {f"qemu+ssh://root@10.79.0.{number}/system" for number in range(1, count + 1)}


@pytest.mark.full
def test_two_guests_on_two_hosts_install_transfer_and_lose_their_workers(tmp_path: Path) -> None:
    cells = matrix(tmp_path, 2, "nobody", "debian-12", "debian-13")
    assert len(cells) == 10


@pytest.mark.full
def test_on_four_hosts_the_cells_of_a_killed_worker_run_elsewhere(tmp_path: Path) -> None:
    guests = ("debian-12", "debian-12-lts", "debian-13", "debian-sid")
    cells = matrix(tmp_path, 4, "debian-13", *guests)
    assert len(cells) == 20
    [retry] = cells["debian-13/install"]["retries"]
    assert retry["blame"] == "infrastructure"
    tried = [
        entry
        for entry in LeaseLog(tmp_path / "out/logs/leases.jsonl").entries()
        if entry["what"] == "debian-13/install"
    ]
    assert len({entry["worker"] for entry in tried}) == len({entry["host"] for entry in tried}) == 2
