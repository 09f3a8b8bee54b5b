# SPDX-License-Identifier: MIT
"""ci/selftest/systemd.sh under Debian 12's systemd, which is process 1 of a container."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vbuskit.base.artifact import write
from vbuskit.base.mirror import bootstrap, source, why_not
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.ci import hostpackage

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a container with a systemd of its own"),
    pytest.mark.skipif(
        not Path("/dev/fuse").exists(), reason="needs /dev/fuse: vbus-control mounts its tree"
    ),
]
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "systemd-container",
    "dbus",
    "python3",
    "fuse3",
    "libfuse3-3",
    "libjansson4",
    "libseccomp2",
)
TRY = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/bin/sh /srv/systemd.sh /srv/vbuskit /srv >/srv/out 2>/srv/err; echo $? >/srv/code'
ExecStopPost=/bin/systemctl --no-block exit
[Install]
WantedBy=multi-user.target
"""


class Apart(Runner):
    """What is mounted goes with the program, also when that is killed."""

    def attempt(self, args: Sequence[Arg], **words: Any) -> Finished:
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return super().attempt([*apart, "--propagation", "private", *args], **words)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its root: what `./vbuskit package host` made, and a stand-in for the checkout that it comes from."""
    folder = tmp_path_factory.mktemp("systemd")
    tree = folder / "root"
    done = bootstrap(Apart(), "bookworm", tree, "apt", PACKAGES, [])
    if done.code:
        raise why_not(done, "a machine with systemd", source())
    places = Places(tree=ROOT, out=folder / "out", cache=folder / "cache", state=folder / "state")
    package = hostpackage.packed(Runner(), places, "deb").path
    shutil.copy(package, tree / "srv")
    shutil.copy(ROOT / "ci/selftest/systemd.sh", tree / "srv")
    write(tree / "srv/vbuskit", f"#!/bin/sh\necho /srv/{package.name}\n", 0o755)
    write(tree / "etc/systemd/system/try.service", TRY)
    wants = tree / "etc/systemd/system/multi-user.target.wants/try.service"
    wants.parent.mkdir(exist_ok=True)
    wants.symlink_to("../try.service")
    return tree


@pytest.fixture
def tried(machine: Path) -> Callable[[], tuple[str, str]]:
    """Boots it, and returns the script's exit code and last line."""

    def boot() -> tuple[str, str]:
        for name in ("out", "err", "code"):
            (machine / "srv" / name).unlink(missing_ok=True)
        # The container's own nspawn, so that this machine needs none.
        libraries = machine / "usr/lib/x86_64-linux-gnu"
        search = f"{libraries}:{libraries / 'systemd'}"
        loader: list[Arg] = [libraries / "ld-linux-x86-64.so.2", "--library-path", search]
        nspawn: list[Arg] = [machine / "usr/bin/systemd-nspawn", "--boot", "--register=no", "--keep-unit"]
        words = ["--console=pipe", "--private-network", "--bind=/dev/fuse", f"--directory={machine}"]
        done = Apart().attempt([*loader, *nspawn, *words], seconds=300)
        code = machine / "srv/code"
        assert code.exists(), f"the container did not come to its end: {done.err[-2000:]}"
        assert not (machine / "usr/libexec/vbuskit").exists()
        return code.read_text().strip(), (machine / "srv/out").read_text().splitlines()[-1]

    return boot


def test_buses_and_descriptors_outlive_each_death_of_vbusd(tried: Callable[[], tuple[str, str]]) -> None:
    code, said = tried()
    assert (code, said.split()[0]) == ("0", "held:"), said


def test_a_systemd_that_keeps_no_descriptors_is_found_out(
    machine: Path, tried: Callable[[], tuple[str, str]]
) -> None:
    settings = machine / "etc/systemd/system/vbusd.service.d/none.conf"
    write(settings, "[Service]\nFileDescriptorStoreMax=0\n")
    try:
        assert tried() == ("1", "systemd keeps no descriptor of vbusd")
    finally:
        settings.unlink()
