# SPDX-License-Identifier: MIT
"""Compiles the C half: host programs, the unit tests under sanitizers, the portable core for Windows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import CommandFailed, Runner, not_for_want_of_room

DEFECTS = ("none", "mask", "wakeup", "torn", "descriptor")
UNSEEN = ("feature",)  # defects that no guest meets who never moves: `gate release` is for them
PROGRAMS = {
    "vbusd": "host/vbusd",
    "vbus-worker": "host/vbus-worker",
    "libvbus_client.so": "client/libvbus_client.so",
    "vbus-control": "host/vbus-control",
    "vbus-bench": "bench/vbus-bench",
}
HELPERS = ("host/tests/cable", "host/tests/disk", "host/tests/echo.so")  # what tests in Python start or load


class BuildFailed(VbuskitError):
    """The compiler or a test said no; the log has every line."""


def host_programs(run: Runner, places: Places, *, defect: str = "none") -> dict[str, Artifact]:
    """Host programs, bench and client library by name; a planted defect has a build folder of its own.

    "mask": what is masked is offered, "wakeup": a receiver stays awake for ever, "torn": the end of a long
    write is lost, "descriptor": vbusd leaves one open for each device, "feature": cards have no TSO6 any
    more, which a release had. For the tests that must turn red.
    Beside them only HELPERS are built: the test programs in C are core_tests()'s.
    """
    folder = configured(run, places, f"host-{defect}", options=[f"-Ddefect={defect}"], defect=defect)
    compiled(run, places, folder, *PROGRAMS.values(), *HELPERS)
    return {name: Artifact.of(folder / path) for name, path in PROGRAMS.items()}


def static_programs(run: Runner, places: Places) -> dict[str, Artifact]:
    """vbusd and vbus-worker without shared libraries: they run where the C library is an older one.

    They take no class from a module: dlopen would want the libraries that they were linked with.
    """
    options = ["-Dc_link_args=-static-pie", "-Dprefer_static=true"]
    folder = configured(run, places, "host-static", options=options)
    chosen = {name: PROGRAMS[name] for name in ("vbusd", "vbus-worker")}
    compiled(run, places, folder, *chosen.values())
    return {name: Artifact.of(folder / path) for name, path in chosen.items()}


def core_tests(run: Runner, places: Places, sanitize: bool = True) -> str:
    """All C tests, under ASan and UBSan unless told otherwise; says how many there were."""
    options = ["-Db_sanitize=address,undefined"] if sanitize else []
    folder = configured(run, places, "core-sanitized" if sanitize else "core", options=options)
    compiled(run, places, folder)
    output = logged(
        run, places, folder, ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs"]
    )
    counts = [int(match) for match in re.findall(r"(\d+) subtests passed", output)]
    return f"{sum(counts)} tests in {len(counts)} programs passed"


def core_for_windows(run: Runner, places: Places) -> Artifact:
    """The portable core as a mingw library: nothing uses it, but it must compile."""
    cross = places.tree / "drivers/windows/mingw64.ini"
    folder = configured(run, places, "core-windows", options=["--cross-file", str(cross)])
    compiled(run, places, folder)
    return Artifact.of(folder / "libvbus_core.a")


def configured(run: Runner, places: Places, name: str, *, options: list[str], defect: str = "none") -> Path:
    """The meson folder out/build/NAME, set up anew when its options or the machine's meson changed."""
    if defect not in (*DEFECTS, *UNSEEN):
        raise UsageError(f"defect {defect}: is not known", hint=f"one of: {', '.join((*DEFECTS, *UNSEEN))}")
    folder = places.work("build", name)
    wanted = json.dumps([str(places.tree), str(folder), *options])
    stamp = folder / ".options"
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    shutil.rmtree(folder)  # what a killed set-up left is no start, not even for --wipe
    logged(run, places, folder, ["meson", "setup", *options, folder, places.tree / "drivers"])
    stamp.write_text(wanted)
    return folder


def compiled(run: Runner, places: Places, folder: Path, *targets: str) -> None:
    """Make these targets, or all without any."""
    logged(run, places, folder, ["ninja", "-C", folder, *targets])


def logged(run: Runner, places: Places, folder: Path, command: list[str | Path]) -> str:
    """Run one step and return its output; what it printed is in out/log, and the error names that file."""
    log = places.work("log") / f"{folder.name}.log"
    done = run.attempt(command, env={"NINJA_STATUS": ""})
    log.write_text(done.out + done.err)
    if done.code:
        not_for_want_of_room(command[0], done)
        failed = CommandFailed([str(word) for word in command], done.code, done.out + done.err)
        raise BuildFailed(f"{folder.name}: {failed}{refusals(done.out)}", hint=f"the whole log: {log}")
    return done.out


# What meson says of a program that failed, what TAP (testanything.org) says of a test, and where it was.
REFUSAL = re.compile(
    r"\d+/\d+ .*\b(FAIL|TIMEOUT|ERROR)\b|not ok \d+|# (\w+:\d+|echo|killed at)\b"
    r"|ERROR: \w+Sanitizer|.*runtime error: "
)


def refusals(output: str) -> str:
    """The lines that say what failed, for a reader who has the message and not the log."""
    lines = dict.fromkeys(line.strip() for line in output.splitlines())
    return "".join(f"; {line}" for line in [line for line in lines if REFUSAL.match(line)][:12])
