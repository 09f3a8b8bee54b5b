# SPDX-License-Identifier: MIT
"""The shim in a small copied tree, with an `id`, `dpkg-query`, `apt-get` and Python of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Finished, Process, Runner

FAKES = {
    "id": 'cat "$FAKES/uid"',
    "dpkg-query": """for word; do
    case $word in -*) continue ;; esac
    if grep -qx "$word" "$FAKES/installed"; then echo "$word installed"; else echo "no $word" >&2; fi
done""",
    "apt-get": """echo "apt-get $*" >>"$FAKES/calls"
[ ! -e "$FAKES/apt-fails" ] || { echo "E: mirror: no answer" >&2; exit 100; }
case " $* " in *" install "*) for word; do echo "$word" >>"$FAKES/installed"; done ;; esac""",
    # Stands for /usr/bin/python3, and copies itself to be .venv/bin/python.
    "python": """echo "python $*" >>"$FAKES/calls"
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*" pip "*)
    [ ! -e "$FAKES/pip-fails" ] || { echo "ERROR: hashes do not match" >&2; exit 1; }
    [ ! -e "$FAKES/pip-hangs" ] || { touch "$FAKES/pip-started" && exec sleep 60; }
    [ ! -e "$FAKES/pip-is-slow" ] || sleep 0.3 ;;
*"vbuskit.ci.cli"*) echo "handed over: $*" ;;
esac""",
}


@dataclass(frozen=True, slots=True)
class Checkout:
    tree: Path
    fakes: Path

    def environment(self) -> dict[str, str]:
        path = f"{self.fakes}:{os.environ['PATH']}"
        return {"FAKES": str(self.fakes), "PATH": path, "VBUSKIT_PYTHON": str(self.fakes / "python")}

    def run(self, *words: str, **env: str) -> Finished:
        shim = self.tree / "vbuskit"
        return Runner().attempt([shim, *words], env={**self.environment(), **env}, seconds=30)

    def start(self) -> Process:
        shim = self.tree / "vbuskit"
        return Runner().start([shim, "run"], env=self.environment(), output=self.fakes / "output")

    def set(self, name: str, text: str = "") -> None:
        (self.fakes / name).write_text(text)

    def calls(self, prefix: str) -> list[str]:
        log = self.fakes / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.startswith(prefix)]

    def times_made(self) -> int:
        return len(self.calls("python -m venv"))

    def is_clean(self) -> bool:
        return not (self.tree / ".venv").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A tree with a space in its name; root, and every package installed but `beta`."""
    made = Checkout(tmp_path / "a checkout", tmp_path / "fakes")
    (made.tree / "requirements").mkdir(parents=True)
    made.fakes.mkdir()
    shutil.copy2(ROOT / "vbuskit", made.tree)
    (made.tree / "packages.apt").write_text("# Two packages.\nalpha\n\nbeta\n")
    (made.tree / "requirements/requirements.txt").write_text(
        "setuptools==1 \\\n    --hash=sha256:0\njinja2==1\n"
    )
    (made.tree / "pyproject.toml").touch()
    for name, body in FAKES.items():
        made.set(name, f"#!/bin/sh\n{body}\n")
        (made.fakes / name).chmod(0o755)
    made.set("uid", "0\n")
    made.set("installed", "alpha\n")
    return made


def test_a_secret_reaches_the_command_and_nothing_that_the_set_up_starts(checkout: Checkout) -> None:
    spy = 'echo "$0 ${VBUSKIT_KEY_PASSPHRASE-}" >>"$FAKES/seen"'
    for name, body in FAKES.items():
        checkout.set(name, f"#!/bin/sh\n{spy}\n{body}\n")
    done = checkout.run("run", VBUSKIT_KEY_PASSPHRASE="two  words", secret="exported")
    *before, last = (checkout.fakes / "seen").read_text().splitlines()
    assert done.code == 0 and last == f"{checkout.tree}/.venv/bin/python two  words"
    assert len(before) > 5 and [line for line in before if not line.endswith(" ")] == []


def test_without_root_the_one_command_is_printed(checkout: Checkout) -> None:
    checkout.set("uid", "1000\n")
    done = checkout.run("run")
    first, second = done.err.splitlines()
    assert (done.code, first) == (3, "vbuskit: system packages are missing: beta")
    assert second.startswith("hint: as root: apt-get update && apt-get ") and second.endswith(" beta")
    assert not checkout.calls("apt-get") and checkout.is_clean()


def test_root_installs_what_is_missing_and_hands_over(checkout: Checkout) -> None:
    done = checkout.run("run", "two words")
    assert (done.code, done.out) == (0, "handed over: -P -m vbuskit.ci.cli run two words\n")
    update, install = checkout.calls("apt-get")
    assert update == "apt-get update"
    assert install.endswith(" install --no-install-recommends -y beta")


