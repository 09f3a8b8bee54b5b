# SPDX-License-Identifier: MIT
"""Classes of devices that lie to the guest, compiled from compat_tests/host when a cell wants them."""

from __future__ import annotations

from pathlib import Path

from vbuskit.base.wait import until
from vbuskit.compat.bench import Bench

SOURCES = "compat_tests/host"
INCLUDED = ("include", "core", "ports/user", "host", "host/classes")
PATIENCE = 30.0  # seconds


def module(bench: Bench, name: str, kind: str = "") -> Path:
    """The module of SOURCES/NAME.c, of another type of device when `kind` names one."""
    target = bench.places.work("work", "classes") / f"{name}{kind}.so"
    flags = ["-std=gnu11", "-fPIC", "-shared", "-O2", "-Wall", "-Wextra", "-Werror"]
    flags += [f'-DLIAR_TYPE="{kind}"'] if kind else []
    include = [f"-I{bench.places.tree / 'drivers' / part}" for part in INCLUDED]
    bench.run(["gcc", *flags, *include, "-o", target, bench.places.tree / SOURCES / f"{name}.c"])
    return target


def goes(bench: Bench, folder: str) -> bool:
    """Whether the guest forgets the device, in time."""
    return bool(until(lambda: bench.guest.execute(f"ls -d {folder}").code != 0, PATIENCE))
