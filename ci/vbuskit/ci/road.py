# SPDX-License-Identifier: MIT
"""One guest's road: drivers for its kernel, an ISO, an image, a bus, and what was tried there."""

from __future__ import annotations

import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Blocked, printable
from vbuskit.base.places import Places, make
from vbuskit.base.run import Runner
from vbuskit.base.wait import patience
from vbuskit.ci import facts
from vbuskit.ci.facts import RunFacts, Step
from vbuskit.ci.pipeline import Build, Factory
from vbuskit.ci.verdict import cell_id
from vbuskit.compat.bench import Bench, Delivery
from vbuskit.compat.bus import Bus
from vbuskit.compat.cells import Cell, Outcome
from vbuskit.compat.domain import Q35, Hardware, Nic, has_kvm
from vbuskit.compat.guest import Guest
from vbuskit.compat.guests import GuestKind
from vbuskit.compat.host import Host
from vbuskit.compat.images import Image, image_for, overlay
from vbuskit.compat.recipe import INIT, Recipe
from vbuskit.drivers.build import DEFECTS as HOST_DEFECTS
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.kernel import DEFECTS as MODULE_DEFECTS
from vbuskit.kmp.defects import DEFECTS as PACKAGE_DEFECTS
from vbuskit.kmp.keyring import chosen_key

DEFECTS = tuple(dict.fromkeys((*MODULE_DEFECTS, *HOST_DEFECTS, *PACKAGE_DEFECTS)))
MARKS = {Outcome.GREEN: "ok", Outcome.RED: "FAILED", Outcome.SKIPPED: "skipped"}


