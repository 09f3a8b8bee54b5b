# SPDX-License-Identifier: MIT
"""`vbuskit iso`: the driver ISO for one kernel or several, and everything that comes before it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.errors import Exit, UsageError, VbuskitError
from vbuskit.ci.commands import factory
from vbuskit.ci.pipeline import Factory
from vbuskit.drivers.kernel import newest_release
from vbuskit.drivers.kernels import FOREIGN, KERNELS, Kernel, kernel_named
from vbuskit.drivers.matrix import modules_for, site_for


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernel",
        metavar="RELEASE|SUITE/FLAVOUR",
        action="append",
        help="one with headers installed here, or one of `build --kernel`, in its root; as often as wanted; "
        "default: the newest with headers installed",
    )
    parser.add_argument(
        "--kernel-devel",
        type=Path,
        metavar="FOLDER",
        action="append",
        help="for a kernel of your own, as `package` takes it; as often as wanted",
    )
    parser.add_argument("--all-kernels", action="store_true", help="those of every suite, in their roots")
    factory.shared_arguments(parser)


def main(options: argparse.Namespace) -> Exit:
    kernels = wanted(options)
    if any(isinstance(kernel, Kernel) for kernel in kernels):
        # Chroots are mounted into; in a sandbox nothing of that outlives the command.
        sandbox.enter()
    start = factory.factory_for(options, "")
    first, *others = factories(start, kernels, leave_out=options.all_kernels)
    print(first.iso(others).path)
    return Exit.OK


def wanted(options: argparse.Namespace) -> Sequence[Kernel | str | Path]:
    """What builds for amd64: a release, a kernel of our table, the folder of a user's own."""
    own = dict.fromkeys(options.kernel_devel or ())
    if options.all_kernels and (options.kernel or own):
        raise UsageError("--all-kernels: are all that there are", hint="leave out what names a kernel")
    if options.all_kernels:
        return [kernel for kernel in KERNELS if kernel.flavour not in FOREIGN]
    names = dict.fromkeys(options.kernel or ([] if own else [newest_release()]))
    kernels = [kernel_named(name) if "/" in name else name for name in names]
    for kernel in kernels:
        if isinstance(kernel, Kernel) and kernel.flavour in FOREIGN:
            raise UsageError(f"{kernel.name}: the packages are for amd64", hint="leave it out")
    return [*kernels, *own]


def factories(
    start: Factory, kernels: Sequence[Kernel | str | Path], *, leave_out: bool
) -> Iterator[Factory]:
    """One for each kernel; `leave_out`: not for what only informs and does not build."""
    for kernel in kernels:
        try:
            yield factory_of(start, kernel)
        except VbuskitError as error:
            if not (leave_out and isinstance(kernel, Kernel) and kernel.line.informing):
                raise
            print(f"vbuskit: {kernel.name} is left out: {error}", file=sys.stderr)


def factory_of(start: Factory, kernel: Kernel | str | Path) -> Factory:
    if isinstance(kernel, Kernel):
        return factory_in(start, kernel)
    if isinstance(kernel, str):
        return replace(start, kernel=kernel)
    release, build = factory.own(kernel)
    return replace(start, kernel=release, build=build)


def factory_in(start: Factory, kernel: Kernel) -> Factory:
    """In the build root of the kernel's suite; its modules are built now."""
    release = site_for(start.run, start.places, kernel).release
    built = modules_for(start.run, start.places, kernel)
    return replace(start, kernel=release, build=lambda *_: built)
