# SPDX-License-Identifier: MIT
"""One source for all kernels: the modules built for each of them, and a table of what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of
from vbuskit.base.errors import Exit, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers.debugkernel import debug_kernel_for
from vbuskit.drivers.kernel import Site, modules_at
from vbuskit.drivers.kernels import Kernel
from vbuskit.drivers.roots import WORK, root_for


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one kernel; `seconds` without the making of its build root."""

    kernel: Kernel
    release: str = "-"
    compiler: str = "-"
    modules: int = 0
    seconds: float = 0.0
    outcome: str = "ok"
    code: Exit = Exit.OK


def site_for(run: Runner, places: Places, kernel: Kernel) -> Site:
    """The build root of the kernel's suite, or of the debug kernel; made when it is not in the cache."""
    if kernel.line.source:
        built = debug_kernel_for(run, places, kernel)
        toolchain = digest_of(built.release, built.image.sha256)
        return Site(built.release, toolchain, built.tree, Path(WORK))
    root = root_for(run, places, kernel.line.suite)
    release = root.release_of(kernel)
    toolchain = digest_of(release, root.packages.sha256)
    return Site(release, toolchain, root.tree, Path(WORK), kernel.settings, kernel.tools)


def image_for(run: Runner, places: Places, kernel: Kernel) -> Artifact | None:
    """The package with the kernel itself; None when the suite has it."""
    return debug_kernel_for(run, places, kernel).image if kernel.line.source else None


def modules_for(run: Runner, places: Places, kernel: Kernel, *, defect: str = "none") -> dict[str, Artifact]:
    """{module name: unsigned .ko} for a kernel of the table, by its own suite's compiler."""
    site = site_for(run, places, kernel)
    return modules_at(run, places, site, f"modules-{kernel.name.replace('/', '-')}", defect=defect)


def tried(run: Runner, places: Places, kernels: Iterable[Kernel]) -> Iterator[Row]:
    """Build for one kernel after the other; a failure is a row, not the end."""
    for kernel in kernels:
        row = Row(kernel)
        begun = time.monotonic()
        try:
            row = replace(row, release=site_for(run, places, kernel).release)
            begun = time.monotonic()
            built = modules_for(run, places, kernel)
            row = replace(row, compiler=compiler_of(built["vbus"].path), modules=len(built))
        except VbuskitError as error:
            row = replace(row, outcome=str(error), code=error.exit_code)
        yield replace(row, seconds=time.monotonic() - begun)


def compiler_of(module: Path) -> str:
    """The compiler that made a module, as it says itself."""
    said = re.search(rb"GCC: \([^)\0]*\) ([\d.]+)", module.read_bytes())
    if said is None:
        raise VbuskitError(f"{module.name}: does not say which compiler made it")
    return f"gcc {said[1].decode()}"


LAYOUT = "{:26} {:32} {:10} {:>7} {:>7}  {}"
HEADER = LAYOUT.format("kernel", "release", "compiler", "modules", "seconds", "outcome")


def line_of(row: Row) -> str:
    outcome = row.outcome + (" (informing)" if row.code and row.kernel.line.informing else "")
    seconds = f"{row.seconds:.1f}"
    return LAYOUT.format(row.kernel.name, row.release, row.compiler, row.modules, seconds, outcome)


def verdict(rows: Sequence[Row]) -> Exit:
    """The worst that came of a kernel that counts: a failed build before a missing one."""
    codes = {row.code for row in rows if not row.kernel.line.informing}
    return next((code for code in (Exit.FAILED, Exit.BLOCKED) if code in codes), Exit.OK)
