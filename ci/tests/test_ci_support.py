# SPDX-License-Identifier: MIT
from __future__ import annotations

import base64
import hashlib
import json
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.virt import Domain, NoAgent, VirtError
from vbuskit.ci import cli, gallery, support
from vbuskit.ci.redact import Redaction
from vbuskit.ci.report import write_report
from vbuskit.ci.support import MOST_EACH, MOST_INITRD, Running, bundle, shortened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A former run, whose logs have things in them that are nobody's business."""
    places = gallery.places(tmp_path)
    write_report(places, gallery.facts(places.out), gallery.cells(places.out))
    private = "token=hunter2 52:54:00:ab:cd:ef\n"
    (places.out / "logs" / "worker.log").write_text(
        private + "some line\n" * (MOST_EACH // 3) + "last 52:54:00:ab:cd:ef"
    )
    (places.out / "logs" / "key.pem").write_text("a file that nobody wants")
    return places.out


def read(path: Path) -> dict[str, str]:
    """Its files by their names below the one folder that it has."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
        assert {name.partition("/")[0] for name in names} == {path.name.partition(".")[0]}
        return {name.partition("/")[2]: text(archive, name) for name in names}


def text(archive: tarfile.TarFile, name: str) -> str:
    file = archive.extractfile(name)
    assert file is not None
    return file.read().decode()


def test_a_former_runs_guest_has_its_cells_and_logs_in_a_bundle(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.tar.gz"
    words = ["report", gallery.GUEST, "--out", str(out), "--bundle", str(target)]
    assert cli.main(words) == Exit.OK
    assert target.stat().st_mode & 0o777 == 0o600
    files = read(target)
    assert {"results.json", "versions.json", "logs/worker.log"} <= files.keys()
    assert {cell["guest"] for cell in json.loads(files["results.json"])["cells"]} == {gallery.GUEST}
    assert not [name for name in files if name.endswith(".pem")]
    log = files["logs/worker.log"]
    assert log.startswith("token=[cut] mac-") and log.endswith("last mac-1")
    assert "characters left out" in log and len(log) < MOST_EACH + 100
    index = json.loads(files.pop("index.json"))["files"]
    assert index.keys() == files.keys()
    for name, content in files.items():
        raw = content.encode()
        assert index[name] == {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}


def test_names_stay_when_that_is_asked_for_and_secrets_do_not(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.tar.gz"
    words = ["report", gallery.GUEST, "--out", str(out), "--bundle", str(target), "--names"]
    assert cli.main(words) == Exit.OK
    assert read(target)["logs/worker.log"].startswith("token=[cut] 52:54:00:ab:cd:ef")


def test_what_no_longer_fits_is_left_out_and_told(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "MOST", 20_000)
    target = tmp_path / "x.tar.gz"
    assert cli.main(["report", gallery.GUEST, "--out", str(out), "--bundle", str(target)]) == Exit.OK
    files = read(target)
    assert "logs/worker.log" not in files
    assert "logs/worker.log" in json.loads(files["index.json"])["left_out"]


def test_no_file_beside_the_runs_folder_gets_into_a_bundle(out: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("nobody's business")
    (out / "logs" / "link.txt").symlink_to(tmp_path / "keys.txt")
    target = tmp_path / "x.tar.gz"
    words = ["report", gallery.GUEST, "--out", str(out), "--bundle", str(target)]
    assert cli.main(words) == Exit.OK
    assert not [content for content in read(target).values() if "nobody's" in content]
    text = (out / "results.json").read_text()
    (out / "results.json").write_text(text.replace("logs/worker.log", "../keys.txt"))
    target.unlink()
    assert cli.main(words) == Exit.REFUSED
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["x", "--compare", "y"], Exit.USAGE, "--compare: goes without the name of a guest"),
        (["nobody"], Exit.USAGE, "nobody: no guest of this run"),
        (["../x"], Exit.USAGE, "../x: no name of a guest"),
        (["--names"], Exit.USAGE, "--names: goes with the name of a guest"),
        (["x", "--connect", "test+nothing:///x"], Exit.BLOCKED, "test+nothing:///x"),
    ],
)
def test_what_cannot_be_bundled_is_said_in_a_line(
    out: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: Exit, said: str
) -> None:
    assert cli.main(["report", *words, "--out", str(out)]) == code
    assert said in capsys.readouterr().err


def test_a_guest_that_is_nowhere_is_said_to_be_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "vm", "--out", str(tmp_path)]) == Exit.BLOCKED
    assert f"{tmp_path} has no results" in capsys.readouterr().err


class FakeDomain:
    """Runs; its agent says what it was asked, when there is one."""

    name, uuid = "vm", "no such process has this"

    def __init__(self, *, awake: bool) -> None:
        self.awake = awake
        self.asked = ""

    def state(self) -> str:
        return "running"

    def xml(self) -> ET.Element:
        path = "<server path='/run/vbus/vm.sock'/>"
        return ET.fromstring(
            f"<domain><devices><shmem>{path}</shmem><graphics passwd='p'/></devices></domain>"
        )

    def agent(self, command: str, seconds: int) -> str:
        if not self.awake:
            raise NoAgent("vm: guest agent: is not connected", 86)
        request = json.loads(command)
        answers: dict[str, Any] = {
            "guest-ping": {},
            "guest-exec": {"pid": 1},
            "guest-exec-status": {"exited": True, "exitcode": 0, "out-data": "YXRsYXMgMTAuMC4wLjEK"},
        }
        return json.dumps({"return": answers[request["execute"]]})


def bundled(tmp_path: Path, domain: FakeDomain) -> dict[str, str]:
    running = Running(cast(Domain, domain), (tmp_path / "nothing.sock",))
    bundle(Runner(), Places.from_environment(), running, tmp_path / "vm.tar.gz", names=False)
    return read(tmp_path / "vm.tar.gz")


def test_a_running_guest_is_asked_and_its_own_name_is_replaced(tmp_path: Path) -> None:
    files = bundled(tmp_path, FakeDomain(awake=True))
    assert files["guest/dmesg.txt"] == "host-1 ipv4-1\n"
    assert "passwd" not in files["domain.xml"]
    assert "no process has it" in files["window.txt"]


def test_a_guest_without_an_agent_has_a_bundle_all_the_same(tmp_path: Path) -> None:
    files = bundled(tmp_path, FakeDomain(awake=False))
    assert files["guest.txt"] == "its agent does not answer\n"
    assert {"domain.xml", "host.txt", "versions.json", "index.json", "state.txt"} <= files.keys()


class Silent(FakeDomain):
    """Answers, and runs nothing: as where the distribution has switched guest-exec off."""

    def agent(self, command: str, seconds: int) -> str:
        if json.loads(command)["execute"] != "guest-ping":
            raise VirtError("vm: guest agent: Command guest-exec has been disabled", 86)
        return super().agent(command, seconds)


def test_a_guest_whose_agent_runs_nothing_has_a_bundle_all_the_same(tmp_path: Path) -> None:
    files = bundled(tmp_path, Silent(awake=True))
    assert "guest-exec has been disabled" in files["guest/dmesg.txt"]
    assert {"domain.xml", "host.txt", "window.txt"} <= files.keys()


class Endless(FakeDomain):
    """Says that its initrd is small, and hands out more and more of it."""

    given = 0

    def agent(self, command: str, seconds: int) -> str:
        request = json.loads(command)["execute"]
        if request == "guest-file-read":
            assert self.given <= MOST_INITRD, "it is still being read"
            self.given += 4 << 20
            return json.dumps({"return": {"count": 4 << 20, "buf-b64": ZEROES, "eof": False}})
        if request in ("guest-file-open", "guest-file-close"):
            return json.dumps({"return": 1})
        answer = json.loads(super().agent(command, seconds))
        if request == "guest-exec-status":
            answer["return"]["out-data"] = base64.b64encode(b"9 /boot/initrd\n").decode()
        return json.dumps(answer)


ZEROES = base64.b64encode(bytes(4 << 20)).decode()


def test_an_initrd_that_does_not_end_is_not_read_for_ever(tmp_path: Path) -> None:
    files = bundled(tmp_path, Endless(awake=True))
    assert "is longer than 32 MiB" in files["guest/initrd-check.txt"]


@pytest.mark.parametrize(
    "told", ['x password="two words" y', "a\n52:54:00:ab:cd:ef", "a\tatlas", "\n10.9.8.7"]
)
def test_what_is_nobodys_business_is_found_in_json_too(tmp_path: Path, told: str) -> None:
    document = json.dumps({"cells": [{"reason": told}]})
    what = cast(
        Running, SimpleNamespace(machines=lambda: ["atlas"], pieces=lambda: [("results.json", document)])
    )
    bundle(Runner(), Places.from_environment(), what, tmp_path / "vm.tar.gz", names=False)
    seen = json.loads(read(tmp_path / "vm.tar.gz")["results.json"])["cells"][0]["reason"]
    assert seen == Redaction(["atlas"])(told) != told


def test_a_text_is_cut_in_its_middle() -> None:
    assert shortened("x" * MOST_EACH) == "x" * MOST_EACH
    cut = shortened("a" + "x" * 2 * MOST_EACH + "z")
    assert len(cut) < MOST_EACH + 100 and cut[0] + cut[-1] == "az"
    assert f"\n... {MOST_EACH + 2} characters left out ...\n" in cut
