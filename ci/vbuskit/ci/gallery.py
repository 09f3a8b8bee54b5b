# SPDX-License-Identifier: MIT
"""A made-up run with every kind of cell and hostile logs, for the report's tests and pictures.

`.venv/bin/python -m vbuskit.ci.gallery FOLDER` writes its reports.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from vbuskit.base import artifact
from vbuskit.base.places import Places
from vbuskit.ci.facts import Guest, Host, RunFacts, Step
from vbuskit.ci.report import write_report
from vbuskit.compat.cells import Cell, Comparison, Outcome

GUEST = "debian-12"
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


def main(folder: Path) -> None:
    for name, green_only in (("mixed", False), ("green", True)):
        here = places(folder / name)
        write_report(here, facts(here.out), cells(here.out, green_only=green_only))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
