# SPDX-License-Identifier: MIT
"""What the packages `vbusd` hold, for Debian and as RPM: programs, units, libvirt's hook, `vbuskit host`."""

from __future__ import annotations

import ast
import hashlib
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.run import Runner

NAME = "vbusd"
PROGRAMS = ("vbusd", "vbus-worker", "vbus-control")
LIBEXEC = "usr/libexec/vbuskit"
MODULES = "usr/share/vbuskit"
DOCUMENTS = f"usr/share/doc/{NAME}"
# kmp/host/vbuskit starts the first, which imports the second by its name.
STARTED = ("vbuskit.ci.cli", "vbuskit.ci.commands.host")
CONFIGURATION = ("etc/vbuskit/vbusd.env", "etc/libvirt/hooks/qemu.d/50-vbuskit")

BUILD_ID_SIZE = 20
# NT_GNU_BUILD_ID of elf(5), by the owner GNU; what follows it is the ID.
BUILD_ID = struct.pack("<III4s", 4, BUILD_ID_SIZE, 3, b"GNU")

Files = dict[str, tuple[bytes, int]]  # path in the package -> (content, mode)


def programs(run: Runner, built: Mapping[str, Artifact]) -> Files:
    """The host's programs out of `host_programs`, without what tells of the folder of the build."""
    return {f"{LIBEXEC}/{name}": (stripped(run, built[name]), 0o755) for name in PROGRAMS}


def stripped(run: Runner, program: Artifact) -> bytes:
    with tempfile.TemporaryDirectory(prefix="vbuskit-strip.") as folder:
        target = Path(folder) / program.path.name
        run(["strip", "--strip-unneeded", "--remove-section=.comment", "-o", target, program.path])
        return named_anew(target.read_bytes())


def named_anew(program: bytes) -> bytes:
    """With a build ID that follows from what is left: the linker's follows from the build's folder, too.

    Taken out, it takes the program header along that makes relocations read-only (binutils 2.40).
    """
    before, note, rest = program.partition(BUILD_ID)
    if not note:
        return program
    name = hashlib.sha256(before + note + rest[BUILD_ID_SIZE:]).digest()[:BUILD_ID_SIZE]
    return before + note + name + rest[BUILD_ID_SIZE:]


def shared(tree: Path, units: str) -> Files:
    """All but the programs and what Debian alone has; `units` is where the distribution has systemd's."""
    host = tree / "drivers/host"
    sources = {
        f"{units}/vbusd.service": host / "systemd/vbusd.service",
        f"{units}/vbus-control.service": host / "systemd/vbus-control.service",
        "usr/lib/sysusers.d/vbuskit.conf": host / "systemd/sysusers.d/vbuskit.conf",
        "usr/lib/tmpfiles.d/vbuskit.conf": host / "systemd/tmpfiles.d/vbuskit.conf",
        "etc/vbuskit/vbusd.env": tree / "kmp/host/vbusd.env",
        f"{DOCUMENTS}/examples/apparmor.d/vbuskit": host / "apparmor/vbuskit",
        **{f"{DOCUMENTS}/{name}": tree / "docs" / name for name in ("control.md", "host.md")},
    }
    files = {path: (source.read_bytes(), 0o644) for path, source in sources.items()}
    files["etc/libvirt/hooks/qemu.d/50-vbuskit"] = ((host / "libvirt/qemu-hook").read_bytes(), 0o755)
    files["usr/bin/vbuskit"] = ((tree / "kmp/host/vbuskit").read_bytes(), 0o755)
    return files | modules(tree)


def modules(tree: Path) -> Files:
    """What `vbuskit host` imports of ours, and nothing that it does not."""
    found: dict[str, Path] = {}
    left = list(STARTED)
    while left:
        name = left.pop()
        path = source_of(tree, name)
        if path is not None and name not in found:
            found[name] = path
            left += imported(path)
            left.append(name.rpartition(".")[0])  # its package's __init__.py
    return {
        "/".join((MODULES, *path.relative_to(tree).parts[1:])): (path.read_bytes(), 0o644)
        for _, path in sorted(found.items())
    }


def source_of(tree: Path, name: str) -> Path | None:
    """Each folder of the checkout has a portion of the namespace `vbuskit`."""
    place = name.replace(".", "/")
    return next((path for end in (".py", "/__init__.py") for path in tree.glob(f"*/{place}{end}")), None)


def imported(path: Path) -> Iterator[str]:
    """Names that may be modules; `from A import b` may mean A.b."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
