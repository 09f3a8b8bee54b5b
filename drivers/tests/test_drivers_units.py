# SPDX-License-Identifier: MIT
"""The systemd units are ones that systemd takes, and start the programs in words that those know."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import host_programs

UNITS = Path(__file__).parents[1] / "host" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
# systemd 254 knows it; an older one says so and goes on: its store is kept over a restart, not over a stop.
NEW = re.compile("Unknown key.*'FileDescriptorStorePreserve'")


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/bin:/bin")
    if found is None:
        pytest.skip(f"{name}: not installed (package systemd)")
    return found


def words_of(service: str) -> list[str]:
    start = re.search(r"^ExecStart=(.*)$", (UNITS / service).read_text(), re.MULTILINE)
    assert start
    return shlex.split(start[1])


def complaints(folder: Path, service: str) -> list[str]:
    done = Runner().attempt([tool("systemd-analyze"), "verify", "--man=no", folder / service])
    said = (done.out + done.err).splitlines()
    return [line for line in said if service in line and not NEW.search(line)]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder of their own; `true` plays the programs, which are not installed here."""
    for service in SERVICES:
        text = (UNITS / service).read_text()
        (tmp_path / service).write_text(re.sub(r"/usr/libexec/vbuskit/\S+", "/bin/true", text))
    return tmp_path


def test_both_services_are_there() -> None:
    assert SERVICES == ["vbus-control.service", "vbusd.service"]


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_has_nothing_to_say_against_a_unit(installed: Path, service: str) -> None:
    assert complaints(installed, service) == []


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_says_so_when_a_word_of_a_unit_is_wrong(installed: Path, service: str) -> None:
    text = (installed / service).read_text()
    (installed / service).write_text(text.replace("KillMode=process", "KillMode=never"))
    assert any("kill mode" in line for line in complaints(installed, service))


@pytest.mark.parametrize("service", SERVICES)
def test_each_option_of_a_unit_is_one_that_the_program_knows(service: str) -> None:
    program, *words = words_of(service)
    programs = host_programs(Runner(), Places.from_environment())
    name = Path(program).name
    if name not in programs:
        pytest.skip(f"{name}: not built here")
    usage = Runner().attempt([programs[name].path, "--help"]).err
    options = [word for word in words if word.startswith("--")]
    assert options and [option for option in options if option not in usage] == []


def test_workers_outlive_the_service_and_its_descriptors_have_room() -> None:
    text = (UNITS / "vbusd.service").read_text()
    kept = ["KillMode=process", "OOMPolicy=continue", "RuntimeDirectoryPreserve=yes", "Type=notify"]
    assert [line for line in kept if line not in text.splitlines()] == []
    room = re.search(r"^FileDescriptorStoreMax=(\d+)$", text, re.MULTILINE)
    files = re.search(r"^LimitNOFILE=(\d+)$", text, re.MULTILINE)
    of_all_buses = 64 * (4 + 2 * 32 + 16)
    assert room and int(room[1]) >= of_all_buses
    # A vbusd that takes over has what systemd hands back as well as what workers do.
    assert files and int(files[1]) >= 2 * of_all_buses


def test_user_and_folders_are_made_as_the_units_name_them(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give folders away")
    root = f"--root={tmp_path}"
    (tmp_path / "etc").mkdir()
    Runner()([tool("systemd-sysusers"), root, UNITS / "sysusers.d" / "vbuskit.conf"])
    Runner()([tool("systemd-tmpfiles"), "--create", root, UNITS / "tmpfiles.d" / "vbuskit.conf"])
    words = words_of("vbus-control.service")
    user = words[words.index("--user") + 1]
    entry = next(
        line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith(f"{user}:")
    )
    for option in ("--state", "--tree"):
        assert (tmp_path / words[words.index(option) + 1].lstrip("/")).is_dir()
    state = (tmp_path / words[words.index("--state") + 1].lstrip("/")).stat()
    assert (state.st_uid, state.st_mode & 0o777) == (int(entry.split(":")[2]), 0o700)
    run = (tmp_path / "run/vbuskit").stat()
    assert (run.st_uid, run.st_mode & 0o777) == (0, 0o755)
