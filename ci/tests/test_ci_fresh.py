# SPDX-License-Identifier: MIT
"""A new machine: Debian 12 in a chroot with nothing but Python and git, and a clone; as root and as a user.

Mirrors and package index are reached as this machine reaches them: its apt sources, certificates, resolver
and pip configuration are copied in.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Runner

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroots and namespaces"),
]

NETWORK = (
    "etc/resolv.conf",
    "etc/hosts",
    "etc/pip.conf",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/debian.sources",
    "etc/apt/apt.conf.d",
    "etc/ssl/certs/ca-certificates.crt",
)
USER = "ordinary"
INSIDE = """
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys" && mount --make-rslave "$1/sys"
mount --rbind /dev "$1/dev" && mount --make-rslave "$1/dev"
root=$1; shift
exec chroot "$root" "$@"
"""

Machine = Callable[..., Finished]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine of its own: `machine(line, user="root")` runs a line of shell in it, as after a login."""
    root = tmp_path / "machine"
    included = "--include=python3,ca-certificates,git"
    Runner()(["mmdebstrap", "--mode=root", "--variant=minbase", included, "bookworm", root], seconds=900)
    for name in NETWORK:
        bring(Path("/") / name, root / name)
    Runner()(["chroot", root, "useradd", "--create-home", "--shell", "/bin/sh", USER])
    Runner()(["git", "clone", "-q", ROOT, root / "srv/vbuskit"])
    # The clone is root's; git lets another user read it only when the system says so.
    (root / "etc/gitconfig").write_text("[safe]\n\tdirectory = *\n")

    def run(line: str, user: str = "root") -> Finished:
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        login = ["/bin/su", "-", user, "-c", line]
        return Runner().attempt([*unshare, "sh", "-ec", INSIDE, "sh", str(root), *login], seconds=2400)

    return run


def bring(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def test_a_new_machine_goes_from_clone_to_a_green_report_with_one_command(machine: Machine) -> None:
    assert machine("git clone -q /srv/vbuskit vbuskit").code == 0
    done = machine("cd vbuskit && ./vbuskit run")
    assert (done.code, done.out.count("ok  ")) == (0, 10), done.out + done.err
    assert machine("cd vbuskit && ./vbuskit verify out/*.iso").code == 0
    assert machine("cd vbuskit && .venv/bin/nox -s lint types unit").code == 0


def test_an_ordinary_user_is_told_the_one_command_and_then_needs_no_root(machine: Machine) -> None:
    assert machine("git clone -q /srv/vbuskit vbuskit", USER).code == 0
    told = machine("cd vbuskit && ./vbuskit test", USER)
    assert told.code == 3
    hint = told.err.splitlines()[-1]
    assert hint.startswith("hint: as root: apt-get update && apt-get ")
    assert machine(hint.removeprefix("hint: as root: ")).code == 0
    tests = machine("cd vbuskit && ./vbuskit test", USER)
    assert (tests.code, " failed" in tests.out) == (0, False), tests.out[-3000:]
    assert machine("cd vbuskit && ./vbuskit iso && ./vbuskit verify out/*.iso", USER).code == 0
    run = machine("cd vbuskit && ./vbuskit run", USER)
    assert (run.code, "guests need root" in run.err) == (3, True), run.err
