# SPDX-License-Identifier: MIT
"""Files that are passed from folder to folder: with a hash, whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import NO_SPACE, Blocked, Refused


@dataclass(frozen=True, slots=True)
class Artifact:
    """One finished file: its path, SHA-256 (64 hexadecimal digits) and size in bytes."""

    path: Path
    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Artifact:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path, digest, path.stat().st_size)

    def verify(self) -> None:
        """Raise Refused when the file is no longer what it was."""
        if not self.path.is_file():
            raise Refused(f"{self.path.name}: is gone", hint="build it again")
        if Artifact.of(self.path).sha256 != self.sha256:
            raise Refused(f"{self.path.name}: was changed after it was made", hint="build it again")


def digest_of(*parts: bytes | str) -> str:
    """One SHA-256 over several parts, each with its length, so that parts cannot run into each other."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "little"))
        total.update(raw)
    return total.hexdigest()


@contextmanager
def written(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """A temporary name beside `path`: it becomes `path` when the block ends well, else vanishes."""
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        os.close(handle)
        yield draft
        draft.chmod(mode)
        draft.replace(path)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise Blocked(f"{path}: the disk is full", hint="free some space and run it again") from error
        raise
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def write(path: Path, content: bytes | str, mode: int = 0o644) -> Artifact:
    """Write a whole file or nothing, and say what was written."""
    with written(path, mode) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
    return Artifact.of(path)
