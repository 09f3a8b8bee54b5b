# SPDX-License-Identifier: MIT
"""The grid of a fleet is what the judge says of each pair, and takes two seconds for a million."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.base.run import Runner
from vbuskit.migration import GuestProfile, HostProfile, Verdict, fleet, judge
from vbuskit.migration.baseline import consumer
from vbuskit.migration.judgement import Finding, Judgement, Side
from vbuskit.migration.profile import DeviceClass, GuestBus, GuestDevice, HostBus, Image

TYPES = {"venet-tap": "venet", "venet-socket": "venet", "vblk-file": "vblk", "loop": "loop"}
MACHINES = [f"pc-q35-{version}" for version in ("5.2", "7.2", "10.0")]
DEVICES = [UUID(int=number) for number in (7, 8, 9)]

groups = st.dictionaries(st.integers(0, 3), st.integers(0, 0x7F), max_size=4)
limits = st.dictionaries(st.sampled_from(["mtu", "pairs", "queues"]), st.integers(1, 4))
machines = st.lists(st.sampled_from(MACHINES), unique=True).map(tuple)
images = st.builds(
    Image,
    path=st.sampled_from(["/srv/a", "/srv/b"]),
    size=st.sampled_from([0, 1 << 20]),
    writable=st.booleans(),
    shared=st.booleans(),
    lock=st.sampled_from(["ofd", "local", "none"]),
    block_size=st.sampled_from([0, 512, 4096]),
)
classes = st.lists(
    st.builds(
        lambda name, version, groups, limits: DeviceClass(
            name=name, type=TYPES[name], version=version, groups=groups, limits=limits
        ),
        st.sampled_from(sorted(TYPES)),
        st.integers(1, 2),
        groups,
        limits,
    ),
    unique_by=lambda each: each.name,
).map(tuple)
hosts = st.builds(
    lambda **words: HostProfile(schema=1, captured="then", **words),
    identity=st.integers(1, 4).map(lambda number: UUID(int=number)),
    name=st.sampled_from(["a", "b", "c"]),
    release=st.sampled_from(["0.1.0", "0.2.0"]),
    arch=st.sampled_from(["x86_64", "aarch64"]),
    qemu=st.sampled_from(["7.2.22", "10.0.13"]),
    libvirt=st.sampled_from(["7.0.0", "9.0.0"]),
    bus=st.builds(
        HostBus,
        version=st.integers(1, 2),
        features=st.integers(0, 3),
        window_max=st.sampled_from([16, 256]),
        vectors_max=st.sampled_from([8, 32]),
        connectors=st.sampled_from([("ivshmem",), ("ivshmem", "file"), ()]),
        queues_max=st.sampled_from([0, 8]),
        rom=st.sampled_from([0, 4096, 65536]),
    ),
    machines=machines,
    cpus=st.sampled_from([("qemu64",), ("EPYC", "qemu64")]),
    classes=classes,
    mask=st.dictionaries(st.sampled_from(["venet", "vblk"]), groups),
    masks=st.dictionaries(st.sampled_from(DEVICES), groups),
    networks=st.sampled_from([(), ("tap",)]),
    images=st.lists(images, max_size=2, unique_by=lambda each: each.path).map(tuple),
)
devices = st.builds(
    lambda klass, **words: GuestDevice(klass=klass, type=TYPES[klass], **words),
    uuid=st.sampled_from(DEVICES),
    klass=st.sampled_from(sorted(TYPES)),
    version=st.integers(1, 2),
    is_open=st.booleans(),
    active=groups,
    limits=limits,
    read_only=st.booleans(),
    backend=st.sampled_from(["", "tap", "/srv/a", "/srv/b"]),
    block_size=st.sampled_from([0, 512]),
    capacity=st.sampled_from([0, 1 << 20, 1 << 21]),
)
guests = st.builds(
    lambda **words: GuestProfile(schema=1, captured="then", **words),
    identity=st.uuids(),
    name=st.sampled_from(["x", "y"]),
    release=st.sampled_from(["0.1.0", "0.2.0"]),
    host=st.none() | st.integers(1, 4).map(lambda number: UUID(int=number)),
    arch=st.just("x86_64"),
    machine=st.sampled_from(MACHINES),
    cpu=st.sampled_from(["qemu64", "EPYC", "host-passthrough", "default"]),
    unknown=st.sampled_from([{}, {"$.clock": [0.5]}]),
    bus=st.builds(
        GuestBus,
        version=st.just(1),
        features=st.integers(0, 3),
        window=st.sampled_from([16, 64]),
        vectors=st.sampled_from([8, 16]),
        queues=st.sampled_from([0, 9]),
        rom=st.sampled_from([0, 65536]),
        connector=st.sampled_from(["ivshmem", "file"]),
        master=st.sampled_from(["override", "global"]),
    ),
    devices=st.lists(devices, max_size=3, unique_by=lambda each: each.uuid).map(tuple),
)
of_hosts = st.lists(hosts, min_size=1, max_size=5, unique_by=lambda each: each.identity)


def check(guests: list[GuestProfile], hosts: list[HostProfile]) -> None:
    found = fleet.grid(guests, hosts)
    judged = [[judge(guest, host).verdict for host in hosts] for guest in guests]
    cells = [[found.verdict(row, column) for column in range(len(hosts))] for row in range(len(guests))]
    assert cells == judged
    letters = {Verdict.YES: "Y", Verdict.IF: "?", Verdict.NO: "N"}
    assert [found.letters(row) for row in range(len(guests))] == [
        "".join(letters[each] for each in row) for row in judged
    ]
    flat = [each for row in judged for each in row]
    assert found.counts() == {verdict: flat.count(verdict) for verdict in Verdict}


@settings(max_examples=60, deadline=None)
@given(st.lists(guests, min_size=1, max_size=5), of_hosts)
def test_the_grid_of_any_fleet_is_what_the_judge_says_of_each_cell(
    guests: list[GuestProfile], hosts: list[HostProfile]
) -> None:
    check(guests, hosts)


@settings(max_examples=40, deadline=None)
@given(of_hosts)
def test_the_grid_of_hosts_is_that_of_guests_which_consume_all_they_offer(hosts: list[HostProfile]) -> None:
    check([consumer(each) for each in hosts], hosts)


def window(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """It looks at both bridges, and at the architecture of some hosts only."""
    if guest.bus.window > host.bus.window_max and host.arch == "x86_64":
        yield Finding("window", Verdict.NO, Side.DESTINATION, "window", f"{host.name} has less")


def own_mask(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    for device in guest.devices:
        if device.uuid in host.masks and device.read_only:
            yield Finding("own-mask", Verdict.IF, Side.DESTINATION, "mask", "", (), device.uuid)


def wants_whole(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if replace(guest, name=host.name).release != host.release:
        yield Finding("release", Verdict.IF, Side.DESTINATION, host.release, "")


def together(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if sum(each.limits.get("queues", 0) for each in guest.devices) > 4:
        yield Finding("queues", Verdict.NO, Side.DESTINATION, "queues", "")


@settings(max_examples=30, deadline=None)
@given(st.lists(guests, min_size=1, max_size=4), of_hosts)
def test_a_rule_that_comes_later_needs_nothing_said_of_what_it_reads(
    guests: list[GuestProfile], hosts: list[HostProfile]
) -> None:
    rules = (window, own_mask, wants_whole, together)
    for rule in rules:
        asked = fleet.ask(rule, guests, hosts)
        for guest, numbers in zip(guests, asked.of_guest, strict=True):
            for place, host in enumerate(hosts):
                verdicts = {finding.verdict for finding in rule(guest, host)}
                assert any(asked.nos[each] >> place & 1 for each in numbers) == (Verdict.NO in verdicts)
                assert any(asked.ifs[each] >> place & 1 for each in numbers) == (Verdict.IF in verdicts)


@pytest.fixture(autouse=True)
def looks_at_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "TOGETHER", fleet.TOGETHER | {"together"})


def test_what_is_the_same_to_a_rule_is_asked_once() -> None:
    count = 0

    def counted(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
        nonlocal count
        count += 1
        if guest.machine not in host.machines:
            yield Finding("machine", Verdict.NO, Side.DESTINATION, guest.machine, f"not on {host.name}")

    some = [some_host(number) for number in range(200)]
    asked = fleet.ask(counted, [consumer(each) for each in some], some)
    assert (len(asked.demands), len(asked.offers)) == (3, 3)
    assert count < 50


def test_of_limits_that_differ_only_those_near_the_hosts_own_are_asked() -> None:
    count = 0

    def counted(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
        nonlocal count
        count += 1
        most = {each.name: each.limits for each in host.classes}
        for device in guest.devices:
            for name, value in device.limits.items():
                if value > most[device.klass][name]:
                    yield Finding("limit", Verdict.NO, Side.DESTINATION, name, "")

    some = [some_host(number) for number in range(100)]
    asked = fleet.ask(counted, [consumer(each) for each in some], some)
    rows = [
        [any(asked.nos[each] >> place & 1 for each in own) for place in range(100)] for own in asked.of_guest
    ]
    less = [[row > column or row % 16 > column % 16 for column in range(100)] for row in range(100)]
    assert rows == less
    assert count < 0.3 * len(asked.demands) * len(asked.offers)


def test_a_guest_without_devices_is_not_taken_for_one_that_has_some() -> None:
    bare = replace(some_host(1), classes=())
    check([consumer(bare), consumer(some_host(2))], [bare, some_host(2)])

    def has_devices(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
        for _ in guest.devices:
            yield Finding("device", Verdict.NO, Side.GUEST, "device", "")

    asked = fleet.ask(has_devices, [consumer(bare), consumer(some_host(2))], [bare])
    assert [any(asked.nos[each] for each in own) for own in asked.of_guest] == [False, True]


def test_on_its_own_host_a_guest_is_judged_by_the_judge_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [some_host(number) for number in range(3)]
    guests = [consumer(hosts[1]), replace(consumer(hosts[1]), host=None)]
    usual = fleet.grid(guests, hosts)
    reason = Finding("stays", Verdict.IF, Side.GUEST, "host", "it is there")
    monkeypatch.setattr(fleet, "judge", lambda guest, host: Judgement(guest.name, host.name, (reason,)))
    found = fleet.grid(guests, hosts)
    assert found.letters(1) == usual.letters(1)
    assert usual.letters(0)[1] == "Y"
    assert found.letters(0) == usual.letters(0)[0] + "?" + usual.letters(0)[2]


def test_a_fleet_without_hosts_or_guests_has_no_cells() -> None:
    check([consumer(some_host(1))], [])
    check([], [some_host(1)])


def test_a_host_that_is_there_twice_is_a_guests_own_host_twice() -> None:
    host = replace(some_host(1), bus=HostBus(version=1, connectors=("file",)))
    check([replace(consumer(host), host=host.identity), consumer(some_host(2))], [host, host, some_host(2)])


def some_host(number: int) -> HostProfile:
    """Distinct in its name, identity, classes' bits, limits and masks."""
    bits = {0: 0x4F & ~(number % 2 << 6), 1: 0x1, 2: 0x4F & ~(number // 2 % 2 << 1), 3: number // 4 % 8}
    limits = {"mtu": 1500 + number, "pairs": 1 + number % 16}
    named = (
        DeviceClass(
            name=name,
            type=kind,
            version=1,
            groups=bits,
            limits=limits,
        )
        for name, kind in TYPES.items()
    )
    return HostProfile(
        schema=1,
        identity=UUID(int=number + 1),
        name=f"host{number}",
        release="0.2.0",
        captured="then",
        arch="x86_64",
        qemu=f"{5 + number % 6}.2.{number % 40}",
        libvirt="9.0.0",
        bus=HostBus(version=1, window_max=16 << number % 5),
        machines=tuple(MACHINES[: 1 + number % 3]),
        cpus=("qemu64",),
        classes=tuple(named),
        mask={"venet": {0: number * 2654435761 % 64 & 0x4A}},
    )


SPEED = """
import json, resource, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from test_migration_fleet import some_host
from vbuskit.migration.baseline import consumer
from vbuskit.migration.fleet import grid
hosts = [some_host(number) for number in range(1000)]
start = time.process_time()
found = grid([consumer(host) for host in hosts], hosts)
rows = [found.letters(number) for number in range(1000)]
seconds = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak / 1024, sum(row.count("Y") for row in rows), len(set(rows))]))
"""


def test_a_thousand_hosts_are_judged_in_two_seconds_and_500_mib() -> None:
    places = [os.fspath(each) for each in sys.path] + [os.fspath(Path(__file__).parent)]
    done = Runner()([sys.executable, "-P", "-c", SPEED, json.dumps(places)])
    seconds, mebibytes, good, distinct = json.loads(done)
    assert seconds < 2.0
    assert mebibytes < 500
    assert good >= 1000 and distinct > 20  # each its own, and not one answer for all
