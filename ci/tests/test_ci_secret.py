# SPDX-License-Identifier: MIT
"""A pass phrase in the environment is for the command itself, and for nothing that it starts or loads."""

from __future__ import annotations

import ctypes
import os
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT
from vbuskit.base.run import Arg, Runner
from vbuskit.base.secret import PASSPHRASE
from vbuskit.ci import cli

WORDS = "correct horse \udcff"  # not even UTF-8
# Words with which each command gets as far as its `main`.
NEEDED = {
    "verify": ["x.ko"],
    "initrd": ["inspect", "x"],
    "host": ["status"],
    "bench": ["host"],
    "gate": ["check", "guest.json", "host.json"],
    "guest": ["list"],
    "migrate": ["vm1", "qemu+ssh://host2/system"],
    "lab": ["status"],
    "ci": ["github"],
    "selftest": ["kvm"],
}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_no_command_hands_it_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def main(options: Namespace) -> Exit:
        assert options.secret == os.fsencode(WORDS)
        seen.append(Runner()([sys.executable, "-c", "import os; print(os.environ)"]))
        with Runner().start(["env"], output=tmp_path / "output") as process:
            process.wait(30)
        seen.append((tmp_path / "output").read_text(errors="replace"))
        seen.append(str(os.environ))  # what os.execv hands over
        getenv = ctypes.CDLL(None).getenv  # what libraries in this process see: libvirt's, p11-kit's
        getenv.restype = ctypes.c_char_p
        seen.append(str(getenv(PASSPHRASE.encode())))
        return Exit.OK

    monkeypatch.setattr(import_module(f"vbuskit.ci.commands.{name}"), "main", main)
    monkeypatch.setenv(PASSPHRASE, WORDS)
    words = {"matrix": ["list"], **NEEDED}.get(name, [])
    assert cli.main([name, *words]) == Exit.OK
    assert len(seen) == 4 and "PATH" in seen[0] and "PATH" in seen[1] and seen[3] == "None"
    assert [each for each in seen if PASSPHRASE in each or "horse" in each] == []


def test_pytest_which_takes_over_the_process_does_not_see_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        f"import os\n\ndef test_it() -> None:\n    assert {PASSPHRASE!r} not in os.environ\n"
    )
    words: list[Arg] = [
        "test",
        "--",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        tmp_path,
        tmp_path / "test_it.py",
    ]
    run: list[Arg] = [sys.executable, "-P", "-m", "vbuskit.ci.cli", *words]
    assert "1 passed" in Runner()(run, cwd=ROOT, env={PASSPHRASE: "correct horse"})
