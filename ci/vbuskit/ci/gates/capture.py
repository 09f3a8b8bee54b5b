# SPDX-License-Identifier: MIT
"""`vbuskit gate capture host|guest`: a profile of what is here, from vbusd and libvirt."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from vbuskit.base.errors import Exit
from vbuskit.drivers.host import DEFAULT_SOCKET, Host
from vbuskit.migration import capture
from vbuskit.migration.writing import canonical

SYSTEM, WITHOUT = "qemu:///system", "none"


def arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", required=True, metavar="host|guest")
    host = kinds.add_parser("host", help="what this host offers")
    host.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="PATH",
        help="is it reachable here, and how is it locked",
    )
    host.add_argument("--rom", type=Path, metavar="FILE", help="the option ROM that domains name as romfile")
    guest = kinds.add_parser("guest", help="what a guest that runs here consumes")
    guest.add_argument("name", metavar="NAME", help="as libvirt has it")
    guest.add_argument(
        "--no-agent", action="store_true", help="do not ask the guest for its drivers' versions"
    )
    for kind in (host, guest):
        kind.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help="vbusd's")
        kind.add_argument(
            "--out", default="-", metavar="FILE", help="written whole or not at all; -: standard output"
        )
    host.add_argument(
        "--connect", default=SYSTEM, metavar="URI", help="this machine's libvirt; none: there is none"
    )
    guest.add_argument("--connect", default=SYSTEM, metavar="URI", help="this machine's libvirt")


def main(options: argparse.Namespace) -> Exit:
    with ExitStack() as undo:
        vbusd = undo.enter_context(Host(options.socket))
        virt = None
        if options.what == "guest" or options.connect != WITHOUT:
            from vbuskit.base.virt import Connection  # 25 ms, as the one below is 10

            virt = undo.enter_context(Connection(options.connect))
        if options.what == "guest":
            assert virt is not None
            done = canonical(capture.capture_guest(vbusd, virt, options.name, agent=not options.no_agent))
        else:
            done = canonical(capture.capture_host(vbusd, virt, options.image, options.rom))
    if virt is None:
        print(
            "vbuskit: without libvirt: the identity is derived from /etc/machine-id, and machine types and "
            "CPU models are not known, so no guest may come here",
            file=sys.stderr,
        )
    if options.out == "-":
        sys.stdout.write(done.decode())
        return Exit.OK
    from vbuskit.ci.gates.output import write  # its hashes take time to load

    write(Path(options.out), done)
    return Exit.OK
