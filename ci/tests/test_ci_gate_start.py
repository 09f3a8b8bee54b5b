# SPDX-License-Identifier: MIT
"""How soon `vbuskit gate check` answers: it is asked once for each guest and each host of a fleet."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT
from vbuskit.base.run import Arg, Runner

TIMES = 10  # what a start of Python takes, 8 ms of CPU here: 80 ms
# Each takes milliseconds that a check has no use for.
HEAVY = {
    "asyncio",
    "cryptography",
    "ctypes",
    "email",
    "hashlib",
    "http",
    "importlib.metadata",
    "jinja2",
    "libvirt",
    "multiprocessing",
    "socket",
    "ssl",
    "sqlite3",
    "subprocess",
    "tempfile",
    "tomllib",
    "xml",
}
LAYERS = ("vbuskit.kmp", "vbuskit.initrd", "vbuskit.compat")
ABOUT = {"schema": 1, "release": "0.2.0", "captured": "2026-11-24T00:00:00Z", "arch": "x86_64"}
GUEST = {**ABOUT, "kind": "guest", "name": "vm1", "machine": "pc-q35-7.2", "cpu": "qemu64"}
HOST = {**ABOUT, "kind": "host", "name": "host2", "qemu": "7.2.22", "libvirt": "9.0.0"}
LIST = """
import json, sys
from vbuskit.ci import cli
code = cli.main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""


@pytest.fixture
def words(tmp_path: Path) -> list[Arg]:
    """Of a check that says yes."""
    guest, host = tmp_path / "vm1.json", tmp_path / "host2.json"
    mine = {"identity": f"{1:032x}", "bus": {"version": 1, "window": 16, "vectors": 8}}
    guest.write_text(json.dumps({**GUEST, **mine}))
    theirs = {"identity": f"{2:032x}", "bus": {"version": 1}, "machines": ["pc-q35-7.2"]}
    host.write_text(json.dumps({**HOST, **theirs, "cpus": ["qemu64"]}))
    return ["gate", "check", guest, host]


def test_a_check_imports_nothing_heavy_and_no_layer_that_it_has_no_use_for(words: list[Arg]) -> None:
    done = Runner().attempt([sys.executable, "-P", "-c", LIST, *words])
    assert done.code == Exit.OK, done.err
    modules = json.loads(done.out.splitlines()[-1])
    assert [each for each in modules if each in HEAVY] == []
    assert [each for each in modules if each.startswith(LAYERS)] == []


def test_a_check_takes_no_more_than_ten_times_what_a_start_of_python_takes(words: list[Arg]) -> None:
    if not (ROOT / ".venv/.inputs").exists():
        pytest.skip("no .venv of this tree: ./vbuskit would make it first")
    python = ROOT / ".venv/bin/python"
    pairs = [
        (cpu_seconds([python, "-c", "pass"]), cpu_seconds([ROOT / "vbuskit", *words])) for _ in range(7)
    ]
    assert min(check for _, check in pairs) < TIMES * min(start for start, _ in pairs), pairs


def cpu_seconds(command: list[Arg]) -> float:
    """Of the command and all that it starts, however busy the machine is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    Runner()(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
