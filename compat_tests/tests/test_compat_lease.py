# SPDX-License-Identifier: MIT
"""Leases: one holder a host, whoever dies; ssh is played by a script that gives each host a folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from vbuskit.base.errors import Blocked, Exit, Refused, UsageError, VbuskitError
from vbuskit.base.run import Arg, Dialogue, Runner
from vbuskit.base.wait import until
from vbuskit.compat.lease import LOG, LeaseLog, Overlap, Pool, main, overlaps
from vbuskit.compat.remote import RemoteHost
from vbuskit.compat.ssh import Address

SSH = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done
[ -d "{hosts}/$2" ] || {{ echo "ssh: $2: Name or service not known" >&2; exit 255; }}
cd "{hosts}/$2" && VBUSKIT_HOST_CACHE=$PWD/cache exec sh -c "exec $3"
"""
HOLDER = """
import sys
from pathlib import Path
from vbuskit.base.run import Runner
from vbuskit.compat.lease import Pool
folder, worker, run, *hosts = sys.argv[1:]
pool = Pool(Runner(), hosts, Path(folder), run, worker, lock="lock")
with pool.lease("group") as lease:
    child = Runner().start(lease.command(["sleep", "600"]), output=Path(folder) / "out")
    print(lease.uri, child.pid, flush=True)
    sys.stdin.read()
"""


def uri(name: str) -> str:
    return f"qemu+ssh://root@{name}/system"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder; a host is a folder in it."""
    folder, programs = tmp_path / "hosts", tmp_path / "bin"
    programs.mkdir()
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
    (programs / "ssh").write_text(SSH.format(hosts=folder))
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def pool(hosts: Path, tmp_path: Path) -> Callable[..., Pool]:
    def make(
        *names: str, worker: str = "gw0", run: str = "run", tell: Callable[[str], None] = print
    ) -> Pool:
        return Pool(Runner(), [uri(each) for each in names], tmp_path / "run", run, worker, "lock", tell)

    return make


@contextmanager
def another(tmp_path: Path, *names: str, worker: str = "gw1", run: str = "run") -> Iterator[Dialogue]:
    """A worker of its own that holds a host; what it says first is which one."""
    words: list[Arg] = [sys.executable, "-c", HOLDER, tmp_path / "run", worker, run]
    with Runner().converse([*words, *(uri(each) for each in names)], errors=tmp_path / "errors") as other:
        yield other


def events(tmp_path: Path) -> list[tuple[str, str, str]]:
    entries = LeaseLog(tmp_path / "run" / LOG).entries()
    return [(each["event"], each["worker"], Address.of(each["host"]).host) for each in entries]


def sleepers(host: Path) -> list[int]:
    """Pids of what runs on the host, as its folder is their working folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "comm").read_text() == "sleep\n" and (entry / "cwd").resolve() == host:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_host_that_is_held_is_not_given_to_another_worker(
    pool: Callable[..., Pool], tmp_path: Path
) -> None:
    two = pool("one", "two", worker="gw1")
    with pool("one", "two").lease("a") as first, two.lease("b") as second:
        assert (first.uri, second.uri) == (uri("one"), uri("two"))
    assert overlaps(tmp_path / "run" / LOG) == []
    assert [event for event, _, _ in events(tmp_path)] == ["take", "take", "release", "release"]


def test_who_waits_is_told_for_whom_and_gets_the_host_when_it_is_let_go(
    pool: Callable[..., Pool], tmp_path: Path
) -> None:
    told: list[str] = []
    with another(tmp_path, "one") as other:
        assert other.heard(30)

        def tell(text: str) -> None:
            told.append(text)
            other.hang_up()

        with pool("one", tell=tell).lease("a"):
            pass
    assert f"held by gw1 of run run, pid {other.pid} on " in told[0]
    assert events(tmp_path) == [
        ("take", "gw1", "one"),
        ("release", "gw1", "one"),
        ("take", "gw0", "one"),
        ("release", "gw0", "one"),
    ]


