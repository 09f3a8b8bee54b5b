# SPDX-License-Identifier: MIT
"""A support bundle: what there is to know of one guest, in one file that may be given to somebody else.

docs/support.md says what is in it and what is cut.
"""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from vbuskit.base.agent import Agent
from vbuskit.base.artifact import Artifact, written
from vbuskit.base.errors import Blocked, UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.virt import Connection, Domain
from vbuskit.ci import facts, results
from vbuskit.ci.commands.initrd import signed_by
from vbuskit.ci.hosttext import as_json
from vbuskit.ci.redact import Redaction
from vbuskit.compat import inside
from vbuskit.compat.evidence import SYSTEM_LOGS, attempted, host_facts, without_secrets
from vbuskit.compat.guest import qemu_of
from vbuskit.drivers import window
from vbuskit.drivers.host import Bus, Host
from vbuskit.initrd import check
from vbuskit.initrd.image import read_image

MOST_EACH = 1 << 20  # bytes of a file before it is packed; the first and the last half of a longer one
MOST = 24 << 20  # of all together: what comes later is left out, and the index says so
WANTED = (".log", ".out", ".txt", ".xml", ".json")

MOST_INITRD = 32 << 20  # bytes; the agent hands them out 48 KiB at a time
INITRD = (
    "for file in /boot/initrd.img-$(uname -r) /boot/initramfs-$(uname -r).img /boot/initrd-$(uname -r);"
    " do [ ! -e $file ] || stat -Lc '%s %n' $file; done | head -n 1"
)
USUAL = {"localhost", "guest", "host", "debian"}  # names that say nothing

Piece = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """A guest that a libvirt has now. `sockets`: where a vbusd may answer."""

    domain: Domain
    sockets: tuple[Path, ...]

    @property
    def agent(self) -> Agent:
        return Agent(self.domain.name, self.domain)

    def machines(self) -> list[str]:
        """What the guest calls itself."""
        with suppress(VbuskitError):  # an agent may answer, and be forbidden to run anything
            return self.agent.execute("hostname; hostname -f", 10).out.split() if self.agent.ping() else []
        return []

    def pieces(self) -> Iterator[Piece]:
        xml = self.domain.xml()
        servers = {str(each.get("path")) for each in xml.iterfind("./devices/shmem/server")}
        yield "state.txt", f"{self.domain.state()}\n"
        yield "domain.xml", without_secrets(xml)
        yield "qemu.log", attempted(partial(edges_of, SYSTEM_LOGS / "qemu" / f"{self.domain.name}.log"))
        yield "host.txt", host_facts()
        yield "window.txt", attempted(partial(window_of, qemu_of(self.domain.uuid)))
        for path in self.sockets:
            yield f"vbus-status{path.parent.name}.json", attempted(partial(status, path, servers))
        if self.agent.ping():
            yield from ((f"guest/{name}", text) for name, text in inside.answers(self.agent.execute))
            yield "guest/initrd-check.txt", attempted(partial(initrd_check, self.agent))
        else:
            yield "guest.txt", "its agent does not answer\n"


