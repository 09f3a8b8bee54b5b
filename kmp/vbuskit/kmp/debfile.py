# SPDX-License-Identifier: MIT
"""Read a .deb without dpkg: what `verify` looks into may come from anybody.

Format: deb(5): an ar archive of debian-binary, control.tar.xz, data.tar.xz. At most 64 MiB unpacked.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vbuskit.base.errors import Refused
from vbuskit.kmp.compressed import MODULES

MAGIC = b"!<arch>\n"
MEMBERS = ["debian-binary", "control.tar.xz", "data.tar.xz"]
LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class Deb:
    """Control fields, files of the control part, installed files (by path without a leading `./`)."""

    fields: Mapping[str, str]
    control: Mapping[str, bytes]
    files: Mapping[str, bytes]

    def modules(self) -> dict[str, bytes]:
        return {path: raw for path, raw in self.files.items() if path.endswith(MODULES)}


def read_deb(raw: bytes) -> Deb:
    """Refused when it is no binary package as `deb.build` writes them."""
    members = dict(ar_members(raw))
    if list(members) != MEMBERS or members["debian-binary"] != b"2.0\n":
        raise Refused("is no Debian package of the form that vbuskit builds")
    control = tar_files(members["control.tar.xz"])
    if "control" not in control:
        raise Refused("is a Debian package without a control file")
    return Deb(control_fields(control["control"]), control, tar_files(members["data.tar.xz"]))


def ar_members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Header of a member: name 16, mtime 12, uid 6, gid 6, mode 8, size 10 (all text), then "`\\n"."""
    if not raw.startswith(MAGIC):
        raise Refused("is no Debian package")
    at = len(MAGIC)
    while at < len(raw):
        head = raw[at : at + 60]
        size = head[48:58].rstrip()
        if len(head) < 60 or head[58:] != b"`\n" or not size.isdigit():
            raise Refused("is a broken Debian package: a member's header is no header")
        start, end = at + 60, at + 60 + int(size)
        if end > len(raw):
            raise Refused("is a broken Debian package: cut off")
        yield head[:16].decode("ascii", "replace").rstrip().rstrip("/"), raw[start:end]
        at = end + end % 2


def tar_files(packed: bytes) -> dict[str, bytes]:
    """Regular files of a tar.xz; Refused for anything but plain files and folders inside the archive."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked(packed))) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isdir():
                    continue
                file = tar.extractfile(member) if member.isreg() else None
                if file is None or name in files or ".." in name.split("/"):
                    raise Refused(f"is a Debian package with a member that vbuskit never makes: {name!r}")
                files[name] = file.read()
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise Refused(f"is a broken Debian package: {error}") from error
    return files


def unpacked(packed: bytes, kind: str = "Debian package") -> bytes:
    """What an .xz holds; Refused, by the name of the `kind` of package that it was in."""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2 * LIMIT)
    try:
        raw = decoder.decompress(packed, max_length=LIMIT)
    except lzma.LZMAError as error:
        raise Refused(f"is a broken {kind}: {error}") from error
    if not decoder.eof or decoder.unused_data:
        raise Refused(f"is a broken {kind}: its compressed part is cut off, too large or padded")
    return raw


def control_fields(raw: bytes) -> dict[str, str]:
    """The fields of one stanza; continuation lines are left out (deb-control(5))."""
    lines = [line for line in raw.decode(errors="replace").splitlines() if line and not line[0].isspace()]
    if not all(":" in line for line in lines):
        raise Refused("is a Debian package whose control file is no control file")
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
