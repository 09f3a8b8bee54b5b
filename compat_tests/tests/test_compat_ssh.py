# SPDX-License-Identifier: MIT
"""What ssh is told for a host of a pool, as ssh itself understands it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vbuskit.base.errors import UsageError
from vbuskit.base.run import Runner
from vbuskit.compat.ssh import IDENTITY, KNOWN_HOSTS, Address, Way

KILLED = """
import os
from vbuskit.compat.ssh import Address, Way
way = Way(Address.of("qemu:///system"))
print(way.folder, flush=True)
os.kill(os.getpid(), 9)
"""
URI = "qemu+ssh://ci@alpha:2222/system"


@contextmanager
def way(uri: str) -> Iterator[Way]:
    made = Way(Address.of(uri))
    try:
        yield made
    finally:
        made.close()


def settings(made: Way) -> dict[str, str]:
    """What ssh makes of it: `ssh -G`."""
    words = made.words(["true"])
    out = Runner()([words[0], "-G", *words[1:]])
    return dict(line.partition(" ")[::2] for line in out.splitlines())


def test_ssh_asks_nobody_trusts_no_unknown_key_and_forwards_nothing() -> None:
    with way(URI) as made:
        seen = settings(made)
    assert (seen["user"], seen["hostname"], seen["port"]) == ("ci", "alpha", "2222")
    assert (seen["batchmode"], seen["stricthostkeychecking"]) == ("yes", "true")
    assert (seen["forwardagent"], seen["forwardx11"], seen["permitlocalcommand"]) == ("no", "no", "no")


@pytest.mark.parametrize("by_environment", [True, False])
def test_key_and_known_hosts_are_those_that_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    monkeypatch.setenv(IDENTITY, f"{tmp_path}/key" if by_environment else "other")
    monkeypatch.setenv(KNOWN_HOSTS, f"{tmp_path}/known" if by_environment else "other")
    named = "" if by_environment else f"?keyfile={tmp_path}/key&known_hosts={tmp_path}/known"
    with way(URI + named) as made:
        seen = settings(made)
    assert (seen["identityfile"], seen["identitiesonly"]) == (f"{tmp_path}/key", "yes")
    assert seen["userknownhostsfile"] == f"{tmp_path}/known"


def test_libvirt_starts_ssh_with_the_same_settings() -> None:
    with way(URI) as made:
        assert made.uri.startswith("qemu+ssh://alpha/system?command=%2F")
        wrapper = made.folder / "ssh"
        assert "port 2222\n" in Runner()([wrapper, "-G", "alpha"])


def test_a_way_leaves_nothing_when_it_is_closed() -> None:
    with way(URI) as made:
        folder = made.folder
        assert folder.stat().st_mode & 0o077 == 0
        assert len(str(folder / "master.0123456789abcdef")) < 107
    assert not folder.exists()


def test_a_libvirt_of_this_machine_needs_no_ssh() -> None:
    with way("qemu:///system") as made:
        assert (made.words(["true"]), made.uri) == (["true"], "qemu:///system")


def test_the_folder_of_a_killed_owner_goes_with_the_next_one_and_no_other() -> None:
    killed = Runner().attempt([sys.executable, "-c", KILLED])
    folder = Path(killed.out.strip())
    assert folder.is_dir()
    with way("qemu:///system") as first, way("qemu:///system"):
        assert first.folder.is_dir()
        assert not folder.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        "qemu+ssh://alpha/system?keyfile=/k%22%0aProxyCommand%20touch%20/tmp/x",
        "qemu+ssh://alpha/system?known_hosts=/k%0a",
        "qemu+ssh://ci%20x@alpha/system",
        "qemu+ssh://c i@alpha/system",
    ],
)
def test_nothing_in_a_uri_becomes_another_setting_of_ssh(wrong: str) -> None:
    with pytest.raises(UsageError, match="its user is no name, or a file's name"):
        Address.of(wrong)


def test_a_host_by_its_ipv6_address_is_one_for_ssh_and_for_libvirt() -> None:
    with way("qemu+ssh://ci@[fd00::1]:2222/system") as made:
        assert settings(made)["hostname"] == "fd00::1"
        assert made.uri.startswith("qemu+ssh://[fd00::1]/system?")