@dataclass(frozen=True, slots=True)
class Former:
    """A guest of the run that left its results in out/."""

    out: Path
    name: str

    def machines(self) -> list[str]:
        return []

    def pieces(self) -> Iterator[Piece]:
        found, cells = results.read(self.out)
        own = [cell for cell in cells if cell.guest == self.name]
        if not own:
            known = ", ".join(dict.fromkeys(cell.guest for cell in cells))
            raise UsageError(f"{self.name}: no guest of this run", hint=f"{self.out} has: {known or 'none'}")
        yield "results.json", results.encode(self.out, found, own)
        guests = self.out / "guests"  # one on other axes has them behind its name
        own_folders = [guests / self.name, *sorted(guests.glob(f"{self.name}_*"))]
        folders = [*(folder / "logs" for folder in own_folders), self.out / "logs"]
        paths = dict.fromkeys(path for cell in own for path in cell.logs)
        more = (path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*")))
        for path in [*paths, *more]:
            inside_it = path.resolve().is_relative_to(self.out.resolve())  # not by a link or ".." elsewhere
            if path.suffix in WANTED and path.is_file() and inside_it:
                yield str(path.relative_to(self.out)), attempted(partial(edges_of, path))


def bundle(run: Runner, places: Places, what: Running | Former, target: Path, *, names: bool) -> Artifact:
    """Write it, whole or not at all. `names`: machines and addresses stay as they are, secrets never do."""
    machines = {socket.gethostname(), socket.getfqdn(), *what.machines()} - USUAL
    redacted = Redaction(machines, names=names)
    pieces = [("versions.json", versions(run, places)), *unique(what.pieces())]
    files, left_out, total = {}, [], 0
    for name, text in pieces:
        clean = redacted.document(text) if name.endswith(".json") else redacted(text)
        raw = shortened(clean).encode(errors="replace")
        if total + len(raw) > MOST:
            left_out.append(redacted(name))
            continue
        total += len(raw)
        files[redacted(name)] = raw
    files["index.json"] = index(files, left_out, names=names)
    with written(target, mode=0o600) as draft, tarfile.open(draft, "w:gz", compresslevel=6) as archive:
        for name, raw in files.items():
            entry = tarfile.TarInfo(f"{target.name.partition('.')[0]}/{name}")
            entry.size, entry.mtime, entry.mode = len(raw), int(time.time()), 0o644
            archive.addfile(entry, io.BytesIO(raw))
    return Artifact.of(target)


def unique(pieces: Iterable[Piece]) -> Iterator[Piece]:
    seen = set()
    for name, text in pieces:
        if name not in seen:
            seen.add(name)
            yield name, text


def index(files: dict[str, bytes], left_out: list[str], *, names: bool) -> bytes:
    document = {
        "schema": 1,
        "names": "left as they are" if names else "replaced",
        "files": {
            name: {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
            for name, raw in files.items()
        },
        "left_out": left_out,
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def versions(run: Runner, places: Places) -> str:
    commit, dirty = facts.look_at_checkout(run, places.tree)
    version = (places.tree / "VERSION").read_text().strip()
    found = {"vbuskit": version, "commit": commit, "dirty": dirty, **asdict(facts.look_at_host(run))}
    return json.dumps(found, indent=1) + "\n"


def status(path: Path, servers: set[str]) -> str:
    """The guest's own buses at that vbusd, and no other guest's."""
    with Host(path) as host:
        own: list[Bus] = [bus for bus in host.buses() if str(bus.path) in servers]
        found = [as_json(bus, host.devices(bus.name)) for bus in own]
    return json.dumps(found, indent=1, default=str) + "\n"


def initrd_check(agent: Agent) -> str:
    """What `vbuskit initrd check` says of the guest's initrd, which is fetched for it and not kept."""
    size, _, path = agent.execute(INITRD).out.strip().partition(" ")
    if not size.isdecimal() or int(size) > MOST_INITRD:
        return (
            f"no initrd of at most {MOST_INITRD >> 20} MiB is found: ./vbuskit initrd check says it there\n"
        )
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(agent.read(path, MOST_INITRD))
        copy.flush()
        found = check.check(read_image(Path(copy.name)), root=None, kernel=None, signer=signed_by)
    lines = [f"{'holds' if each.holds else 'DOES NOT HOLD'}: {each.release} {each.text}" for each in found]
    return "\n".join([path, *lines]) + "\n"


def window_of(qemu: int) -> str:
    with window.mapped(window.memory_of([qemu])) as raw:
        return window.dump(raw)


def edges_of(path: Path) -> str:
    """All of a file, or of a long one its first and last lines: half a line could be half a secret."""
    with path.open("rb") as file:
        if file.seek(0, io.SEEK_END) <= 2 * MOST_EACH:
            file.seek(0)
            return file.read(2 * MOST_EACH).decode(errors="replace")
        file.seek(-MOST_EACH, io.SEEK_END)
        last = file.read(MOST_EACH).partition(b"\n")[2]
        file.seek(0)
        first = file.read(MOST_EACH).rpartition(b"\n")[0]
    return b"\n...\n".join([first, last]).decode(errors="replace")


def shortened(text: str) -> str:
    """No secret is cut in two by it: what is redacted is whole."""
    if len(text) <= MOST_EACH:
        return text
    half = MOST_EACH // 2
    return f"{text[:half]}\n... {len(text) - MOST_EACH} characters left out ...\n{text[-half:]}"


def found(
    places: Places, name: str, connection: Connection | None, sockets: tuple[Path, ...]
) -> Running | Former:
    """It runs there, or was in the last run. Raises Blocked that says where it was looked for."""
    if connection is not None and (domain := connection.find(name)) is not None:
        return Running(domain, sockets)
    if (places.out / "results.json").is_file():
        return Former(places.out, name)
    where = f"{connection.uri} has no such domain" if connection else "no libvirt was asked"
    raise Blocked(
        f"{name}: {where}, and {places.out} has no results",
        hint="name a domain, or a run's folder with --out",
    )
