# SPDX-License-Identifier: MIT
"""From a guest's table to its image's recipe: its suite says which kernel there is now."""

from __future__ import annotations

from collections.abc import Sequence

from vbuskit.base.errors import VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat.guests import GuestKind
from vbuskit.compat.recipe import Recipe
from vbuskit.drivers import debugkernel
from vbuskit.drivers.matrix import image_for, site_for
from vbuskit.drivers.roots import root_here


def recipe_of(run: Runner, places: Places, kind: GuestKind, more: Sequence[str] = ()) -> Recipe:
    """`more`: packages that its scenarios want. Makes the build root of its suite when there is none yet."""
    release = site_for(run, places, kind.kernel).release
    kernel = image_for(run, places, kind.kernel)
    packages = (*kind.packages(release), *more)
    return Recipe(release, kind.suite, kernel, packages, kind.first(places.tree), kind.arch)


def recipe_here(places: Places, kind: GuestKind) -> Recipe | None:
    """As `recipe_of`, of what is in the cache; None where nothing tells the guest's kernel yet."""
    if kind.linux is None:
        return None
    try:
        if kind.kernel.line.source:
            built = debugkernel.load(debugkernel.folder_of(places, kind.kernel))
            release, kernel = built.release, built.image
        else:
            release, kernel = root_here(places, kind.suite).release_of(kind.kernel), None
    except VbuskitError:
        return None
    return Recipe(release, kind.suite, kernel, kind.packages(release), kind.first(places.tree), kind.arch)