def test_apt_finds_dpkgs_helpers_also_after_a_mere_su(checkout: Checkout) -> None:
    checkout.set("apt-get", "#!/bin/sh\ncommand -v start-stop-daemon || exit 2\n")
    assert checkout.run("run", PATH=f"{checkout.fakes}:/usr/bin:/bin").code == 0


def test_a_failing_mirror_is_one_clear_line(checkout: Checkout) -> None:
    checkout.set("apt-fails")
    done = checkout.run("run")
    assert done.code == 3
    assert done.err.splitlines()[-3:-1] == [
        "E: mirror: no answer",
        "vbuskit: apt-get could not install what is missing",
    ]
    assert done.err.splitlines()[-1].startswith("hint: put the package mirror right, then: apt-get")
    assert checkout.is_clean()


def test_a_failing_pip_leaves_no_half_made_venv(checkout: Checkout) -> None:
    checkout.set("pip-fails")
    done = checkout.run("run")
    assert done.code == 3
    assert "ERROR: hashes do not match\nvbuskit: pip could not make .venv\nhint: " in done.err
    assert checkout.is_clean()

    (checkout.fakes / "pip-fails").unlink()
    assert checkout.run("run").code == 0


def test_the_second_start_runs_neither_apt_nor_pip(checkout: Checkout) -> None:
    checkout.run("run")
    before = len(checkout.calls(""))
    assert checkout.run("test").err == ""
    assert checkout.calls("")[before:] == ["python -P -m vbuskit.ci.cli test"]


def test_new_requirements_and_a_moved_checkout_make_it_again(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run("run")
    (checkout.tree / "requirements/requirements.txt").write_text("jinja2==2\n")
    checkout.run("run")
    assert checkout.times_made() == 2

    moved = Checkout(checkout.tree.rename(tmp_path / "moved"), checkout.fakes)
    assert moved.run("run").code == 0
    assert moved.times_made() == 3


def test_setup_on_request_makes_it_again_and_shows_help(checkout: Checkout) -> None:
    checkout.run("run")
    assert checkout.run("--setup").out.endswith("vbuskit.ci.cli --help\n")
    assert checkout.times_made() == 2


def test_a_symbolic_link_finds_the_checkout(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout.tree / "vbuskit")
    assert Runner().attempt([link, "run"], env=checkout.environment()).code == 0


def test_ctrl_c_during_pip_leaves_nothing_and_the_next_start_goes_on(checkout: Checkout) -> None:
    with hanging(checkout) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    assert checkout.is_clean()
    assert checkout.run("run").code == 0


def test_a_killed_set_up_is_made_again(checkout: Checkout) -> None:
    with hanging(checkout) as process:
        process.kill(signal.SIGKILL)
        process.wait(20)
    assert not checkout.is_clean()
    assert checkout.run("run").code == 0
    assert checkout.times_made() == 2


def test_a_pip_that_outlives_its_shim_is_waited_for(checkout: Checkout) -> None:
    with hanging(checkout) as first:
        first.kill(signal.SIGKILL)
        with checkout.start() as second:
            wait_for(checkout.fakes / "output", "waiting for another set-up")
            assert second.poll() is None
            os.killpg(first.pid, signal.SIGKILL)
            assert second.wait(20) == 0


def test_two_shims_at_once_make_it_once(checkout: Checkout) -> None:
    checkout.set("pip-is-slow")
    with checkout.start() as first, checkout.start() as second:
        assert (first.wait(30), second.wait(30)) == (0, 0)
    assert checkout.times_made() == 1
    assert len(checkout.calls("python -P -m vbuskit.ci.cli run")) == 2


def test_a_tree_that_cannot_be_written_to_is_one_clear_line(checkout: Checkout) -> None:
    checkout.set("rm", "#!/bin/sh\necho 'rm: Permission denied' >&2; exit 1\n")
    (checkout.fakes / "rm").chmod(0o755)
    done = checkout.run("run")
    assert done.code == 3
    assert "vbuskit: " in done.err and ".venv: cannot be made\nhint: " in done.err


def hanging(checkout: Checkout) -> Process:
    """A shim whose pip has started and does not end; the next pip is well again."""
    checkout.set("pip-hangs")
    process = checkout.start()
    wait_for(checkout.fakes / "pip-started")
    (checkout.fakes / "pip-hangs").unlink()
    return process


def wait_for(path: Path, text: str = "") -> None:
    for _ in range(1000):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path}: {text!r} did not appear")
