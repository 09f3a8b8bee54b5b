# SPDX-License-Identifier: MIT
"""Read a .deb without dpkg: what `verify` looks into may come from anybody.

Format: deb(5): an ar archive of debian-binary, control.tar.xz, data.tar.xz; the tars are GNU's, as dpkg-deb
writes them. Whatever dpkg and this reader could take for two different things is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vbuskit.base import unpack
from vbuskit.base.errors import Refused
from vbuskit.kmp.compressed import MODULES

MAGIC = b"!<arch>\n"
MEMBERS = ["debian-binary", "control.tar.xz", "data.tar.xz"]
MOST = 128 << 20  # bytes of a package
LIMIT = 64 << 20  # bytes of what is installed, unpacked
CONTROL = 4 << 20  # bytes of what is not
BLOCK = 512  # of a tar
GNU = b"ustar  \0"
FILE, FOLDER = b"0", b"5"
NUMBER = re.compile(rb" *([0-7]+)[ \0]+")


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
    members = list(ar_members(raw))
    if [name for name, _ in members] != MEMBERS or members[0][1] != b"2.0\n":
        raise Refused("is no Debian package of the form that vbuskit builds")
    control = tar_files(members[1][1], CONTROL)
    if "control" not in control:
        raise Refused("is a Debian package without a control file")
    return Deb(control_fields(control["control"]), control, tar_files(members[2][1], LIMIT))


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


def tar_files(packed: bytes, most: int) -> dict[str, bytes]:
    """Regular files of a tar.xz; Refused for anything but plain files and folders inside the archive."""
    files: dict[str, bytes] = {}
    for name, kind, content in tar_members(unpacked(packed, most)):
        path = name.removeprefix("./").rstrip("/")
        plain = kind == FILE or (kind == FOLDER and not content)
        if not plain or path in files or is_odd(path):
            raise Refused(f"is a Debian package with a member that vbuskit never makes: {name!r}")
        if kind == FILE:
            files[path] = content
    return files


def is_odd(path: str) -> bool:
    """Whether another path would name the same file; only the root has none."""
    return any(part in ("", ".", "..") for part in path.split("/")) and path not in ("", ".")


def tar_members(raw: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, kind and content.

    A header: name 100, mode, owner and group 8 each, size 12, date 12, checksum 8, kind 1, name of a link
    100, magic 8, names of the owners 32 each; numbers are octal digits.
    """
    at = 0
    while any(head := raw[at : at + BLOCK]):
        size = NUMBER.fullmatch(head[124:136])
        checked = head[:148] + b" " * 8 + head[156:]
        if size is None or head[148:156] != b"%06o\0 " % sum(checked) or head[257:265] != GNU:
            raise Refused("is a broken Debian package: a member of its tar is no member")
        name, kind, end = head[:100].rstrip(b"\0"), head[156:157], at + BLOCK + int(size[1], 8)
        if end > len(raw) or any(head[157:257]) or any(head[345:]) or not name.isascii() or b"\0" in name:
            raise Refused("is a Debian package with a member that vbuskit never makes")
        yield name.decode(), kind, raw[at + BLOCK : end]
        at = end + -end % BLOCK
    if len(raw) < at + BLOCK or any(raw[at:]):
        raise Refused("is a broken Debian package: its tar is cut off, or something follows its end")


def unpacked(packed: bytes, most: int, kind: str = "Debian package") -> bytes:
    """What an .xz holds; Refused, by the name of the `kind` of package that it was in."""
    try:
        return unpack.whole(unpack.xz, packed, most)
    except Refused as error:
        raise Refused(f"is a broken {kind}: its compressed part {error}") from error


def control_fields(raw: bytes) -> dict[str, str]:
    """The fields of one stanza; continuation lines are left out (deb-control(5))."""
    lines = [line for line in raw.decode(errors="replace").splitlines() if line and not line[0].isspace()]
    if not all(":" in line for line in lines):
        raise Refused("is a Debian package whose control file is no control file")
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
