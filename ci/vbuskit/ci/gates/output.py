# SPDX-License-Identifier: MIT
"""`--out FILE`, or `--output`: written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from vbuskit.base import artifact
from vbuskit.base.errors import Blocked, printable


def write(path: Path, content: bytes | str, option: str = "--out") -> None:
    try:
        artifact.write(path, content)
    except OSError as error:
        raise Blocked(
            printable(f"{path}: {error.strerror}"), hint=f"name another file with {option}"
        ) from error
