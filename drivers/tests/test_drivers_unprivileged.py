# SPDX-License-Identifier: MIT
"""A user who may nothing has a vbusd, a disk, and the whole sandbox around the worker that serves it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.host import Host, serving
from vbuskit.drivers.host_abi import SANDBOX

DISK = UUID(bytes=b"\1" * 16)  # what drivers/host/tests/disk.c asks for
NOBODY = 65534
MIB = 1 << 20
SECONDS = 60.0
AS_USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]


def as_user() -> list[str]:
    """The words that make root an ordinary user."""
    return [] if os.geteuid() else AS_USER


@dataclass(frozen=True, slots=True)
class Site:
    """A user's folder, in which everything runs, and the vbusd in it; `image` is its disk."""

    folder: Path
    host: Host
    vbusd: int

    @property
    def image(self) -> Path:
        return self.folder / "image"

    def through_the_disk(self, data: bytes) -> bytes:
        """What a client reads back after it wrote and flushed that."""
        (self.folder / "data").write_bytes(data)
        script = f'{self.folder}/disk "$1"/qemu <"$1"/data'
        Runner()([*as_user(), "sh", "-c", f'{script} >"$1"/back', "sh", self.folder], seconds=SECONDS)
        return (self.folder / "back").read_bytes()


@pytest.fixture
def site() -> Iterator[Site]:
    run = Runner()
    if run.attempt([*as_user(), "unshare", "--user", "--map-root-user", "true"]).code:
        pytest.skip("a user without privileges gets no namespaces here")
    vbusd = host_programs(run, Places.from_environment())["vbusd"].path
    with tempfile.TemporaryDirectory(prefix="vbuskit-user-") as name:
        folder = Path(name)
        for program in (vbusd, vbusd.with_name("vbus-worker"), vbusd.parent / "tests/disk"):
            shutil.copy(program, folder)
        (folder / "image").write_bytes(bytes(2 * MIB))
        if as_user():
            for path in (folder, folder / "image"):
                os.chown(path, NOBODY, NOBODY)
        admin, log = folder / "admin", folder / "vbusd.log"
        with (
            serving(run, folder / "vbusd", admin, output=log, through=as_user()) as process,
            Host(admin) as host,
        ):
            host.add_bus("vm", folder / "qemu", window_mib=1)
            host.add_device("vm", DISK, "vblk-file", argument=str(folder / "image"))
            yield Site(folder, host, process.pid)


def test_what_an_ordinary_users_guest_writes_is_in_the_file_and_comes_back(site: Site) -> None:
    data = random.Random(1).randbytes(MIB)
    assert sha256(site.through_the_disk(data)).digest() == sha256(data).digest()
    assert site.image.read_bytes() == data + bytes(MIB)
    counters = site.host.device("vm", DISK).counters
    assert (counters["write_bytes"], counters["read_bytes"], counters["flushes"]) == (MIB, MIB, 1)
    assert site.host.bus("vm").restarts == 0


def test_an_ordinary_users_worker_has_every_layer_that_roots_has(site: Site) -> None:
    """docs/threat-model.md: the same through user namespaces, with its own user as the worker's."""
    assert until(lambda: site.host.bus("vm").sandbox == SANDBOX, SECONDS), site.host.bus("vm").sandbox
    assert "sandbox" not in (site.folder / "vbusd.log").read_text()
    owner = NOBODY if as_user() else os.geteuid()
    for pid in (site.vbusd, site.host.bus("vm").worker):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        words = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        assert words["Uid"] == [str(owner)] * 4
        assert words["CapEff"] == ["0" * 16] and words["NoNewPrivs"] == ["1"]
