# SPDX-License-Identifier: MIT
"""What a scenario finds on its bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat.bus import Bus
from vbuskit.compat.guest import Guest
from vbuskit.compat.host import Host
from vbuskit.compat.images import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a user of one kernel release gets.

    release:  as `uname -r` says it
    kernel:   its packages, as Debian has them
    headers:  likewise, what modules for it are built with; none where the guest builds none
    symbols:  Module.symvers, what it exports
    packages: ours for it, of the guest's family
    """

    release: str
    kernel: Mapping[str, Artifact]
    headers: Mapping[str, Artifact]
    symbols: Artifact
    packages: Mapping[str, Artifact]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One host with a bus and one guest on it; the guest is off until the first scenario boots it.

    iso:     the driver ISO
    version: of the drivers that are on it
    signer:  common name of the certificate that signed them
    first:   makes what comes with the guest's kernel
    update:  what comes with a newer one; None: this guest gets none
    """

    run: Runner
    places: Places
    host: Host
    guest: Guest
    image: Image
    bus: Bus
    iso: Path
    version: str
    signer: str
    first: Callable[[], Delivery] | None = None
    update: Callable[[], Delivery] | None = None
