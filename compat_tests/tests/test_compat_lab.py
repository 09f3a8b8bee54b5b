# SPDX-License-Identifier: MIT
"""Hosts of a pool, for real: a lab of them, by ssh and qemu+ssh, under leases of workers that are killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.compat.lease import LOG, LeaseLog, overlaps

pytestmark = pytest.mark.guest  # seconds only, but it needs root and libvirtd

# In the sandbox, whose end is the lab's. The words: a folder, how many hosts, what is started beside them.
LAB = """
import os, sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.compat.lab import Lab
sandbox.enter()
run, folder = Runner(), Path(sys.argv[1])
with Lab(run, int(sys.argv[2]), folder / "lab") as lab:
    done = run.attempt(lab.command([*sys.argv[3:], *lab.uris]), env=lab.environment, seconds=100)
print(done.out, end="")
print(done.err, end="", file=sys.stderr)
left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid > 2]
assert not left, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
sys.exit(done.code)
"""

ALONE = """
import sys
from pathlib import Path
from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.base.run import Runner
from vbuskit.compat.lease import Pool
from vbuskit.compat.pool import leased_host
from vbuskit.compat.remote import RemoteHost
run, folder, hosts = Runner(), Path(sys.argv[1]), sys.argv[2:]
"""


def in_lab(tmp_path: Path, count: int, *words: str | Path) -> Finished:
    return Runner().attempt([sys.executable, "-c", LAB, tmp_path, str(count), *words], seconds=140)


def told(tmp_path: Path, count: int, body: str) -> dict[str, object]:
    """What `body` prints as JSON, run on the lab's network."""
    done = in_lab(tmp_path, count, sys.executable, "-c", ALONE + body, tmp_path)
    assert done.code == 0, done.err + done.out
    said = json.loads(done.out)
    assert isinstance(said, dict)
    return said


def test_a_lab_host_is_reached_by_ssh_and_libvirt_and_has_what_was_brought(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        1,
        """
import json
one, two = folder / "one", folder / "two"
one.write_text("first"), two.write_text("#!/bin/sh\\necho second\\n")
two.chmod(0o755)
with leased_host(run, hosts, folder / "run", "group") as host:
    there = host.bring(one, two)
    changed = run.attempt(host.command(["sh", "-c", 'chmod +w "$1"; echo x >>"$1"', "sh", there[0]])).code
    again = host.bring(one, two)
    place = host.place(folder / "console")
    run(host.command(["sh", "-c", 'echo seen >"$1"', "sh", place]))
    host.fetch(folder / "console")
    said = {
        "name": run(host.command(["uname", "-n"])).strip(),
        "guests": host.connection.running(),
        "content": run(host.command(["cat", again[0]])),
        "program": run(host.command([there[1]])),
        "together": there[0].parent == there[1].parent and there == again and not changed,
        "elsewhere": not any(each.exists() for each in there),
        "fetched": (folder / "console").read_text(),
    }
with leased_host(run, hosts, folder / "run", "again") as host:
    said["scratch"] = run.attempt(host.command(["ls", place])).code
print(json.dumps(said))
""",
    )
    assert said == {
        "name": "lab1",
        "guests": [],
        "content": "first",
        "program": "second\n",
        "together": True,
        "elsewhere": True,
        "fetched": "seen\n",
        "scratch": 2,
    }


def test_a_command_ends_with_whoever_started_it_here_and_with_the_lease(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        1,
        """
import json
from vbuskit.base.wait import until
pool = Pool(run, hosts, folder / "run", "run")
asleep = ["sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null | grep -cx sleep; :"]

def sleeping(lease, count):
    return bool(until(lambda: run(lease.command(asleep)).strip() == str(count), 20))

said = {}
with pool.lease("a") as lease:
    words = lease.command(["sh", "-c", "setsid sleep 600 & sleep 600"])
    with run.start(words, output=folder / "out"):
        said["both are there"] = sleeping(lease, 2)
    said["both are gone"] = sleeping(lease, 0)
    run.start(words, output=folder / "out")
    said["there again"] = sleeping(lease, 2)
with pool.lease("b") as lease:
    said["gone again"] = run(lease.command(asleep)).strip()
print(json.dumps(said))
""",
    )
    assert said == {
        "both are there": True,
        "both are gone": True,
        "there again": True,
        "gone again": "0",
    }


def test_a_host_whose_key_is_another_one_is_not_entered(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        1,
        """
import json, os
known = Path(os.environ["VBUSKIT_SSH_KNOWN_HOSTS"])
run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "strange"])
known.write_text(known.read_text().split()[0] + " " + (folder / "strange.pub").read_text())
try:
    with leased_host(run, hosts, folder / "run", "group"):
        print(json.dumps({"said": "came in"}))
except Blocked as error:
    print(json.dumps({"said": str(error)}))
""",
    )
    assert "Host key verification failed" in str(said["said"])


