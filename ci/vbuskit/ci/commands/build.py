# SPDX-License-Identifier: MIT
"""`vbuskit build`: compile, and run the C tests; what contributors and CI run piece by piece."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers.build import DEFECTS as HOST_DEFECTS
from vbuskit.drivers.build import core_for_windows, core_tests, host_programs
from vbuskit.drivers.devel import site_of
from vbuskit.drivers.kernel import DEFECTS as MODULE_DEFECTS
from vbuskit.drivers.kernel import modules, modules_for, newest_release, sparse
from vbuskit.drivers.kernels import KERNELS, kernel_named
from vbuskit.drivers.matrix import HEADER, line_of, tried, verdict


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=[*PARTS], help="one part; all without")
    parser.add_argument(
        "--kernel", metavar="SUITE/FLAVOUR", help="only the modules of that kernel, in its root"
    )
    parser.add_argument(
        "--kernel-devel", type=Path, metavar="FOLDER", help="only the modules, for a kernel of your own"
    )
    parser.add_argument("--all-kernels", action="store_true", help="the modules of every kernel, as a table")
    defects = sorted({*HOST_DEFECTS, *MODULE_DEFECTS})
    parser.add_argument("--defect", choices=defects, default="none", help="plant a defect; never for use")
    parser.add_argument("--out", type=Path, help="where results go; out/ without")


def main(options: argparse.Namespace) -> Exit:
    if options.kernel or options.all_kernels:
        if options.kernel_devel:
            raise UsageError("--kernel-devel: names its kernel", hint="leave out --kernel and --all-kernels")
        return in_roots(options)
    places = Places.from_environment(out=options.out)
    if options.kernel_devel:
        run = Runner()
        built(modules_for(run, places, site_of(run, options.kernel_devel), defect=options.defect))
        return Exit.OK
    for name in [options.only] if options.only else [*PARTS]:
        PARTS[name](Runner(), places, options.defect)
    return Exit.OK


def host(run: Runner, places: Places, defect: str) -> None:
    built(host_programs(run, places, defect=defect))


def core(run: Runner, places: Places, defect: str) -> None:
    print(f"core: {core_tests(run, places)} under ASan and UBSan")
    print(f"core: {core_tests(run, places, sanitize=False)} as shipped")
    print(f"core: compiles for Windows: {core_for_windows(run, places).path.name}")


def kernel(run: Runner, places: Places, defect: str) -> None:
    release = newest_release()
    built(modules(run, places, release, defect=defect))
    print(f"kernel: {sparse(run, places, release)} sources without a complaint of sparse")


def built(artifacts: dict[str, Artifact]) -> None:
    for name, artifact in artifacts.items():
        print(f"{name:12} {artifact.size:8} bytes  {artifact.sha256[:16]}  {artifact.path}")


def in_roots(options: argparse.Namespace) -> Exit:
    """Chroots are mounted into; in a sandbox nothing of that outlives the command."""
    kernels = [kernel_named(options.kernel)] if options.kernel else KERNELS
    if options.defect != "none":
        raise UsageError(
            "--defect: is for this machine's kernel", hint="leave out --kernel and --all-kernels"
        )
    sandbox.enter()
    places = Places.from_environment(out=options.out)
    run = Runner(log=places.work("logs") / "commands.log")
    print(HEADER, flush=True)
    rows = []
    for row in tried(run, places, kernels):
        print(line_of(row), flush=True)
        rows.append(row)
    return verdict(rows)


PARTS: dict[str, Callable[[Runner, Places, str], None]] = {"core": core, "host": host, "kernel": kernel}