def test_the_first_host_that_comes_free_is_taken_when_all_are_held(
    pool: Callable[..., Pool], tmp_path: Path
) -> None:
    with another(tmp_path, "one") as first, another(tmp_path, "two", worker="gw2") as second:
        assert first.heard(30) and second.heard(30)
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            if len(told) == 2:
                second.hang_up()

        with pool("one", "two", tell=tell).lease("a") as lease:
            assert lease.uri == uri("two")


# A host that comes free as it is waited for: both lines are there at once.
AT_ONCE = """\
#!{python}
import json, os, sys
heard = b""
def until(word):
    global heard
    while not heard.endswith(word):
        heard += os.read(0, 1 << 16) or sys.exit(1)
os.write(1, b'{{"waits": null}}\\n{{"taken": true, "former": null}}\\n')
until(b"keep\\n")
os.write(1, b'{{"ready": "scratch", "script": "script", "socket": "socket"}}\\n')
until(b"release\\n")
os.write(1, b'{{"released": true}}\\n')
until(b"bye\\n")
"""


def test_a_host_that_comes_free_as_it_is_waited_for_is_taken(
    pool: Callable[..., Pool], hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin/ssh").write_text(AT_ONCE.format(python=sys.executable))

    def never(*_: object) -> None:
        raise AssertionError("waits for a host that is there")

    monkeypatch.setattr("vbuskit.compat.lease.select", SimpleNamespace(select=never))
    with pool("one").lease("a") as held:
        assert held.scratch == "scratch"
    assert [event for event, _, _ in events(tmp_path)] == ["take", "release"]


def test_a_killed_holder_leaves_no_command_and_its_run_leaves_the_host_alone(
    pool: Callable[..., Pool], hosts: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    with another(tmp_path, "one", "two", worker="gw2") as other:
        assert other.heard(30)
        assert until(lambda: sleepers(hosts / "one"), 10)
        other.kill(signal.SIGKILL)
        with pool("one", "two", tell=told.append).lease("a") as lease:
            assert lease.uri == uri("two")
            assert not sleepers(hosts / "one")
    assert f"{uri('one')}: left alone, as gw2 of this run died on it" in told
    assert events(tmp_path) == [
        ("take", "gw2", "one"),
        ("lost", "gw2", "one"),
        ("take", "gw0", "two"),
        ("release", "gw0", "two"),
    ]


def test_another_run_takes_the_host_of_a_killed_holder(
    pool: Callable[..., Pool], hosts: Path, tmp_path: Path
) -> None:
    with another(tmp_path, "one", "two", worker="gw0", run="former") as other:
        assert other.heard(30)
        other.kill(signal.SIGKILL)
        with pool("one", "two").lease("a") as lease:
            assert lease.uri == uri("one")
    assert overlaps(tmp_path / "run" / LOG) == []


def test_a_pool_of_one_host_is_used_again_by_the_run_that_lost_a_worker_on_it(
    pool: Callable[..., Pool], tmp_path: Path
) -> None:
    with another(tmp_path, "one") as other:
        assert other.heard(30)
        other.kill(signal.SIGKILL)
        with pool("one").lease("a") as lease:
            assert lease.uri == uri("one")


def test_commands_run_in_the_host_s_words_and_codes(pool: Callable[..., Pool], hosts: Path) -> None:
    with pool("one").lease("a") as lease:
        run = Runner()
        assert run(lease.command(["sh", "-c", 'echo "$1" "$PWD"', "sh", "a 'b' $c"])) == (
            f"a 'b' $c {hosts / 'one'}\n"
        )
        assert run.attempt(lease.command(["sh", "-c", "exit 7"])).code == 7
        assert run.attempt(lease.command(["sh", "-c", "kill -9 $$"])).code == 137
        assert "no-such: No such file" in run.attempt(lease.command(["no-such"])).err
        run(lease.command(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"]))
        assert not sleepers(hosts / "one")


def test_a_command_ends_when_whoever_started_it_goes(pool: Callable[..., Pool], hosts: Path) -> None:
    with pool("one").lease("a") as lease:
        words = lease.command(["sh", "-c", "sleep 600 & sleep 600"])
        with Runner().converse(words, errors=hosts / "errors"):
            assert until(lambda: len(sleepers(hosts / "one")) == 2, 10)
        assert until(lambda: not sleepers(hosts / "one"), 10)


def test_a_process_of_the_host_is_signalled_at_once(pool: Callable[..., Pool], hosts: Path) -> None:
    with pool("one").lease("a") as lease:
        with Runner().start(lease.command(["sleep", "600"]), output=hosts / "out") as process:
            assert until(lambda: sleepers(hosts / "one"), 10)
            [pid] = sleepers(hosts / "one")
            lease.kill(pid, signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
        with pytest.raises(VbuskitError, match=f"process {pid}: .*No such process"):
            lease.kill(pid, signal.SIGTERM)


def test_a_lease_that_is_lost_is_noticed_by_its_next_cell(
    pool: Callable[..., Pool], hosts: Path, tmp_path: Path
) -> None:
    with pool("one").lease("a") as lease:
        lease.cell("first")
        assert RemoteHost(Runner(), lease, hosts / "logs").lost() == ""
        os.kill(json.loads((hosts / "one/lock").read_text())["holder"], signal.SIGKILL)
        assert until(lambda: lease.dialogue.poll() is not None, 10)
        with pytest.raises(Blocked, match="the lease is lost"):
            lease.cell("second")
        assert "the lease is lost" in RemoteHost(Runner(), lease, hosts / "logs").lost()
    assert [event for event, _, _ in events(tmp_path)] == ["take", "cell", "lost"]


def test_a_host_that_cannot_be_reached_is_told_and_passed_over(pool: Callable[..., Pool]) -> None:
    told: list[str] = []
    with pool("three", "two", tell=told.append).lease("a") as lease:
        assert lease.uri == uri("two")
    assert told == [f"{uri('three')}: ssh: three: Name or service not known"]
    with pytest.raises(Blocked, match="Name or service not known"), pool("three").lease("a"):
        pass


@pytest.mark.parametrize(
    "wrong", ["ftp://one/system", "qemu+tcp://one/system", "qemu+ssh://-oProxyCommand=x/system", "one", ""]
)
def test_what_is_no_host_is_a_usage_error(wrong: str, pool: Callable[..., Pool]) -> None:
    with pytest.raises(UsageError):
        Pool(Runner(), [wrong], Path("x"), "run")


def lines(path: Path, *entries: tuple[str, str, str]) -> Path:
    path.mkdir(exist_ok=True)
    log = LeaseLog(path / LOG)
    for event, host, lease in entries:
        log.add(event, host, lease, "run", "gw0", "group")
    return log.path


def test_two_leases_of_one_host_at_once_are_an_overlap(tmp_path: Path) -> None:
    log = lines(tmp_path, ("take", "h", "1"), ("take", "i", "2"), ("take", "h", "3"), ("release", "h", "3"))
    assert overlaps(log) == [Overlap("h", "1", "3")]


def test_the_checker_prints_the_log_and_fails_for_an_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = lines(tmp_path, ("take", "h", "1"), ("take", "h", "3"))
    assert main([str(log)]) == Exit.FAILED
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "1 overlaps"
    assert err == "h: 3 had it while 1 had it\n"
    assert main([str(lines(tmp_path / "other", ("take", "h", "1")))]) == Exit.OK
    assert main([]) == Exit.USAGE


def test_a_cell_of_somebody_who_does_not_hold_the_host_is_an_overlap(tmp_path: Path) -> None:
    log = lines(tmp_path, ("take", "h", "1"), ("release", "h", "1"), ("cell", "h", "1"))
    assert overlaps(log) == [Overlap("h", "nobody", "1")]


def test_a_lease_that_was_lost_may_be_followed_by_another(tmp_path: Path) -> None:
    log = lines(tmp_path, ("take", "h", "1"), ("lost", "h", "1"), ("take", "h", "2"), ("cell", "h", "2"))
    assert overlaps(log) == []


def test_a_line_that_is_none_is_refused_with_its_number(tmp_path: Path) -> None:
    path = lines(tmp_path, ("take", "h", "1"))
    path.write_text(path.read_text() + '{"time": 1}\n')
    with pytest.raises(Refused, match=":2: is no line"):
        overlaps(path)
