# SPDX-License-Identifier: MIT
"""Packages that are wrong on purpose: each must be told of before a machine boots by it. Never for use.

hook:     what makes an initrd takes nothing of ours along
rule:     there is no rule by which udev names our disks
foreign:  the modules say that they are for another kernel
lying:    the modules are for another kernel, and say that they are for this one
unsigned: the modules have lost their signatures
stale:    the initrd stays as it is, and nobody says so
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vbuskit.base.errors import UsageError
from vbuskit.kmp.deb import Spoil
from vbuskit.kmp.keys import Key
from vbuskit.kmp.signing import sign_module, split_signature

# Of a checkout, what both kinds of packages are made of.
SOURCES = ("LICENSES", "VERSION", "initrd", "kmp")
INSTALLED = "kmp/debian/vbus-common.install"
# Defect -> what is written in place of what, in which of the sources.
EDITS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "hook": (
        (INSTALLED, r"^initrd/(initramfs-tools|dracut)/.*\n", ""),
        ("kmp/rpm/vbus.spec", r"^.*%\{dracut_module\}.*\n", ""),
    ),
    "rule": ((INSTALLED, r"^initrd/udev/61-vblk\.rules .*\n", ""),),
    # The build of either package refuses such modules, and so does what reads their dependencies.
    "foreign": (
        ("kmp/rpm/macros/kmp-deps", r"^ +die \"\$module: is built for .*$", '    basename "$folder"'),
    ),
    "stale": (("kmp/scripts/initrd.sh", r"^renew_initrd\(\) \{\n", r"\g<0>    return 0\n"),),
}


def unsigned(module: bytes, _kernel: str, _key: Key) -> bytes:
    return split_signature(module)[0]


def foreign(module: bytes, kernel: str, key: Key) -> bytes:
    """Signed once more, for nothing else shall be wrong with it."""
    ours, theirs = (f"\0vermagic={release} ".encode() for release in (kernel, another(kernel)))
    return sign_module(split_signature(module)[0].replace(ours, theirs), key)


def lying(module: bytes, _kernel: str, key: Key) -> bytes:
    """A struct modversion_info is a CRC of eight bytes, then a name of 56."""
    raw = bytearray(split_signature(module)[0])
    name = raw.find(b"module_layout".ljust(56, b"\0"))
    if name < 0:
        raise UsageError(
            "lying: this kernel's symbols have no versions", hint="another kernel, or `foreign`"
        )
    raw[name - 8] ^= 1
    return sign_module(bytes(raw), key)


def another(kernel: str) -> str:
    """A release as long as this one."""
    return f"{9 - int(kernel[0])}{kernel[1:]}"


# Defect -> what becomes of a signed module.
MODULES: dict[str, Callable[[bytes, str, Key], bytes]] = {
    "foreign": foreign,
    "lying": lying,
    "unsigned": unsigned,
}
DEFECTS = tuple(dict.fromkeys((*EDITS, *MODULES)))


def spoiling(defect: str, kernel: str, key: Key) -> Spoil:
    """What is done to each module when it is packed, after it was found to be for that kernel."""
    spoil = MODULES.get(defect)
    return bytes if spoil is None else lambda module: spoil(module, kernel, key)


@contextmanager
def planted(tree: Path, defect: str) -> Iterator[Path]:
    """The checkout; or, for the time of the block, a copy of SOURCES that has the defect."""
    if defect not in EDITS:
        yield tree
        return
    with tempfile.TemporaryDirectory(prefix="vbuskit-defect.") as folder:
        copy = Path(folder)
        for name in SOURCES:
            put = shutil.copytree if (tree / name).is_dir() else shutil.copyfile
            put(tree / name, copy / name)
        for name, old, new in EDITS[defect]:
            text, found = re.subn(old, new, (copy / name).read_text(), flags=re.MULTILINE)
            if not found:
                raise RuntimeError(f"{name}: has nothing any more to plant the defect {defect} in")
            (copy / name).write_text(text)
        yield copy
