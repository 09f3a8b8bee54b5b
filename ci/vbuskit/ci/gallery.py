# SPDX-License-Identifier: MIT
"""Made-up runs with every kind of cell and hostile logs, for the report's tests and pictures.

`.venv/bin/nox -s gallery` writes the pictures in docs/ again.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from vbuskit.base import artifact
from vbuskit.base.places import Places
from vbuskit.ci.browser import Browser
from vbuskit.ci.facts import Guest, Host, RunFacts, Step
from vbuskit.ci.fleetpage import html as fleet_html
from vbuskit.ci.report import write_report
from vbuskit.compat.cells import Blame, Cell, Comparison, Outcome, Retry
from vbuskit.migration.fleet import between
from vbuskit.migration.profile import DeviceClass, HostBus, HostProfile

Run = tuple[RunFacts, list[Cell]]

GUEST = "debian-12"
LATEST = 14  # hours: the run that has all there is to see
HOSTILE = (
    b"\x1b[0m[    0.000000] Linux version 6.1.0-31-cloud-amd64\r\n"
    b"\x1b]0;title\x07[    4.211938] vbus: <script>alert('guest')</script> & ]]> \xff\xfe\x00\x0b\x85\r\n"
    b"\x1b[1;31m[   61.038112] venet0: epoch 3, 118 replays, \xe2\x80\xaereversed\x1b[0m\r\n"
)


def places(folder: Path) -> Places:
    return Places(tree=folder, out=folder / "out", cache=folder / "cache", state=folder / "state")


def facts(out: Path) -> RunFacts:
    return RunFacts(
        version="0.1.0",
        commit="679d650f3bd3d7a0c5a1e1f06a8f5b8d1c2e3f40",
        dirty=True,
        host=Host(
            system="Debian GNU/Linux 12 (bookworm)",
            kernel="6.1.0-31-amd64",
            qemu="7.2.15 (Debian 1:7.2+dfsg-7+deb12u12)",
            libvirt="9.0.0",
        ),
        guests=(Guest(name=GUEST, kernel="6.1.0-31-cloud-amd64", image_sha256="5f" * 32),),
        accelerator="tcg",
        started=datetime(2025, 3, 9, 14, 5, tzinfo=UTC),
        steps=(
            Step("build", 9.4),
            Step("package and sign", 2.1),
            Step("iso", 0.8),
            Step("guest image", 0.3),
            Step("cells", 152.6),
        ),
        artifacts=(
            artifact.write(out / "vbuskit-0.1.0.iso", b"iso" * 800_000),
            artifact.write(out / "deb" / "vbus-common_0.1.0_all.deb", b"deb" * 40_000),
        ),
    )


def cells(out: Path, *, green_only: bool = False) -> list[Cell]:
    serial, worker = out / "logs" / "serial: debian-12.log", out / "logs" / "worker.log"
    artifact.write(serial, HOSTILE * 9)
    artifact.write(worker, "worker: window 4 MiB, 2 queues\nworker: <b>exit</b> by signal 9\n")
    boot = [same("guest agent answers", "yes"), same("kernel", "6.1.0-31-cloud-amd64")]
    sums = [same("sha256 of 100 MiB to the guest", "c1" * 32), same("sha256 of 100 MiB from it", "9e" * 32)]
    listed = [
        cell("boot", "The guest boots and answers", 41.3, *boot, logs=[serial]),
        cell("install", "The packages install from the ISO", 22.8, same("modinfo vbus: signer", "vbuskit")),
        cell("negotiate", "Both ends agree on the bus", 1.4, same("features", "epoch, fence, replay")),
        cell("transfer", "100 MiB cross in both directions", 18.2, *sums, logs=[worker]),
    ]
    if green_only:
        return listed
    epoch = Comparison("epoch after the kill", "2", "1", holds=False)
    kill = cell(
        "kill", "A killed worker loses nothing", 31.0, same("carrier", "up"), epoch, logs=[worker, serial]
    )
    kill.outcome, kill.reason = Outcome.RED, "epoch after the kill: expected 2, saw 1"
    hot = cell(
        "hot-add",
        "A second venet appears under traffic",
        12.4,
        same("devices", "2"),
        logs=[out / "gone.log"],
    )
    hot.outcome, hot.reason = Outcome.RED, "interrupted"
    mask = cell("mask", "A masked bit is not offered", 0.0)
    mask.outcome, mask.reason = Outcome.SKIPPED, "the run ended before it"
    return [*listed, kill, hot, mask]


def cell(name: str, title: str, seconds: float, *looks: Comparison, logs: list[Path] | None = None) -> Cell:
    return Cell(name, title, GUEST, Outcome.GREEN, seconds, "", list(looks), logs or [])


def same(what: str, value: str) -> Comparison:
    return Comparison(what, value, value, holds=True)


SCENARIOS = {
    "boot": "The guest boots and answers",
    "install": "The packages install from the ISO",
    "negotiate": "Both ends agree on the bus",
    "transfer": "100 MiB cross in both directions",
    "kill": "A killed worker loses nothing",
    "upgrade": "vbusd is renewed under traffic",
    "offloads": "Long frames and partial checksums cross",
    "xdp": "XDP programs: both sides count alike",
    "unplug": "The bridge goes and comes back",
    "sleep": "The guest sleeps and wakes",
    "mask": "A masked bit is not offered",
    "disk": "A disk on the bus is what the host sees",
    "diskkill": "The worker dies under checked I/O",
    "clones": "Two clones run at once",
    "rootdisk": "The guest boots from the bus",
    "lost": "vbusd and its worker die at once",
    "uninstall": "The packages go and leave nothing",
}
GUESTS = ("debian-11", "debian-12", "debian-12-bpo", "debian-13", "debian-13-rt", "debian-sid")
INFORMING = "debian-11"


def matrix(out: Path, hour: int = 0, guests: int = len(GUESTS), scenarios: int = len(SCENARIOS)) -> Run:
    """A run of many guests, `hour` hours after the first: what is red and how long it took depends on it."""
    names = [*GUESTS, *(f"guest-{number}" for number in range(guests))][:guests]
    titles = {**SCENARIOS, **{f"soak-{number}": "It goes on" for number in range(scenarios)}}
    log = artifact.write(out / "logs" / "serial.log", HOSTILE * 2).path
    found = []
    for row, guest in enumerate(names):
        for column, (name, title) in enumerate(list(titles.items())[:scenarios]):
            seconds = 1.5 + column * 7 % 11 + row + (hour * (row + column) % 7) / 5
            each = Cell(name, title, guest, Outcome.GREEN, seconds, "", [same("epoch", "2")], [log])
            each.again = f"./vbuskit matrix run --guest {guest} --only {name}"
            found.append(each)
    happen({f"{each.guest}/{each.name}": each for each in found}, hour)
    started = datetime(2025, 3, 9, 14, 5, tzinfo=UTC) + timedelta(hours=hour)
    told = replace(
        facts(out),
        started=started,
        guests=tuple(Guest(name=name, kernel="6.1", informing=name == INFORMING) for name in names),
        quarantine={"debian-sid/sleep": "owner kernel, until 2025-04-01: it wakes without its clock"},
    )
    return told, found


def happen(cells: dict[str, Cell], hour: int) -> None:
    """What makes the run worth looking at; cells that it has not got are left out."""

    def turn(name: str, reason: str, blame: Blame | None = None, *evidence: str) -> None:
        if name in cells:
            cells[name].outcome = Outcome.RED if blame else Outcome.SKIPPED
            cells[name].reason, cells[name].blame, cells[name].evidence = reason, blame, list(evidence)

    for name in ("rootdisk", "clones", "diskkill"):
        turn(f"debian-11/{name}", "vblk does not build for 5.10")
    turn(
        "debian-11/xdp", "no AF_XDP there: exit code 1", Blame.IMAGE, "the kernel has no CONFIG_XDP_SOCKETS"
    )
    turn("debian-sid/sleep", "the clock stood still", Blame.PRODUCT, "vbus: epoch 2 after wake, expected 3")
    if hour % 5 == 2:
        turn("debian-13/upgrade", "epoch after the renewal: expected 3, saw 2", Blame.PRODUCT, "as before")
    if hour < LATEST:
        return
    said = "<script>alert(1)</script>: epoch after the kill: expected 2, saw 1"
    if "debian-13/kill" in cells:
        cells["debian-13/kill"].comparisons.append(Comparison("epoch after the kill", "2", "1", holds=False))
    lines = ("serial: vbus: epoch 1 came late", "vbusd: worker 4 was killed at 61.02", "the host was idle")
    turn("debian-13/kill", said, Blame.PRODUCT, *lines)
    turn("debian-sid/lost", "no answer within 120 s", Blame.TIMEOUT, "the speed probe said 0.4 of usual")
    for name in {"debian-12/transfer", "debian-12-bpo/disk"} & cells.keys():
        late = Retry(Outcome.RED, 31.2, "libvirtd: end of file from the monitor", Blame.INFRASTRUCTURE)
        cells[name].retries = [late]
    for name in {"debian-12/offloads", "debian-13-rt/boot"} & cells.keys():
        cells[name].seconds *= 2.3


def fleet(count: int) -> list[HostProfile]:
    """Racks of twenty hosts, each bought and updated at its own time; some are masked by hand."""
    return [host(number) for number in range(count)]


def host(number: int) -> HostProfile:
    rack, place = divmod(number, 20)
    age = (rack * 7 + (place >= 14)) % 5  # of its software
    machines = [f"pc-q35-{version}" for version in ("5.2", "6.2", "7.2", "8.2", "10.0")]
    offloads = 0x0F if age < 2 else 0x4F
    classes = (
        DeviceClass(
            name="venet-tap", type="venet", version=1,
            groups={0: offloads, 1: 0x1, 2: offloads, 3: 0x7 if age else 0x1},
            limits={"mtu": 9000 if rack % 3 else 1500, "pairs": 8},
        ),
        DeviceClass(name="vblk-file", type="vblk", version=1, groups={1: 0x7, 3: 0x3 if age else 0x1}),
    )  # fmt: skip
    mask = {"venet": {0: 0x40}, "vblk": {1: 0x2}} if place in (3, 4, 5, 11) else {}
    return HostProfile(
        schema=1,
        identity=UUID(int=number + 1),
        name=f"rack{rack + 1:02}-node{place + 1:02}",
        release=("0.1.0", "0.1.0", "0.2.0", "0.2.0", "0.2.1")[age],
        captured="2026-11-24T00:00:00Z",
        arch="x86_64",
        qemu=("5.2.0", "6.2.0", "7.2.22", "8.2.2", "10.0.13")[age],
        libvirt=("8.3.0", "8.3.0", "9.0.0", "10.0.0", "11.3.0")[age],
        bus=HostBus(version=1),
        machines=tuple(machines[: age + 1]),
        cpus=("qemu64", "Haswell-noTSX"),
        classes=classes,
        mask=mask,
    )


def main(folder: Path) -> None:
    """report-light.png, as the page opens; report-dark.png, filtered, with what is known of a red cell;
    fleet-light.png and fleet-dark.png, with the reasons of a cell.
    """
    with TemporaryDirectory(prefix="vbuskit-gallery-") as work, Browser.started(Path(work)) as browser:
        here = places(Path(work))
        for hour in range(LATEST + 1):
            write_report(here, *matrix(here.out, hour), environ={})
        for theme, fragment in (("light", ""), ("dark", "#outcome=red&cell=debian-13/kill")):
            tab = browser.tab(width=1240, height=960)
            tab.prefer(theme)
            tab.visit(here.out / "report.html", fragment)
            artifact.write(folder / f"report-{theme}.png", tab.picture())
        page = artifact.write(here.out / "fleet.html", fleet_html(between(fleet(200)))).path
        for theme, steps in (("light", 1), ("dark", 90)):
            tab = browser.tab(width=1240, height=860)
            tab.prefer(theme)
            tab.visit(page)
            tab.press(*["n"] * steps, "Enter")
            artifact.write(folder / f"fleet-{theme}.png", tab.picture())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
