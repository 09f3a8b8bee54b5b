# SPDX-License-Identifier: MIT
"""`vbuskit guest`: the guests of the matrix, their images, and a shell in one of them."""

from __future__ import annotations

import argparse
import re
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from vbuskit.base import sandbox
from vbuskit.base.errors import Blocked, Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.base.remembered import draft_in
from vbuskit.base.run import Runner
from vbuskit.base.wait import patience
from vbuskit.compat import cache, terminal
from vbuskit.compat.domain import Hardware, has_kvm
from vbuskit.compat.guest import Guest
from vbuskit.compat.guests import GuestKind, choose_guests, guest_kinds, images_of
from vbuskit.compat.host import PrivateHost
from vbuskit.compat.images import Image, image_anew, image_for, overlay
from vbuskit.compat.recipe import INIT
from vbuskit.compat.recipes import recipe_here, recipe_of
from vbuskit.compat.scenario import choose

SOCKET = "/run/vbus/console"  # where QEMU has it, in the host's own folders
HOURS = 12  # that a command may take
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ROW = "{:20} {:34} {:12} {:>9} {:>16}  {}"


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|build|shell|gc")
    listing = verbs.add_parser("list", help="guests, their levels, and which images are in the cache")
    building = verbs.add_parser("build", help="put images into the cache; root")
    building.add_argument("guest", nargs="+", metavar="NAME")
    building.add_argument(
        "--only", nargs="+", metavar="SCENARIO", help="with what these want beside the usual packages"
    )
    building.add_argument(
        "--fresh", action="store_true", help="of what the mirror has now, not of packages that were kept"
    )
    shell = verbs.add_parser("shell", help="boot a throw-away copy, and sit at its console; root")
    shell.add_argument("guest", nargs=1, metavar="NAME")
    shell.add_argument("--command", metavar="LINE", help="run that in it, and end with its exit code")
    for verb in (listing, building, shell):
        verb.add_argument(
            "--image", action="append", metavar="NAME=PATH", help="the disk of a Windows guest"
        )
        verb.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")
    gc = verbs.add_parser("gc", help="remove what was not used for long; never what is in use")
    gc.add_argument(
        "--older-than", type=span, metavar="SPAN", help="such as 30d or 12h; 30d when nothing is said"
    )
    gc.add_argument(
        "--keep-size", type=amount, metavar="SIZE", help="such as 20G: the rest goes, longest unused first"
    )
    gc.add_argument(
        "--all", action="store_true", help="build roots and kernels as well; they take long to make"
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")


def main(options: argparse.Namespace) -> int:
    if options.verb == "gc":
        return gc(Places.from_environment(), options)
    places = Places.from_environment(options.out)
    images = images_of(options.image)
    if options.verb == "list":
        return listed(places, list(guest_kinds(places.tree, images).values()))
    kinds = choose_guests(places.tree, options.guest, images)
    for kind in kinds:
        if kind.absent:
            raise Blocked(f"{kind.name}: {kind.absent}")
    if options.verb == "build":
        return built(places, kinds, options)
    return shell(places, kinds[0], options.command)


def listed(places: Places, kinds: list[GuestKind]) -> Exit:
    """A guest's own image; the ones that some scenarios want besides have more packages."""
    print(ROW.format("guest", "kernel", "level", "image", "last used", "").rstrip())
    found = {item.path.name: item for item in cache.items(places, {"image": cache.GUESTS["image"]})}
    own = set()
    for kind in kinds:
        recipe = recipe_here(places, kind)
        kernel = recipe.release if recipe else kind.linux.name if kind.linux else kind.system
        item = found.get(recipe.key) if recipe else None
        own.add(item.path.name if item else "")
        size, used = (mib(item.size), day(item.used)) if item else ("-", "-")
        why = f"excluded: {kind.excluded}" if kind.excluded else ""
        print(ROW.format(kind.name, kernel, kind.level, size, used, why).rstrip())
    if others := [item for name, item in found.items() if name not in own]:
        print(f"and {len(others)} other images, {mib(sum(item.size for item in others))}")
    return Exit.OK


def built(places: Places, kinds: list[GuestKind], options: argparse.Namespace) -> Exit:
    chosen = choose(options.only) if options.only else []
    sandbox.enter()
    run = Runner(log=places.work() / "guest.log")
    for kind in kinds:
        wanted = (scenario.packages for scenario in chosen if kind.family in scenario.families)
        more = tuple(dict.fromkeys(name for names in wanted for name in names))
        recipe = recipe_of(run, places, kind, more)
        begun = time.monotonic()
        image = (image_anew if options.fresh else image_for)(run, places, recipe)
        seconds = time.monotonic() - begun
        count = len(image.packages.path.read_text().splitlines())
        print(f"{kind.name}: {recipe.release}, {count} packages, {seconds:.1f} s: {image.disk.path.parent}")
        print(f"    disk.qcow2 {mib(image.disk.size)}, sha256 {image.disk.sha256}", flush=True)
    return Exit.OK


def shell(places: Places, kind: GuestKind, command: str | None) -> int:
    if command is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("guest shell: no terminal for its console", hint="say what to run: --command LINE")
    sandbox.enter()
    shelf = places.work("shell")
    try:
        with draft_in(shelf) as folder:
            run = Runner(log=folder / "commands.log")
            image = image_for(run, places, recipe_of(run, places, kind))
            host = PrivateHost(run, "host", folder / "host")
            with patience(kind.patience), host, guest_of(run, kind, image, host, folder) as guest:
                seconds = guest.boot()
                if command is not None:
                    return told(guest, command)
                print(
                    f"{kind.name}: up after {seconds:.0f} s; Ctrl-] leaves, and nothing of it stays\r",
                    flush=True,
                )
                seat(guest, kind, host)
                print(f"\r\n{kind.name}: gone", flush=True)
                return Exit.OK
    finally:
        with suppress(OSError):  # another one is in use
            shelf.rmdir()


def guest_of(run: Runner, kind: GuestKind, image: Image, host: PrivateHost, folder: Path) -> Guest:
    hardware = Hardware(
        name=kind.name,
        disk=overlay(run, image.disk.path, folder / "disk.qcow2"),
        kernel=image.kernel.path,
        initrd=image.initrd.path,
        serial=folder / "serial.log",
        memory=kind.memory,
        init=INIT if image.recipe.init else "",
        kvm=has_kvm(),
        console=Path(SOCKET),
        arch=kind.arch,
    )
    return Guest(host.connection, hardware)


def told(guest: Guest, command: str) -> int:
    done = guest.execute(command, HOURS * 3600)
    print(done.out, end="", flush=True)
    print(done.err, end="", file=sys.stderr, flush=True)
    return done.code


def seat(guest: Guest, kind: GuestKind, host: PrivateHost) -> None:
    """The console is another terminal for the guest; systemd has a shell of root's on a PC's."""
    port = guest.hardware.machine.console
    guest.execute(terminal.fitted(sys.stdin.fileno(), f"/dev/{port}"))
    if kind.init != "systemd" or port != "ttyS0":
        guest.agent.start(f"setsid agetty --autologin root --keep-baud 115200 {port} vt100")
    terminal.attach(host.seen(SOCKET), sys.stdin.fileno(), sys.stdout.fileno())


def gc(places: Places, options: argparse.Namespace) -> Exit:
    older = options.older_than
    if older is None and options.keep_size is None:
        older = 30 * TIMES["d"]
    found = cache.items(places, cache.GUESTS | cache.ROOTS if options.all else cache.GUESTS)
    plan = cache.plan(found, time.time(), older=older, most=options.keep_size)
    verb = "would remove" if options.dry_run else "removed"
    gone = 0
    for item in plan.going:
        if options.dry_run or cache.remove(places, item):
            gone += item.size
            print(f"{verb} {line(item)}")
        else:
            print(f"in use: {line(item)}")
    for item in plan.busy:
        print(f"in use: {line(item)}")
    if not options.dry_run:
        cache.tidy(places)
    print(f"{verb} {mib(gone)}; {mib(sum(item.size for item in found) - gone)} stay")
    return Exit.OK


def line(item: cache.Item) -> str:
    return f"{item.kind}, {mib(item.size)}, last used {day(item.used)}: {item.path}"


def mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def span(text: str) -> float:
    if not (match := re.fullmatch(r"(\d{1,6})([smhd])", text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number and s, m, h or d, such as 30d")
    return int(match[1]) * TIMES[match[2]]


def amount(text: str) -> int:
    if not (match := re.fullmatch(r"(\d{1,9})([KMGT]?)", text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number and K, M, G or T, such as 20G")
    return int(match[1]) * UNITS[match[2]]
