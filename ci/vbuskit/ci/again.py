# SPDX-License-Identifier: MIT
"""The one line that tries a cell again as a run tried it: with whatever that run was given for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vbuskit.ci.goldens import given_of
from vbuskit.compat import evidence
from vbuskit.compat.cells import Cell
from vbuskit.compat.guests import images_of


def again(cell: Cell, option: Any) -> str:
    """`option`: of the pytest session that tried it; `--here` is what `./vbuskit run` does."""
    more = shlex.join(given(cell, option))
    if option.here:
        connect = [f"--connect={option.connect}"] if option.connect else []
        return f"{shlex.join(['./vbuskit', 'run', '--only', cell.name, *connect])} {more}".rstrip()
    return f"{evidence.again(cell)} {more}".rstrip()


def given(cell: Cell, option: Any) -> Iterator[str]:
    """Words beside its guest, scenario and axes; files by their whole path, and of others' none."""
    if option.defect != "none":
        yield f"--defect={option.defect}"
    for release, folder in given_of(option.golden).items():
        if release in cell.axes.values():
            yield f"--golden={release}={folder}"
    for name, path in images_of(option.image).items():
        if name == cell.guest:
            yield f"--image={name}={Path(path).absolute()}"
    if option.hosts:
        yield from ("--hosts", *option.hosts)
