# SPDX-License-Identifier: MIT
"""Who holds a lab, as other processes see it; and of what Debian its hosts are."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from vbuskit.base.errors import Blocked, UsageError
from vbuskit.base.places import Places, make
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.compat import hostroot
from vbuskit.compat.kept import Kept
from vbuskit.compat.standing import NOBODY, STATE, Seat, Standing, held, holder, is_whole, parent_of

HOLDER = """
import os, sys, time
from pathlib import Path
from vbuskit.compat.standing import begun, held
with held(Path(sys.argv[1])):
    said = sys.argv[2].replace("BEGUN", begun(os.getpid()))
    Path(sys.argv[1], "state.json").write_text(said)
    print("held", flush=True)
    time.sleep(600)
"""


def seat(number: int) -> Seat:
    return Seat(
        name=f"lab{number}",
        suite="trixie",
        address=f"10.79.0.{number}",
        uri=f"qemu+ssh://root@10.79.0.{number}/system",
        versions="",
        pid=100 + number,
        libvirt=f"/run/lab{number}/libvirt-sock",
        vbusd=f"/run/lab{number}/vbusd.sock",
    )


SAID = json.dumps({"begun": "BEGUN", "switch": 7, "hosts": [asdict(seat(number)) for number in (1, 2, 3)]})


class Neighbours(Runner):
    """Hosts whose `ip neighbour` is a table here."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[str, set[str]] = {}

    def __call__(self, args: Sequence[Arg], **more: object) -> str:
        words = [str(word) for word in args]
        host = next(word for word in words[2:] if word.startswith("--target=10"))
        mine = self.lost.setdefault(host, set())
        if "replace" in words:
            assert words[words.index("lladdr") + 1] == NOBODY
            mine.add(words[words.index("replace") + 1])
        elif "delete" in words:
            mine.remove(words[words.index("delete") + 1])
        return json.dumps([{"dst": each, "lladdr": NOBODY} for each in mine] + [{"dst": "224.0.0.1"}])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_kernel_says_who_holds_a_lab_and_when_nobody_does(
    tmp_path: Path, number: signal.Signals
) -> None:
    assert holder(tmp_path) is None
    with Runner().converse([sys.executable, "-c", HOLDER, tmp_path, SAID], errors=tmp_path / "e") as process:
        assert process.heard(30) == "held"
        assert holder(tmp_path) == process.pid
        with pytest.raises(Blocked, match="stands already"), held(tmp_path):
            pass
        assert Standing(Runner(), tmp_path).pid == process.pid
        process.kill(number)
        process.wait(30)
        assert holder(tmp_path) is None
        assert (tmp_path / STATE).exists()  # and is believed no more
        with pytest.raises(Blocked, match="does not stand"):
            Standing(Runner(), tmp_path)


def test_a_lab_that_is_not_whole_yet_does_not_stand(tmp_path: Path) -> None:
    with Runner().converse([sys.executable, "-c", HOLDER, tmp_path, SAID], errors=tmp_path / "e") as process:
        process.heard(30)
        assert is_whole(tmp_path)
        (tmp_path / STATE).write_text(SAID.replace("BEGUN", "1"))  # of one that was killed before
        for _ in range(2):
            assert not is_whole(tmp_path)
            with pytest.raises(Blocked, match=f"is not up yet; process {process.pid} is at it"):
                Standing(Runner(), tmp_path)
            (tmp_path / STATE).unlink(missing_ok=True)


def test_a_host_goes_by_its_name_or_number_and_commands_go_through_the_holder(tmp_path: Path) -> None:
    with Runner().converse([sys.executable, "-c", HOLDER, tmp_path, SAID], errors=tmp_path / "e") as process:
        process.heard(30)
        run = Neighbours()
        lab = Standing(run, tmp_path)
        assert lab.host("lab2") == lab.host("2") == seat(2)
        with pytest.raises(UsageError, match=f"lab4: is no host of lab {tmp_path.name}"):
            lab.host("lab4")
        words = [str(word) for word in lab.command(seat(2), ["true"])]
        assert (
            words[1] == f"--target={process.pid}" and words[words.index("nsenter", 1) + 1] == "--target=102"
        )
        assert lab.outside("/x") == Path(f"/proc/{process.pid}/root/x")
        lab.partition(seat(3), seat(1))
        assert run.lost == {"--target=103": {"10.79.0.1"}, "--target=101": {"10.79.0.3"}}
        assert lab.partitions() == [(seat(1), seat(3))]
        lab.heal(seat(1), seat(2))  # nothing is between them
        lab.heal(seat(1), seat(3))
        assert lab.partitions() == []
        with pytest.raises(UsageError, match="cannot be parted from itself"):
            lab.partition(seat(1), seat(1))


def test_the_parent_of_a_process_is_known_whatever_its_name(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with Runner().start([program, "60"], output=tmp_path / "out") as process:
        assert parent_of(process.pid) == os.getpid()


def deb(folder: Path, name: str) -> Path:
    control = make(folder / name / "DEBIAN") / "control"
    control.write_text(f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    Runner()(["dpkg-deb", "--build", folder / name, folder / f"{name}_1_all.deb"])
    return folder / f"{name}_1_all.deb"


def test_a_root_is_made_again_of_the_packages_that_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], object]] = []

    def bootstrap(
        run: Runner,
        suite: str,
        tree: Path,
        variant: str,
        packages: Sequence[str],
        *rest: object,
        **more: Path,
    ) -> Finished:
        asked.append((list(packages), more.get("sources")))
        if "keep" in more:
            for name in ("one", "two"):
                deb(tmp_path, name).rename(more["keep"] / f"{name}_1_all.deb")
        make(tree / "var/lib/apt/lists")
        return Finished(0, "", "")

    monkeypatch.setattr(hostroot, "bootstrap", bootstrap)
    kept = Kept(make(tmp_path / "packages"))
    make(kept.folder / "locks")
    for number in (1, 2):
        hostroot.fill(Runner(), "trixie", make(tmp_path / str(number)) / "tree", kept, "lock")
    assert asked[0] == ([*hostroot.PACKAGES], None)
    assert asked[1] == (["one", "two"], [f"deb [trusted=yes] copy:{tmp_path / '2/mirror'} ./"])
    assert [path.name for path in (tmp_path / "2").iterdir()] == ["tree"]


def test_a_mirror_that_is_away_is_told_with_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Finished(25, "", "E: Could not connect to deb.debian.org:80")
    monkeypatch.setattr(hostroot, "bootstrap", lambda *words, **more: failed)
    kept = Kept(make(tmp_path / "packages"))
    with pytest.raises(Blocked, match=r"lab host of sid: the package mirror \(.*\) cannot be reached"):
        hostroot.fill(Runner(), "sid", make(tmp_path / "x") / "tree", kept, "lock")


def test_a_disk_without_room_for_a_root_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostroot, "ROOM", 1 << 60)
    places = Places(tree=tmp_path, out=tmp_path, cache=tmp_path, state=tmp_path)
    with pytest.raises(Blocked, match="MiB free, the root of a lab host takes"):
        hostroot.root_for(Runner(), places, "sid")


def test_each_suite_has_a_root_of_its_own_and_this_machine_none(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian"\nVERSION_CODENAME="bookworm"\n')
    assert hostroot.own_suite(release) == "bookworm"
    release.write_text("NAME=x\n")
    assert hostroot.own_suite(release) == ""
    assert len({hostroot.key_of(suite) for suite in hostroot.SUITES}) == len(hostroot.SUITES)
    with pytest.raises(UsageError, match="suite 'jessie'"):
        hostroot.checked(["sid", "jessie"])
