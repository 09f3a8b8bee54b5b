# SPDX-License-Identifier: MIT
"""A cell on a restored guest, on a real one: what it takes, and that it is a guest of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vbuskit.base.run import Runner

BUDGET = 5.0  # seconds a cell, where a guest boots in QUIET
CHECK = 0.3  # seconds of them for the health check, before and after its body together
QUIET = 6.5  # seconds, on the machine of docs/performance.md with nothing else on it

BODY = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from vbuskit.base import sandbox
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.compat import snapshot
from vbuskit.compat.bench import Bench
from vbuskit.compat.bus import Bus
from vbuskit.compat.cells import Cell
from vbuskit.compat.domain import Hardware
from vbuskit.compat.guest import Guest
from vbuskit.compat.health import Health
from vbuskit.compat.host import PrivateHost
from vbuskit.compat.images import image_for, overlay
from vbuskit.compat.recipe import Recipe
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.kernel import modules, newest_release

sandbox.enter()
places = Places.from_environment(Path(sys.argv[1]))
run = Runner()
release = newest_release("cloud-amd64")
image = image_for(run, places, Recipe(release))
programs = {name: program.path for name, program in host_programs(run, places).items()}
drivers = modules(run, places, release)
places = replace(places, cache=places.out / "cache")  # the snapshot is this test's own
boots, rounds, drawn, checks = [], [], [], []

def bench(host, bus, name):
    hardware = Hardware(
        name=name,
        disk=overlay(run, image.disk.path, places.work("work") / f"{name}.qcow2"),
        kernel=image.kernel.path,
        initrd=image.initrd.path,
        serial=places.work("logs") / f"{name}.log",
    )
    return Bench(
        run=run, places=places, host=host, guest=Guest(host.connection, hardware), image=image, bus=bus,
        iso=drivers["vbus"].path, version="", signer="",
    )

def prepare(bench):
    boots.append(bench.guest.boot())
    for name in ("vbus", "venet"):
        bench.guest.write(f"/run/{name}.ko", drivers[name].path.read_bytes())
        bench.guest(f"insmod /run/{name}.ko")

def told(bench):
    before = time.time()
    numbers, now = bench.guest("head -c 16 /dev/urandom | sha256sum; date +%s.%N").split("-")
    drawn.append(numbers)
    return before - 1 <= float(now) <= time.time() + 1

def checked(bench):
    start = time.monotonic()
    Health(bench).check(Cell("none", "tries nothing", bench.guest.name, comparisons=[None]))
    checks.append(time.monotonic() - start)

def cell(bench):
    start = time.monotonic()
    found = snapshot.stage(bench, ["insmod"], lambda: prepare(bench))
    staged = time.monotonic()
    bench.guest.plug(bench.bus.socket)
    bench.bus.confirmed()
    plugged = time.monotonic()
    cards = [bench.bus.appears(bench.guest, card) for card in bench.bus.cards]
    agreed = bench.bus.north(bench.guest)["epoch"] == f"{bench.bus.status().epoch:#018x}"
    health = bench.guest.health()
    tried = time.monotonic()
    seconds = {"restore": staged - start, "plug": plugged - staged, "body": tried - plugged}
    for _ in range(3):
        checked(bench)
    right = told(bench)
    start = time.monotonic()
    bench.guest.unplug()
    seconds["unplug"] = time.monotonic() - start
    health += bench.guest.health()
    seen = {"found": found, "cards": cards, "agreed": agreed, "clock": right, "health": health}
    rounds.append({**seen, **seconds})

with (
    PrivateHost(run, "host", places.work("logs") / "host") as host,
    Bus(run=run, host=host, name="debian", programs=programs, logs=host.logs) as bus,
):
    one, two = bench(host, bus, "one"), bench(host, bus, "two")
    for _ in range(3):
        with one.guest:
            cell(one)
    with one.guest, two.guest:
        # Both at once: another name, another disk, and a memory of its own.
        snapshot.stage(one, ["insmod"], lambda: None)
        cell(two)
        one.guest("touch /run/of-one")
        apart = two.guest.execute("test -e /run/of-one").code
print(json.dumps({"boot": boots, "rounds": rounds, "drawn": drawn, "apart": apart, "checks": checks}))
"""


@pytest.mark.guest
def test_a_cell_on_a_restored_guest_and_its_health_check_take_their_time_and_the_guest_is_one_of_its_own(
    tmp_path: Path,
) -> None:
    out = Runner()([sys.executable, "-c", BODY, tmp_path])
    seen = json.loads(out.splitlines()[-1])
    (boot,) = seen["boot"]
    print(f"boot: {boot:.1f} s")
    for number, each in enumerate(seen["rounds"]):
        names = ("restore", "plug", "body", "unplug")
        print(number, ", ".join(f"{name} {each[name]:.2f} s" for name in names))
    print("health check:", ", ".join(f"{each:.2f} s" for each in seen["checks"]))
    assert [each["found"] for each in seen["rounds"]] == [False, True, True, True]
    for each in seen["rounds"]:
        assert (each["cards"], each["agreed"], each["clock"]) == (["open", "open"], True, True)
        assert each["health"] == []
    assert len(set(seen["drawn"])) == len(seen["drawn"])
    assert seen["apart"] == 1
    slowness = max(1.0, boot / QUIET)
    best = min(sum(each[name] for name in ("restore", "plug", "body")) for each in seen["rounds"][1:])
    assert best <= BUDGET * slowness
    assert min(seen["checks"]) <= CHECK * slowness
