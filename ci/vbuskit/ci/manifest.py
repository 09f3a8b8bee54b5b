# SPDX-License-Identifier: MIT
"""`manifest.json` of the driver ISO: what is on it, file by file, and which package is for which kernel.

    {"format": 1, "vbuskit": VERSION, "epoch": SECONDS,
     "files": {PATH: {"sha256": 64 HEX DIGITS, "size": BYTES}},
     "packages": [{"file": PATH, "name": .., "version": .., "architecture": .., "kernel": UNAME_R}]}

Paths are relative to the ISO's root. Every file is listed but the manifest and its signature,
`manifest.p7s`; UTF-8, keys sorted, so that equal manifests are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vbuskit.base.errors import Refused

FORMAT = 1
NAME = "manifest.json"
SIGNATURE = "manifest.p7s"
SUMS = "SHA256SUMS"
UNLISTED = frozenset({NAME, SIGNATURE})


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its SHA-256 (64 hexadecimal digits) and its size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.size < 0:
            raise ValueError("an entry needs a sha256 and a size")

    @classmethod
    def of(cls, content: bytes) -> Entry:
        return cls(hashlib.sha256(content).hexdigest(), len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package on the ISO; `kernel` is what `uname -r` prints where it fits, empty where it fits all."""

    file: str
    name: str
    version: str
    architecture: str
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    vbuskit: str
    epoch: int
    files: Mapping[str, Entry]
    packages: tuple[Package, ...]

    def __post_init__(self) -> None:
        strangers = [package.file for package in self.packages if package.file not in self.files]
        if strangers or UNLISTED & set(self.files):
            raise ValueError("packages are files, and the manifest does not list itself")

    def to_json(self) -> bytes:
        body = {
            "format": FORMAT,
            "vbuskit": self.vbuskit,
            "epoch": self.epoch,
            "files": {path: asdict(entry) for path, entry in self.files.items()},
            "packages": [asdict(package) for package in self.packages],
        }
        return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes) -> Manifest:
        """Refused for anything that `to_json` of this format does not write."""
        try:
            body = json.loads(raw)
            if body["format"] != FORMAT:
                raise Refused(
                    f"{NAME}: has format {body['format']!r}, this vbuskit reads {FORMAT}",
                    hint="verify it with the vbuskit that made it",
                )
            manifest = cls(
                vbuskit=word(body["vbuskit"]),
                epoch=int(body["epoch"]),
                files={path: Entry(word(e["sha256"]), int(e["size"])) for path, e in body["files"].items()},
                packages=tuple(
                    Package(**{k: word(v) for k, v in package.items()}) for package in body["packages"]
                ),
            )
            if manifest.to_json() != raw:
                raise ValueError("not in the form it is written in")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(f"{NAME}: is no manifest of a driver ISO: {error}") from error
        return manifest


def word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} should be a text")
    return value


def sha256sums(files: Mapping[str, bytes]) -> bytes:
    """What `sha256sum -c` reads; for machines that have neither vbuskit nor a JSON reader."""
    return "".join(f"{Entry.of(raw).sha256}  {path}\n" for path, raw in sorted(files.items())).encode()
