# SPDX-License-Identifier: MIT
"""What a user of one kernel gets, by the family of the guest's packages."""

from __future__ import annotations

from collections.abc import Callable

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.pipeline import Factory, dkms_packages
from vbuskit.ci.road import planted
from vbuskit.compat.bench import Delivery
from vbuskit.drivers.kernel import DEFECTS, UNSEEN
from vbuskit.drivers.kerneldebs import header_debs, kernel_debs
from vbuskit.drivers.kernels import Kernel
from vbuskit.drivers.matrix import modules_for, site_for
from vbuskit.kmp import dkms
from vbuskit.kmp.deb import COMMON
from vbuskit.kmp.keyring import chosen_key

MODULE_DEFECTS = (*DEFECTS, *UNSEEN)


def delivery(run: Runner, places: Places, family: str, kernel: Kernel, defect: str) -> Delivery:
    """The kernel from Debian, and our packages for it as a user gets them."""
    site = site_for(run, places, kernel)
    factory = Factory(
        run=run,
        places=places,
        key=chosen_key(places),
        kernel=site.release,
        build=lambda run, places, release: modules_for(
            run, places, kernel, defect=planted(defect, MODULE_DEFECTS)
        ),
        defect=defect,
    )
    return Delivery(
        release=site.release,
        kernel=kernel_debs(run, places, kernel, site.release),
        headers=header_debs(run, places, kernel, site.release) if family == "dkms" else {},
        symbols=Artifact.of(site.symbols),
        packages=PACKAGES[family](factory),
    )


def sources(factory: Factory) -> dict[str, Artifact]:
    """The sources, for all kernels; vbus-common is made beside the modules of this one."""
    made = dkms_packages(factory.run, factory.places)
    return {COMMON: factory.packages()[COMMON], dkms.NAME: made["deb"]}


# What a user of a family gets.
PACKAGES: dict[str, Callable[[Factory], dict[str, Artifact]]] = {
    "deb": Factory.packages,
    "rpm": Factory.rpms,
    "dkms": sources,
}
