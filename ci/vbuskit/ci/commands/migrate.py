# SPDX-License-Identifier: MIT
"""`vbuskit migrate`: a guest goes to another host while it runs, and its bus with it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from vbuskit.base.errors import Blocked, Exit, UsageError, printable
from vbuskit.base.places import Places, make
from vbuskit.base.run import Arg, Runner
from vbuskit.base.virt import Connection
from vbuskit.drivers.host import DEFAULT_SOCKET
from vbuskit.drivers.proxy import LocalHost, RemoteHost
from vbuskit.migration import capture, reading
from vbuskit.migration.journal import FOLDER, Heading, Journal, find, locked
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.mover import Move, Side
from vbuskit.migration.profile import HostProfile
from vbuskit.migration.steps import PHASES, Step, drive

SYSTEM = "qemu:///system"
PLAN = {
    "prepare": "a held bus and a ticket at the destination",
    "move": "libvirt moves it, live, and leaves it paused there",
    "switch": "the source's worker gives up the disks for a receipt, the destination's takes them for it",
    "commit": "the guest goes on there, and what is left of it here goes",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST", help="as libvirt has it here")
    parser.add_argument(
        "destination", nargs="?", metavar="DESTINATION_URI", help="of its libvirt, as this host's reaches it"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="ask the gate, say each step, change nothing")
    what.add_argument("--resume", action="store_true", help="go on with one that was cut off")
    what.add_argument("--abort", action="store_true", help="take one that was cut off back, if it still can")
    parser.add_argument("--bandwidth", type=positive, default=0, metavar="MiB/s", help="at most")
    parser.add_argument("--downtime", type=positive, default=0, metavar="MS", help="that libvirt aims at")
    parser.add_argument(
        "--source-is-fenced", action="store_true", help="with --resume: your word that nothing writes here"
    )
    parser.add_argument("--connect", default=SYSTEM, metavar="URI", help="this host's libvirt (%(default)s)")
    parser.add_argument(
        "--socket", type=Path, default=DEFAULT_SOCKET, help="this host's vbusd (%(default)s)"
    )
    there = parser.add_argument_group("when this process reaches the destination in another way")
    there.add_argument("--destination-connect", metavar="URI", help="its libvirt")
    there.add_argument("--destination-socket", type=Path, default=DEFAULT_SOCKET, help="its vbusd, there")
    there.add_argument("--through", metavar="WORDS", help="that run vbuskit there; else ssh HOST vbuskit")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(options: argparse.Namespace) -> Exit:
    again = options.resume or options.abort
    if not again and not options.destination:
        raise UsageError("migrate: needs a DESTINATION_URI", hint="such as qemu+ssh://root@host2/system")
    if options.source_is_fenced and not options.resume:
        raise UsageError("--source-is-fenced: is for --resume", hint="of a migration that was cut off")
    folder = make(Places.from_environment().state / FOLDER, mode=0o700)
    with ExitStack() as undo:
        if again:
            return taken_up(undo, folder, options)
        return begun(undo, folder, options)


def begun(undo: ExitStack, folder: Path, options: argparse.Namespace) -> Exit:
    source = Side(
        undo.enter_context(Connection(options.connect, events=True)),
        undo.enter_context(LocalHost(options.socket)),
    )
    heading = described(source, options)
    undo.enter_context(locked(folder, heading.uuid, heading.guest))
    destination = Side(*opened(undo, folder, heading, options))
    move = mover(undo, folder, heading, source, destination, options)
    if options.dry_run:
        return rehearsed(move)
    return driven(Journal.begun(folder, heading), move, options)


def taken_up(undo: ExitStack, folder: Path, options: argparse.Namespace) -> Exit:
    path = find(folder, options.guest)
    if path is None:
        raise UsageError(f"{options.guest}: no migration of it was cut off", hint="nothing is to be done")
    undo.enter_context(locked(folder, UUID(path.stem), options.guest))
    journal = Journal.reopened(path)
    heading = journal.heading
    if options.destination not in (None, heading.destination):
        raise UsageError(
            f"{heading.guest}: was on its way to {heading.destination}", hint="leave the URI out"
        )
    options.connect = heading.source
    virt = vbusd = None
    try:
        virt = undo.enter_context(Connection(heading.source, events=True))
        vbusd = undo.enter_context(LocalHost(options.socket))
    except Blocked as error:
        tell(f"{heading.guest}: the source: {error}")
    try:
        destination = Side(*opened(undo, folder, heading, options))
    except Blocked as error:
        tell(f"{heading.guest}: the destination: {error}")
        destination = Side(None, None)
    if options.abort and not journal.notes.back:
        journal.turn_back("--abort")
    move = mover(undo, folder, heading, Side(virt, vbusd), destination, options)
    move.was_prepared = Step.PREPARE in journal.notes.begun
    return driven(journal, move, options)


def described(source: Side, options: argparse.Namespace) -> Heading:
    domain = source.libvirt.find(options.guest)
    if domain is None:
        raise UsageError(f"{options.guest}: libvirt at {options.connect} has no such guest")
    bus, _ = capture.bus_of(source.host, domain.xml(), domain.name)
    return Heading(
        guest=domain.name,
        uuid=UUID(domain.uuid),
        source=options.connect,
        destination=options.destination,
        bus=bus.name,
    )


def opened(
    undo: ExitStack, folder: Path, heading: Heading, options: argparse.Namespace
) -> tuple[Connection, LocalHost | RemoteHost]:
    virt = undo.enter_context(Connection(options.destination_connect or heading.destination, events=True))
    words = reaching(heading.destination, options.through)
    if words is None or (options.destination_connect and not options.through):
        return virt, undo.enter_context(LocalHost(options.destination_socket))
    words += ["host", "--socket", options.destination_socket, "proxy"]
    return virt, undo.enter_context(RemoteHost(Runner(), words, folder / f"{heading.uuid}.errors"))


def reaching(uri: str, through: str | None) -> list[Arg] | None:
    """The words that run `vbuskit` where the URI leads; None: here."""
    if through:
        return [*shlex.split(through)]
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    if not parts.hostname:
        return None
    if transport not in ("ssh", "libssh", "libssh2"):
        raise UsageError(
            f"{uri}: leads to no command there", hint="--through WORDS, such as 'ssh root@host2 vbuskit'"
        )
    port = ["-p", str(parts.port)] if parts.port else []
    user = f"{parts.username}@" if parts.username else ""
    if user.startswith("-") or parts.hostname.startswith("-"):
        raise UsageError(f"{uri}: names no host")
    return ["ssh", "-o", "BatchMode=yes", *port, f"{user}{parts.hostname}", "vbuskit"]


def mover(
    undo: ExitStack,
    folder: Path,
    heading: Heading,
    source: Side,
    destination: Side,
    options: argparse.Namespace,
) -> Move:
    def profile(images: Iterable[str]) -> HostProfile:
        words = reaching(heading.destination, options.through)
        if words is None or (options.destination_connect and not options.through):
            return capture.capture_host(destination.host, destination.libvirt, list(images))
        named = [word for image in images for word in ("--image", image)]
        more: list[Arg] = ["gate", "capture", "host", "--socket", options.destination_socket, *named]
        told = Runner()([*words, *more], seconds=120, hint="vbuskit, of a checkout, has to be there")
        return reading.parse(told.encode(), HostProfile, heading.destination)

    move = Move(
        heading, source, destination, profile, tell, bandwidth=options.bandwidth, downtime=options.downtime
    )
    undo.callback(move.close)
    return move


def rehearsed(move: Move) -> Exit:
    verdict, why = move.judged()
    print(printable(f"gate: {verdict}"))
    for each in why:
        print(printable(f"  {each}"))
    for phase, text in PLAN.items():
        print(f"{phase}: {text} ({', '.join(PHASES[phase])})")
    return Exit.OK if verdict is Verdict.YES else Exit.REFUSED


def driven(journal: Journal, move: Move, options: argparse.Namespace) -> Exit:
    """Ctrl-C once takes it back, if it still can be; twice leaves it to --resume and --abort."""
    interrupted = False
    try:
        end = drive(journal, move, fenced=options.source_is_fenced)
    except KeyboardInterrupt:
        interrupted = True
        if not journal.notes.back:
            journal.turn_back("interrupted")
        end = drive(journal, move, fenced=options.source_is_fenced)
    notes = journal.notes
    journal.close(end)
    guest = journal.heading.guest
    if end is Step.MOVED:
        print(f"{guest}: is at {journal.heading.destination}")
        return Exit.OK
    why = notes.back or "libvirt has not moved it"
    print(printable(f"vbuskit: {guest}: stays at the source: {why}"), file=sys.stderr)
    if interrupted:
        return Exit.INTERRUPTED
    if Step.GATE in notes.failed:
        return Exit.REFUSED
    return Exit.BLOCKED if Step.PREPARE in notes.failed else Exit.FAILED


def tell(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
