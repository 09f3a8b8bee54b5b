# SPDX-License-Identifier: MIT
"""Files that anybody may have made: opened without waiting for anybody, and never read beyond a limit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from vbuskit.base.errors import Blocked, Refused, UsageError


@contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """For reading; anything that is not a regular file is refused before it can block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Blocked(f"{path}: cannot be read: {error.strerror}", hint="give the path of a file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path}: is no regular file", hint="give the file itself")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


def content(path: Path, most: int) -> bytes:
    """All of a regular file of up to `most` bytes."""
    with opened(path) as file:
        return bounded(file, path, most)


def bounded(file: FileIO, path: Path, most: int) -> bytes:
    """All that is left of `file`, whatever its size is said to be; `path` is for the errors."""
    parts, size = [], 0
    try:
        while part := file.read(1 << 20):
            parts.append(part)
            size += len(part)
            if size > most:
                raise Refused(f"{path}: has more than {most >> 20} MiB, so it is not what it should be")
    except OSError as error:
        raise Blocked(f"{path}: cannot be read: {error.strerror}") from error
    return b"".join(parts)
