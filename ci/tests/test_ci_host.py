# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.cli import main
from vbuskit.drivers import description
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import serving

CARD = "5a4e6f7e-0000-4000-8000-000000000001"


def test_a_bus_and_a_device_go_in_by_words_and_come_out_as_a_table_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vbusd = host_programs(Runner(), Places.from_environment())["vbusd"].path
    path = tmp_path / "s"
    card = ["--device", CARD, "--class", "venet-loopback", "--mac", "52:54:00:00:00:01"]
    with serving(Runner(), vbusd, path, output=tmp_path / "log"):
        host = ["host", "--socket", str(path)]
        assert main([*host, "add", "vm", "--qemu", str(tmp_path / "q")]) == Exit.OK
        assert main([*host, "add", "vm", *card]) == Exit.OK
        assert main([*host, "mask", "vm", "1", "0x1"]) == Exit.OK
        assert main([*host, "set", "vm", CARD, "link=down"]) == Exit.OK
        assert main([*host, "set", "vm", CARD, "link=aside"]) == Exit.USAGE
        capsys.readouterr()
        assert main([*host, "status"]) == Exit.OK
        table = capsys.readouterr().out
        assert "bus vm: no QEMU, guest silent, 16 MiB, 8 vectors" in table
        assert f"device {CARD} venet-loopback: closed, cable pulled, 52:54:00:00:00:01" in table
        assert main([*host, "status", "--json"]) == Exit.OK
        (bus,) = json.loads(capsys.readouterr().out)
        assert bus["name"] == "vm" and bus["devices"][0]["uuid"] == CARD
        assert main([*host, "add", "vm", *card]) == Exit.REFUSED
        assert main([*host, "add", "vm"]) == Exit.USAGE
        assert main([*host, "remove", "vm", "--device", "nonsense"]) == Exit.USAGE
        assert main([*host, "remove", "vm", "--device", CARD]) == Exit.OK
        assert main([*host, "remove", "vm"]) == Exit.OK
    assert main([*host, "status"]) == Exit.BLOCKED


def test_a_bus_may_be_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vbusd = host_programs(Runner(), Places.from_environment())["vbusd"].path
    monkeypatch.setattr(description, "SOCKETS", tmp_path / "run")
    with serving(Runner(), vbusd, tmp_path / "s", output=tmp_path / "log"):
        host = ["host", "--socket", str(tmp_path / "s")]
        assert main([*host, "add", "vm", "--connector", "file"]) == Exit.OK
        assert main([*host, "add", "other", "--connector", "file", "--qemu", str(tmp_path / "o")]) == Exit.OK
        assert (tmp_path / "run/vm/window").exists() and (tmp_path / "o/window").exists()
        assert main([*host, "status", "--json"]) == Exit.OK
        assert [bus["connector"] for bus in json.loads(capsys.readouterr().out)] == ["file", "file"]
        assert main([*host, "domxml", "vm"]) == Exit.USAGE
        assert main([*host, "add", "vm", "--connector", "file", "--device", CARD]) == Exit.USAGE


def test_a_file_is_loaded_once_and_its_features_rates_and_domain_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vbusd = host_programs(Runner(), Places.from_environment())["vbusd"].path
    path, file = tmp_path / "s", tmp_path / "vm.toml"
    file.write_text(
        f"[bus]\nsocket = '{tmp_path}/q'\n[[device]]\nuuid = '{CARD}'\nclass = 'venet-loopback'\n"
    )
    with serving(Runner(), vbusd, path, output=tmp_path / "log"):
        host = ["host", "--socket", str(path)]
        assert main([*host, "load", str(file)]) == Exit.OK
        assert main([*host, "load", str(file)]) == Exit.OK
        capsys.readouterr()
        assert main([*host, "features", "vm"]) == Exit.OK
        assert f"vm {CARD} venet-loopback group 1: offered 0x1  consumed -  masked 0x0" in lines(capsys)
        assert main([*host, "top", "--seconds", "0.01", "--count", "1"]) == Exit.OK
        assert lines(capsys) == [f"vm {CARD} venet-loopback: idle"]
        assert main([*host, "domxml", "vm"]) == Exit.OK
        live = capsys.readouterr().out
        assert main([*host, "domxml", str(file)]) == Exit.OK
        assert capsys.readouterr().out == live and f'path="{tmp_path}/q"' in live
        assert main([*host, "features", "other"]) == Exit.REFUSED
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main([*host, "hook", "vm", "prepare", "begin"]) == Exit.USAGE  # no domain on standard input
    assert main([*host, "hook", "vm", "started", "begin", "-"]) == Exit.OK


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_disk_goes_in_by_words_classes_are_listed_events_are_told_and_down_ends_it_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vbusd = host_programs(Runner(), Places.from_environment())["vbusd"].path
    path, image = tmp_path / "s", tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    disk = ["--device", CARD, "--class", "vblk-file", "--image", str(image), "--serial", "a disk"]
    with serving(Runner(), vbusd, path, output=tmp_path / "log") as process:
        host = ["host", "--socket", str(path)]
        assert main([*host, "add", "vm", "--qemu", str(tmp_path / "q")]) == Exit.OK
        told = threading.Thread(target=main, args=([*host, "events", "--count", "1"],))
        told.start()
        while told.is_alive():
            assert main([*host, "add", "vm", *disk]) == Exit.OK
            assert main([*host, "remove", "vm", "--device", CARD]) == Exit.OK
        told.join()
        assert json.loads(lines(capsys)[0])["bus"] == "vm"
        assert main([*host, "add", "vm", *disk, "--read-only"]) == Exit.OK
        assert main([*host, "set", "vm", CARD, "size=again"]) == Exit.OK
        assert main([*host, "renew", "vm"]) == Exit.OK
        assert main([*host, "classes"]) == Exit.OK
        assert "vblk-file: vblk 1, 1 devices, built in, queues 16, segments 64" in (seen := lines(capsys))
        assert "  features 1:0x7 3:0x3" in seen
        assert main([*host, "classes", "--add", str(image)]) == Exit.REFUSED
        assert main([*host, "down"]) == Exit.OK
        assert process.wait(10) == 0
