# SPDX-License-Identifier: MIT
"""The packages go and leave no file and nothing in the initrd; after a boot no module and no session."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.install import in_initrd, installed, loaded


class Uninstall(Scenario):
    name = "uninstall"
    title = "the packages are purged: no file is left, nothing in the initrd, and after a boot no module"
    order = 90
    needs = ("install",)
    cold = True

    def run(self, bench: Bench, cell: Cell) -> None:
        files = owned(bench)
        cell.check(
            "files before", expected="at least the two modules", seen=len(files), holds=len(files) > 2
        )
        before = loaded(bench)
        bench.guest(["/usr/bin/dpkg", "--purge", *installed(bench)], seconds=300)
        cell.compare("packages", expected=[], seen=installed(bench))
        cell.compare("loaded, until the next boot", expected=before, seen=loaded(bench))
        left = bench.guest(f"for f in {' '.join(files)}; do [ -e $f ] && echo $f; done; :").split()
        cell.compare("files left", expected=[], seen=left)
        cell.compare("in the initrd", expected="", seen=in_initrd(bench))
        cell.compare(
            "modules.dep",
            expected="0",
            seen=bench.guest("grep -c /vbus/ /lib/modules/*/modules.dep; :").strip(),
        )
        bench.guest.restart()
        cell.compare("loaded", expected="", seen=loaded(bench))
        bus = bench.guest("[ -e /sys/bus/vbus ] && echo there || echo gone").strip()
        cell.compare("bus", expected="gone", seen=bus)
        cell.compare("the host sees", expected="no driver", seen=bench.bus.abandoned())


def owned(bench: Bench) -> list[str]:
    """Files (not folders, which may be others' too) that dpkg holds for the packages."""
    names = bench.guest(["/usr/bin/dpkg", "-L", *installed(bench)]).split()
    return bench.guest(f"for f in {' '.join(names)}; do [ -d $f ] || echo $f; done").split()
