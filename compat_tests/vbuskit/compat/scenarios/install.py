# SPDX-License-Identifier: MIT
"""A user installs the drivers from the ISO, with nothing but what the ISO carries."""

from __future__ import annotations

from vbuskit.base.run import Finished
from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario

MODULES = ("vbus", "venet", "vblk")


class Install(Scenario):
    name = "install"
    title = "the drivers install from the ISO, as a user would do it"
    order = 10
    far = True

    def run(self, bench: Bench, cell: Cell) -> None:
        with bench.guest.disc(bench.iso) as drive:
            bench.guest(f"mkdir -p /mnt && mount -o ro {drive} /mnt")
            cell.compare("packages before", expected=[], seen=installed(bench))
            done = bench.guest.execute("sh /mnt/linux/install.sh", seconds=600)
            cell.compare("install.sh", expected="installed", seen=outcome(done))
            bench.guest("umount /mnt")
        expected = ["vbus-common", f"vbus-modules-{bench.image.recipe.release}"]
        cell.compare("packages", expected=expected, seen=installed(bench))
        for name in MODULES:
            cell.compare(f"{name}: signed by", expected=bench.signer, seen=field(bench, name, "signer"))
            cell.compare(f"{name}: version", expected=bench.version, seen=field(bench, name, "version"))
        cell.compare("in the initrd", expected="vblk.ko vbus.ko venet.ko", seen=in_initrd(bench))
        cell.compare("loaded", expected="vblk vbus venet", seen=loaded(bench))


def outcome(done: Finished) -> str:
    """What install.sh and the packages say of a failure; much of what dpkg says leads nowhere."""
    if done.code == 0:
        return "installed"
    return " / ".join([f"exit code {done.code}", *(said(done) or done.err.splitlines()[-1:])])


def said(done: Finished) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith(("vbus", "install.sh: "))]


def installed(bench: Bench) -> list[str]:
    """Our packages: the name of one that is whole, name and state of one that dpkg has only something of."""
    words = ["/usr/bin/dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", "vbus-*"]
    lines = bench.guest.execute(words).out.splitlines()
    known = (line for line in lines if not line.endswith(" not-installed"))
    return sorted(line.removesuffix(" installed") for line in known)


def field(bench: Bench, module: str, name: str) -> str:
    return bench.guest(["/sbin/modinfo", "-F", name, module]).strip()


def in_initrd(bench: Bench) -> str:
    """Names of our modules in the initrd of the running kernel, sorted."""
    return bench.guest(
        "lsinitramfs /boot/initrd.img-$(uname -r)"
        " | sed -n 's,.*/\\(\\(vbus\\|venet\\|vblk\\)\\.ko\\)$,\\1,p' | sort | xargs",
        seconds=120,
    ).strip()


def loaded(bench: Bench) -> str:
    return bench.guest("lsmod | sed -n 's/^\\(vbus\\|venet\\|vblk\\) .*/\\1/p' | sort | xargs").strip()
