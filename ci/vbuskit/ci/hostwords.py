# SPDX-License-Identifier: MIT
"""The words of `vbuskit host`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vbuskit.drivers import description
from vbuskit.drivers.host import DEFAULT_SOCKET


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help="of vbusd (%(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="build vbusd and become it; Ctrl-C ends it")
    up.add_argument("--qemu-user", default="", help="user that QEMU runs as, when it is not this one")
    up.add_argument("--control-user", default="", help="user of vbus-control, who may administrate too")
    up.add_argument("--worker-users", default="", metavar="FIRST-LAST", help="a user for each bus's worker")
    up.add_argument(
        "--require-sandbox", action="store_true", help="a worker that lacks a layer serves nobody"
    )
    down = verbs.add_parser("down", help="end vbusd and all that it serves")
    down.add_argument("--unless-connected", action="store_true", help="not while a guest uses a bus")
    add = verbs.add_parser("add", help="a bus (--qemu, --connector), or a device of it (--device)")
    add.add_argument("bus")
    add.add_argument("--qemu", type=Path, help="socket that QEMU will connect to, or the file's folder")
    add.add_argument("--connector", choices=["ivshmem", "file"], help="ivshmem, when there is --qemu")
    add.add_argument("--window", type=int, default=16, help="MiB, a power of two (%(default)s)")
    add.add_argument("--vectors", type=int, default=8, help="doorbells each way, 8 to 32 (%(default)s)")
    add.add_argument("--device", metavar="UUID")
    add.add_argument("--class", dest="klass", default="venet-tap", help="%(default)s; `classes` lists them")
    stands_on = add.add_mutually_exclusive_group()
    stands_on.add_argument("--tap", dest="argument", default="", help="name of the interface")
    stands_on.add_argument("--stream", dest="argument", metavar="SOCKET", help="where passt listens")
    stands_on.add_argument("--image", dest="argument", metavar="FILE", help="of a disk")
    add.add_argument("--mac", default="", help="else made from the UUID")
    add.add_argument("--read-only", action="store_true")
    add.add_argument("--mtu", type=int, default=0, help="of a card, bytes; else 1500")
    add.add_argument("--block-size", type=int, default=0, help="bytes; else as the image has it")
    add.add_argument("--serial", default="", help="of a disk, up to 20 letters")
    remove = verbs.add_parser("remove", help="a bus, or one device of it")
    remove.add_argument("bus")
    remove.add_argument("--device", metavar="UUID")
    mask = verbs.add_parser("mask", help="take feature bits away, from the next open on")
    mask.add_argument("bus")
    mask.add_argument("group", type=number)
    mask.add_argument("bits", type=number, help="0 masks nothing")
    mask.add_argument("--device", metavar="UUID", help="of this one; of all without")
    change = verbs.add_parser(
        "set", help="change a device while it is in use: link=up, link=down, size=again"
    )
    change.add_argument("bus")
    change.add_argument("device", metavar="UUID")
    change.add_argument("words", nargs="+", metavar="NAME=VALUE")
    status = verbs.add_parser("status", help="every bus and device")
    status.add_argument("--json", action="store_true")
    features = verbs.add_parser("features", help="what is offered, consumed and masked, a line each group")
    features.add_argument("bus", nargs="?")
    top = verbs.add_parser("top", help="counters as rates, until Ctrl-C")
    top.add_argument("--seconds", type=float, default=1.0, help="between two looks (%(default)s)")
    top.add_argument("--count", type=int, default=0, help="looks; without, until Ctrl-C")
    events = verbs.add_parser("events", help="what changes, a line of JSON each, until Ctrl-C")
    events.add_argument("--count", type=int, default=0, help="events; without, until Ctrl-C")
    renew = verbs.add_parser(
        "renew", help="hand a bus over to a fresh worker, of the program that is on disk now"
    )
    renew.add_argument("bus")
    classes = verbs.add_parser("classes", help="list device classes; --add and --remove modules")
    classes.add_argument("--add", type=Path, metavar="MODULE")
    classes.add_argument("--remove", metavar="NAME")
    load = verbs.add_parser("load", help="add the buses that are written down and not there yet")
    load.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help=f"else {description.FOLDER}/*.toml"
    )
    domxml = verbs.add_parser(
        "domxml", help="what a libvirt domain needs for a bus that is there, or a file's"
    )
    domxml.add_argument("bus", help="a name, or a .toml file")
    verbs.add_parser(
        "proxy", help="join standard input and output with vbusd, for another host's `vbuskit migrate`"
    )
    hook = verbs.add_parser(
        "hook", help="what libvirt's qemu hook calls; the domain comes on standard input"
    )
    hook.add_argument("words", nargs="+", metavar="GUEST OPERATION SUBOPERATION EXTRA")


def number(text: str) -> int:
    return int(text, 0)
