# SPDX-License-Identifier: MIT
"""The one door to pycdlib: write an ISO 9660 image reproducibly, read one distrustfully.

Formats: ECMA-119 (names of interchange level 3), IEEE P1282 1.09 (Rock Ridge), Joliet level 3.
"""

from __future__ import annotations

import io
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pycdlib
import pycdlib.isohybrid
import pycdlib.udf

from vbuskit.base.artifact import Artifact, written
from vbuskit.base.errors import Refused
from vbuskit.base.inputs import opened

VOLUME = "VBUSKIT"
SECTOR = 2048
UNUSED = 16 * SECTOR  # bytes before ISO 9660 begins; ECMA-119 6.2.1
DEEPEST = 8  # levels of folders; ECMA-119 6.8.2.1
LARGEST = 1 << 30  # bytes
LONGEST = 64  # of a name; Joliet
MOST = 10_000  # files and folders


def write_iso(files: Mapping[str, bytes], epoch: int, path: Path) -> Artifact:
    """Write an ISO with these files; scripts (*.sh) are executable. Equal inputs give equal bytes."""
    long = [name for name in files if max(map(len, PurePosixPath(name).parts)) > LONGEST]
    if long:
        raise Refused(f"{long[0]}: is too long a name for an ISO, which takes {LONGEST} characters")
    with pinned(epoch), written(path) as draft:
        iso = pycdlib.PyCdlib()
        iso.new(interchange_level=3, vol_ident=VOLUME, joliet=3, rock_ridge="1.09", sys_ident="LINUX")
        plain = PlainNames()
        for folder in sorted({str(up) for name in files for up in PurePosixPath(name).parents} - {"."}):
            iso.add_directory(
                plain.folder(folder), rr_name=PurePosixPath(folder).name, joliet_path=f"/{folder}"
            )
        for name in sorted(files):
            iso.add_fp(
                io.BytesIO(files[name]),
                len(files[name]),
                iso_path=f"{plain[name]};1",
                rr_name=PurePosixPath(name).name,
                joliet_path=f"/{name}",
                file_mode=0o100555 if name.endswith(".sh") else 0o100444,
            )
        iso.write(str(draft))
        iso.close()
    return Artifact.of(path)


class PlainNames(dict[str, str]):
    """Path -> its ISO 9660 path: capitals, digits and underscores, 20 + 3 characters, each used once."""

    def __missing__(self, name: str) -> str:
        pure = PurePosixPath(name)
        return self._given(name, plain(pure.stem)[:20], plain(pure.suffix[1:])[:3])

    def folder(self, name: str) -> str:
        """Before what is in it. A folder's name has no dot."""
        return self._given(name, plain(PurePosixPath(name).name)[:20], "")

    def _given(self, name: str, stem: str, suffix: str) -> str:
        parent = str(PurePosixPath(name).parent)
        above = "" if parent == "." else self[parent]
        number, candidate = 0, f"{above}/{stem}.{suffix}".rstrip(".")
        while candidate in self.values():
            number += 1
            candidate = f"{above}/{stem[:16]}_{number}.{suffix}".rstrip(".")
        self[name] = candidate
        return candidate


def plain(text: str) -> str:
    return re.sub("[^A-Z0-9]", "_", text.upper())


@contextmanager
def pinned(epoch: int) -> Iterator[None]:
    """Give pycdlib, and nobody else, a clock that stands at `epoch` in UTC, and seeded random numbers.

    pycdlib has no parameter for either: its modules look up the names `time` and `random` in their own
    namespaces, which hold ours while the block runs.
    """
    clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    clock.time = lambda: float(epoch)
    clock.localtime = time.gmtime
    ours: dict[str, object] = {"time": clock, "random": random.Random(epoch)}
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "pycdlib"]
    theirs = [
        (module, name, vars(module)[name]) for module in modules for name in ours if name in vars(module)
    ]
    for module, name, _ in theirs:
        setattr(module, name, ours[name])
    try:
        yield
    finally:
        for module, name, before in theirs:
            setattr(module, name, before)


def read_iso(path: Path) -> dict[str, bytes]:
    """Every file of a driver ISO, path -> content; both views, Rock Ridge and Joliet, must show the same.

    What `mount` could take for another file system, with other files, is refused.
    """
    with opened(path) as raw:
        file, size = io.BufferedReader(raw), os.fstat(raw.fileno()).st_size
        if size > LARGEST:
            raise Refused(f"{path.name}: has more than {LARGEST >> 20} MiB, so it is no driver ISO")
        try:
            iso = pycdlib.PyCdlib()
            iso.open_fp(file)
            if iso.has_udf():  # which mount would take, and of which neither view says anything
                raise Refused("is UDF as well, and may show other files as such")
            file.seek(0)
            if any(file.read(UNUSED)):
                raise Refused("has something before the ISO 9660 file system, which may be another one")
            rock_ridge = view(iso, "rr_path", size)
            joliet = view(iso, "joliet_path", size)
        except Refused as error:
            raise Refused(f"{path.name}: {error}", hint=error.hint) from error
        # pycdlib lets through whatever a broken image provokes: struct.error, IndexError, its own.
        except Exception as error:
            raise Refused(f"{path.name}: is no readable driver ISO: {error}") from error
    for name in sorted(rock_ridge.keys() | joliet.keys()):
        if rock_ridge.get(name) != joliet.get(name):
            raise Refused(f"{path.name}: {name}: Rock Ridge and Joliet do not show the same file")
    return rock_ridge


def view(iso: Any, kind: str, limit: int) -> dict[str, bytes]:
    """The files that one view shows; `limit`: bytes of the image, more cannot be in it."""
    files: dict[str, bytes] = {}
    pending, seen, total = ["/"], 0, 0
    while pending:
        folder = pending.pop()
        for record in iso.list_children(**{kind: folder}):
            if record is None or record.is_dot() or record.is_dotdot():
                continue
            seen += 1
            path = f"{folder.rstrip('/')}/{record_name(record, kind)}"
            if seen > MOST or path.count("/") > DEEPEST:
                raise Refused("the ISO has more files than a driver ISO has")
            if record.is_dir():
                pending.append(path)
                continue
            total += record.get_data_length()
            if total > limit or path[1:] in files:
                raise Refused(f"{path[1:]}: the ISO's directory is not to be believed")
            content = io.BytesIO()
            iso.get_file_from_iso_fp(content, **{kind: path})
            files[path[1:]] = content.getvalue()
    return files


def record_name(record: Any, kind: str) -> str:
    raw: bytes = record.rock_ridge.name() if kind == "rr_path" else record.file_identifier()
    name = raw.decode("utf-8" if kind == "rr_path" else "utf-16-be")
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise Refused("the ISO has a file without a proper name")
    return name
