# SPDX-License-Identifier: MIT
"""The parts of a kernel release, as the names and the versions of packages need them."""

from __future__ import annotations

import re

from vbuskit.base.errors import UsageError

# 6.1.0-56-cloud-amd64, 5.14.0-427.el9.x86_64, 6.12.0-rc3-rt
KERNEL = re.compile(r"(?P<numbers>\d[\w.+-]*?)(-(?P<flavour>(?!rc\d)[A-Za-z][\w.+-]*))?", re.ASCII)


def flavour_of(kernel: str) -> str:
    """What follows the numbers in a release, as a package calls it: cloud-amd64 of 6.1.0-56-cloud-amd64."""
    return matched(kernel)["flavour"] or "default"


def numbers_of(kernel: str) -> str:
    """What comes before the flavour: 6.1.0-56 of 6.1.0-56-cloud-amd64."""
    return matched(kernel)["numbers"]


def matched(kernel: str) -> re.Match[str]:
    found = KERNEL.fullmatch(kernel)
    if found is None:
        raise UsageError(f"{kernel}: is no kernel release", hint="what `uname -r` prints in the guest")
    return found