@contextmanager
def alone(places: Places) -> Iterator[None]:
    """One run at a time has out/; the kernel drops the lock when its holder dies."""
    make(places.out)
    with (places.out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Blocked(
                f"{places.out}: another run is using it", hint="wait until it has ended"
            ) from error
        yield


@contextmanager
def fresh_folders(places: Places, keep: bool, names: Sequence[str] = ("logs", "work")) -> Iterator[None]:
    """out/logs and out/work without what an earlier run left, also when it was killed."""
    for name in names:
        shutil.rmtree(places.out / name, ignore_errors=True)
        places.work(name)
    try:
        yield
    finally:
        if not keep:
            shutil.rmtree(places.out / "work", ignore_errors=True)


class Diary:
    """What a run says of itself: each step told when it starts and timed, guests, what was made."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.started = datetime.now(UTC)
        self.steps: list[Step] = []
        self.guests: list[facts.Guest] = []
        self.artifacts: list[Artifact] = []
        self.quarantine: dict[str, str] = {}
        self.defect = ""

    def give(self) -> dict[str, Any]:
        """Steps, guests and artifacts as JSON has them; they are this diary's no longer."""
        news = {
            "steps": [asdict(each) for each in self.steps],
            "guests": [asdict(each) for each in self.guests],
            "artifacts": [[str(each.path), each.sha256, each.size] for each in self.artifacts],
        }
        for gone in (self.steps, self.guests, self.artifacts):
            gone.clear()
        return news

    def take(self, news: Mapping[str, Any]) -> None:
        """What another diary gave."""
        self.steps += [Step(**each) for each in news.get("steps", ())]
        self.guests += [facts.Guest(**each) for each in news.get("guests", ())]
        self.artifacts += [Artifact(Path(path), *rest) for path, *rest in news.get("artifacts", ())]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        say(name)
        start = time.monotonic()
        yield
        self.steps.append(Step(name, time.monotonic() - start))

    @property
    def informing(self) -> frozenset[str]:
        return frozenset(guest.name for guest in self.guests if guest.informing)

    def facts(self, run: Runner) -> RunFacts:
        commit, dirty = facts.look_at_checkout(run, self.places.tree)
        return RunFacts(
            version=(self.places.tree / "VERSION").read_text().strip(),
            commit=commit,
            dirty=dirty,
            host=facts.look_at_host(run),
            accelerator="kvm" if has_kvm() else "tcg",
            started=self.started,
            guests=tuple(dict.fromkeys(self.guests)),  # one on several axes is one guest
            steps=tuple(self.steps),
            artifacts=tuple(self.artifacts),
            quarantine=self.quarantine,
            defect=self.defect,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goods:
    """What a user of one kernel gets: the ISO, and what to expect on it."""

    iso: Artifact
    packages: tuple[Artifact, ...]
    version: str
    signer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """From a guest's description to its cells.

    places:  of this guest alone: its ISO, its logs, its disk
    release: of its kernel, as `uname -r` says it
    build:   makes the modules for it
    kernel:  the package with that kernel, when the guest's suite has none
    more:    packages that its image has beside the usual ones
    raw:     images that it has beside its own, as /dev/vdb and so on
    defect:  what is wrong with its packages on purpose
    first, update: make what comes with its kernel, and with the one that it gets as an update
    machine: what it is plugged into (compat/domain.py)
    golden:  makes what a user of another release got; None: this checkout's
    """

    run: Runner
    places: Places
    kind: GuestKind
    release: str
    build: Build
    diary: Diary
    kernel: Artifact | None = None
    more: tuple[str, ...] = ()
    raw: tuple[Path, ...] = ()
    defect: str = "none"
    first: Callable[[], Delivery] | None = None
    update: Callable[[], Delivery] | None = None
    machine: str = Q35
    golden: Callable[[], Goods] | None = None

    def goods(self) -> Goods:
        if self.golden is not None:
            return self.golden()
        key = chosen_key(self.places)
        factory = Factory(
            run=self.run,
            places=self.places,
            key=key,
            kernel=self.release,
            build=self.build,
            defect=self.defect,
        )
        iso, packages = factory.iso(), tuple(factory.packages().values())
        version = (self.places.tree / "VERSION").read_text().strip()
        return Goods(iso=iso, packages=packages, version=version, signer=common_name(key.certificate))

    def stand(self, host: Callable[[], Host], programs: Mapping[str, Artifact]) -> Stand:
        """What the guest is made of, made now; `host` gives one that is entered already."""
        name = self.kind.name
        with self.diary.step(f"{name}: drivers, packages, ISO"):
            goods = self.goods()
        self.diary.artifacts += [goods.iso, *goods.packages]
        with self.diary.step(f"{name}: image"):
            init = self.kind.first(self.places.tree)
            more = (*self.kind.packages(self.release), *self.more)
            recipe = Recipe(self.release, self.kind.suite, self.kernel, more, init)
            image = image_for(self.run, self.places, recipe)
        self.diary.guests.append(
            facts.Guest(
                name=name,
                kernel=self.release,
                image_sha256=image.disk.sha256,
                informing=self.kind.informing,
            )
        )
        return Stand(road=self, host=host, programs=programs, goods=goods, image=image)

    def bus(self, host: Host, programs: Mapping[str, Artifact]) -> Bus:
        brought = host.bring(*(program.path for program in programs.values()))
        paths = dict(zip(programs, brought, strict=True))
        return Bus(run=self.run, host=host, name=self.kind.name, programs=paths, logs=host.logs)

    def guest(self, host: Host, image: Image, bus: Bus) -> Guest:
        name = self.kind.name
        disk, kernel, initrd = host.bring(image.disk.path, image.kernel.path, image.initrd.path)
        own = host.place(self.places.work("work") / f"{name}.qcow2")
        return Guest(
            host.connection,
            Hardware(
                name=name,
                disk=overlay(self.run, disk, own, host.command),
                kernel=kernel,
                initrd=initrd,
                serial=host.place(self.places.work("logs") / f"{name}-serial.log"),
                memory=self.kind.memory,
                init=INIT if image.recipe.init else "",
                bus=bus.socket,
                stranger=True,
                nic=Nic(),
                raw=self.raw,
                kvm=has_kvm(),
                type=self.machine,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The end of the road: each `bench` is a new guest of that image on a new bus of that host."""

    road: Road
    host: Callable[[], Host]
    programs: Mapping[str, Artifact]
    goods: Goods
    image: Image

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        """The guest is off."""
        road, goods, host = self.road, self.goods, self.host()
        [iso] = host.bring(goods.iso.path)
        with (
            road.diary.step(f"{road.kind.name}: guest"),
            patience(road.kind.patience),
            road.bus(host, self.programs) as bus,
            road.guest(host, self.image, bus) as guest,
        ):
            yield Bench(
                run=road.run,
                places=road.places,
                host=host,
                guest=guest,
                image=self.image,
                bus=bus,
                iso=iso,
                version=goods.version,
                signer=goods.signer,
                first=road.first,
                update=road.update,
            )


def programs_of(run: Runner, places: Places, diary: Diary, defect: str) -> dict[str, Artifact]:
    """The host's programs, the same for all guests of a run."""
    with diary.step("host programs"):
        return host_programs(run, places, defect=planted(defect, HOST_DEFECTS))


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def planted(defect: str, known: Sequence[str]) -> str:
    """The defect, on the side that has it."""
    return defect if defect in known else "none"


def told(cell: Cell) -> Cell:
    """One line a cell, at once."""
    reason = f"  {printable(cell.reason)}" if cell.reason else ""
    print(
        f"{MARKS[cell.outcome]:8} {cell_id(cell):26} {cell.seconds:6.1f} s  {cell.title}{reason}", flush=True
    )
    return cell


def say(text: str) -> None:
    print(f"vbuskit: {text}", file=sys.stderr, flush=True)
