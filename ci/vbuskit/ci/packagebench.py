# SPDX-License-Identifier: MIT
"""How long packages for several kernels take, from nothing, and when nothing has changed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.pipeline import Factory, dkms_packages
from vbuskit.drivers.figures import Bar, Figure, Result
from vbuskit.drivers.kernels import FOREIGN, KERNELS, Kernel
from vbuskit.drivers.matrix import modules_for, site_for
from vbuskit.kmp.keyring import chosen_key

# Issue 5's bounds: kernels, seconds with nothing there but headers, seconds with everything there.
COUNT, COLD, WARM = 6, 180.0, 2.0
SECTION = "packages"

Make = Callable[[Runner, Places], Sequence[Artifact]]


def bench_packages(run: Runner, places: Places, count: int = COUNT) -> Result:
    """In a folder that goes again; the roots with headers and compilers are made before."""
    kernels = [kernel for kernel in KERNELS if not kernel.line.informing and kernel.flavour not in FOREIGN]
    chosen = [kernel for kernel in kernels if not kernel.line.source][:count]
    for kernel in chosen:
        site_for(run, places, kernel)
    return timed(run, places, lambda run, places: made(run, places, chosen))


def timed(run: Runner, places: Places, make: Make) -> Result:
    """Twice the same, from an empty folder."""
    seconds, counts = [], []
    with tempfile.TemporaryDirectory(dir=places.work("bench")) as folder:
        for _ in ("cold", "warm"):
            begin = time.perf_counter()
            counts.append(len(make(run, replace(places, out=Path(folder)))))
            seconds.append(time.perf_counter() - begin)
    cold, warm = seconds
    figures = (
        Figure(SECTION, "packages made", "", (float(counts[0]),)),
        Figure(SECTION, "nothing is there but headers", "s", (cold,)),
        Figure(SECTION, "nothing has changed", "s", (warm,)),
    )
    bars = (Bar(SECTION, figures[1].name, "s", COLD, cold), Bar(SECTION, figures[2].name, "s", WARM, warm))
    return Result(figures, bars, {})


def made(run: Runner, places: Places, kernels: Sequence[Kernel]) -> list[Artifact]:
    """As .deb and as RPM for each kernel; the sources for DKMS in both formats."""
    key = chosen_key(places)
    packages = list(dkms_packages(run, places).values())
    for kernel in kernels:
        release, built = site_for(run, places, kernel).release, modules_for(run, places, kernel)
        factory = Factory(run=run, places=places, key=key, kernel=release, build=lambda *_, m=built: m)
        packages += [*factory.packages().values(), *factory.rpms().values()]
    return packages