def test_a_guest_of_a_stranger_keeps_a_host_out_of_use(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        1,
        """
import json
import xml.etree.ElementTree as ET
from vbuskit.compat import remote
remote.PATIENCE = 0.2
XML = '''<domain type="qemu"><name>stranger</name><memory unit="MiB">16</memory>
<os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os><on_crash>destroy</on_crash></domain>'''
pool = Pool(run, hosts, folder / "run", "run")
with pool.lease("a") as lease, RemoteHost(run, lease, folder / "logs") as host:
    host.connection.launch(ET.fromstring(XML))
    try:
        with RemoteHost(run, lease, folder / "logs"):
            said = "came in"
    except Blocked as error:
        said = str(error)
with pool.lease("b") as lease:
    remote.PATIENCE = 20
    with RemoteHost(run, lease, folder / "logs") as host:
        print(json.dumps({"said": said, "then": host.connection.running()}))
""",
    )
    assert said == {"said": "10.79.0.1: guests run there: stranger", "then": []}


# In the sandbox: the host's end of the network goes down under a lease, without a word to either side.
CUT = """
import json, os, sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.compat.lab import Lab
sandbox.enter()
run, folder = Runner(), Path(sys.argv[1])
with Lab(run, 1, folder / "lab") as lab:
    [host] = lab.hosts
    # TCP gives up after seconds instead of a quarter of an hour.
    run(host.command(["sh", "-c", "echo 4 >/proc/sys/net/ipv4/tcp_retries2"]))
    os.environ.update(lab.environment)
    words = lab.command([sys.executable, "-c", sys.argv[2], folder, *lab.uris])
    with run.converse(words, errors=folder / "errors") as holder:
        holder.heard(30)
        lock = ["flock", "-n", host.seen("/run/lock/vbuskit.lease"), "true"]
        assert run.attempt(lock).code == 1
        run(lab.command(["ip", "link", "set", "host1", "down"]))
        said = {"holder": holder.heard(60)}
        said["free"] = bool(until(lambda: run.attempt(lock).code == 0, 60))
print(json.dumps(said))
"""
HELD = """
import time
with leased_host(run, hosts, folder / "run", "group") as host:
    run.start(host.command(["sleep", "600"]), output=folder / "out")
    print("held", flush=True)
    try:
        while True:
            host.lease.check()
            time.sleep(0.05)
    except Blocked as error:
        print(error, flush=True)
"""


def test_a_connection_that_is_cut_without_a_word_is_noticed_by_both_ends(tmp_path: Path) -> None:
    said = json.loads(Runner()([sys.executable, "-c", CUT, tmp_path, ALONE + HELD], seconds=140))
    assert "the lease is lost: Timeout, server 10.79.0.1 not responding" in str(said["holder"])
    assert said["free"]
    assert [each["event"] for each in LeaseLog(tmp_path / "run" / LOG).entries()] == ["take", "lost"]


# A session as the matrix has them: groups of items on a leased host each. Each item proves by a folder there
# that nobody else is at work on that host. In the middle of one the worker is killed, the first time.
CONFTEST = """
import json, os, signal
from contextlib import ExitStack
from pathlib import Path
import pytest
from vbuskit.base.run import Runner
from vbuskit.compat.crash import Groups
from vbuskit.compat.pool import leased_host, noted

HOST = {"undo": ExitStack(), "host": None}

def group(item):
    return group_of(item.nodeid)

def group_of(nodeid):
    return nodeid.partition("[")[2].partition("-")[0]

def pytest_xdist_make_scheduler(config, log):
    return Groups(config, log, group_of)

def pytest_addoption(parser):
    parser.addoption("--hosts", nargs="+")
    parser.addoption("--folder", type=Path)

@pytest.fixture
def host(request):
    config = request.config
    if HOST["host"] is None:
        folder, what = config.option.folder / "run", group(request.node)
        lease = leased_host(Runner(), config.option.hosts, folder, what, config.workerinput)
        HOST["host"] = HOST["undo"].enter_context(lease)
    noted(HOST["host"], request.node.name)
    return HOST["host"]

def pytest_runtest_teardown(item, nextitem):
    if nextitem is None or group(nextitem) != group(item):
        HOST["host"] = None
        HOST["undo"].close()
"""
SESSION = """
import os, signal
import pytest
from vbuskit.base.run import Runner

CASES = [pytest.param(g, n, id=f"g{g}-{n}") for g in range(6) for n in range(4)]
BUSY, SEEN = "mkdir /run/lock/at; sleep 600", "until rmdir /run/lock/at 2>/dev/null; do sleep 0.01; done"
ALONE = 'mkdir /run/lock/busy && sleep 0.1 && rmdir /run/lock/busy'

@pytest.mark.parametrize(("g", "n"), CASES)
def test_item(host, request, g, n):
    folder, run = request.config.option.folder, Runner()
    if (g, n) == (1, 1) and KILLS:
        first = not (folder / "killed").exists()
        if first or KILLS > 1:
            (folder / "killed").touch()
            run.start(host.command(["sh", "-c", BUSY]), output=folder / "sleeper")
            run(host.command(["sh", "-c", SEEN]))
            os.kill(os.getpid(), signal.SIGKILL)
    run(host.command(["sh", "-c", ALONE]))
"""


