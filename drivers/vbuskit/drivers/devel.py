# SPDX-License-Identifier: MIT
"""A kernel of the user's own: what `--kernel-devel` names is looked at before anything is built against it.

Such a folder is a kernel-devel or linux-headers package's, or a kernel's source that was built; what it
holds is that of the kernel's Documentation/kbuild/modules.rst.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from vbuskit.base.artifact import digest_of
from vbuskit.base.errors import Blocked
from vbuskit.base.run import Runner
from vbuskit.drivers.kernel import Site

MAKEFILE = "Makefile"
RELEASE = "include/generated/utsrelease.h"  # goes into vermagic
SETTINGS = "include/config/auto.conf"
SYMBOLS = "Module.symvers"  # without it nothing that is built has versions of what it calls
PARTS = (MAKEFILE, RELEASE, SETTINGS, SYMBOLS)
MACHINES = {"x86_64": "CONFIG_X86_64", "aarch64": "CONFIG_ARM64"}


def site_of(run: Runner, devel: Path) -> Site:
    """The kernel whose folder `devel` is; Blocked where modules that were built there would not load."""
    contents = {part: content(devel, part) for part in PARTS}
    release = re.search(r'^#define UTS_RELEASE "([^"\s/]+)"$', contents[RELEASE], re.MULTILINE)
    if not release:
        raise Blocked(f"{devel / RELEASE}: names no release", hint="configure and build that kernel")
    settings = contents[SETTINGS].splitlines()
    machine = platform.machine()
    if f"{MACHINES.get(machine)}=y" not in settings:
        raise Blocked(f"{devel}: is for another architecture than {machine}", hint="build on such a machine")
    if "CONFIG_MODULES=y" not in settings:
        raise Blocked(f"{devel}: that kernel loads no modules (CONFIG_MODULES)", hint="configure it anew")
    toolchain = digest_of(run(["gcc", "-dumpfullversion"]), *contents.values())
    return Site(release[1], toolchain, devel=devel.resolve())


def content(devel: Path, part: str) -> str:
    try:
        return (devel / part).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Blocked(
            f"{devel}: is no kernel that modules can be built for: {part} cannot be read",
            hint="name a folder such as /lib/modules/RELEASE/build, of a kernel that was built",
        ) from error