def session(tmp_path: Path, hosts: int, workers: int, kills: int) -> Finished:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_session.py").write_text(SESSION.replace("KILLS", str(kills)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = ["-p", "no:cacheprovider", "-p", "vbuskit.compat.crash", "-n", str(workers)]
    more: list[Arg] = [
        "-v",
        "--rootdir",
        tmp_path,
        tmp_path / "test_session.py",
        "--folder",
        tmp_path,
        "--hosts",
    ]
    return in_lab(tmp_path, hosts, sys.executable, "-P", "-m", "pytest", *words, *more)


def cells(tmp_path: Path) -> dict[str, list[str]]:
    """The hosts of each item, in the order of its attempts."""
    found: dict[str, list[str]] = {}
    for entry in LeaseLog(tmp_path / "run" / LOG).entries():
        if entry["event"] == "cell":
            found.setdefault(entry["what"], []).append(entry["host"])
    return found


@pytest.mark.parametrize(("hosts", "workers"), [(2, 2), (4, 4)])
def test_the_cells_of_a_killed_worker_run_elsewhere_and_no_host_has_two_at_once(
    tmp_path: Path, hosts: int, workers: int
) -> None:
    done = session(tmp_path, hosts, workers, kills=1)
    assert done.code == 0, done.out + done.err
    assert "24 passed, 1 retried" in done.out
    log = tmp_path / "run" / LOG
    assert overlaps(log) == []
    entries = LeaseLog(log).entries()
    released = {entry["lease"] for entry in entries if entry["event"] == "release"}
    [died] = [entry for entry in entries if entry["event"] == "take" and entry["lease"] not in released]
    seen = cells(tmp_path)
    assert len(seen) == 24
    assert [name for name, at in seen.items() if len(at) > 1] == ["test_item[g1-1]"]
    assert seen["test_item[g1-1]"][0] == died["host"]
    later = [seen[f"test_item[g1-{number}]"][-1] for number in (1, 2, 3)]
    assert later == [later[0]] * 3 and later[0] != died["host"]
    takes = [
        entry["worker"] for entry in entries if entry["event"] == "take" and entry["host"] == died["host"]
    ]
    assert takes[-1] == died["worker"]


def test_a_cell_that_kills_its_worker_each_time_is_red_and_the_others_are_tried(tmp_path: Path) -> None:
    done = session(tmp_path, 2, 2, kills=2)
    assert done.code == 1, done.out + done.err
    assert "1 failed, 23 passed, 1 retried" in done.out
    assert "crashed while running" in done.out
    assert overlaps(tmp_path / "run" / LOG) == []


# Two workers without a pool: each has a private host. The first one dies with a guest at work.
PRIVATE = """
import os, sys
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.run import Runner
from vbuskit.compat.pool import worker_spec
sandbox.enter()
words = ["-p", "no:cacheprovider", "--tx", f"2*{worker_spec()}", "--dist", "load", "--rootdir", sys.argv[1]]
done = Runner().attempt([sys.executable, "-P", "-m", "pytest", *words, sys.argv[1]], seconds=100)
print(done.out, done.err)
left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid > 2]
print("left:", [Path(f"/proc/{pid}/cmdline").read_text() for pid in left])
"""
DYING = """
import os, signal
import xml.etree.ElementTree as ET
from pathlib import Path
import pytest
from vbuskit.base.run import Runner
from vbuskit.compat.pool import leased_host

XML = '''<domain type="qemu"><name>orphan</name><memory unit="MiB">16</memory>
<os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os><on_crash>destroy</on_crash></domain>'''
HERE = Path(__file__).parent

@pytest.mark.parametrize("number", range(4))
def test_item(request, number):
    run = Runner()
    with leased_host(run, [], HERE / f"logs{number}", "group", request.config.workerinput) as host:
        host.connection.launch(ET.fromstring(XML))
        run.start(host.command(["sleep", "600"]), output=HERE / "sleeper")
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_takes_its_private_host_with_it(tmp_path: Path) -> None:
    (tmp_path / "test_dying.py").write_text(DYING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    said = Runner()([sys.executable, "-c", PRIVATE, tmp_path], seconds=140)
    assert "1 failed, 3 passed" in said
    assert said.endswith("left: []\n")
