# SPDX-License-Identifier: MIT
"""The judge against a real vbusd: it says yes exactly when a device that is re-opened gets the very set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.wait import until
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.client import Client
from vbuskit.drivers.host import Host, serving
from vbuskit.migration import GuestProfile, HostProfile, Verdict, judge
from vbuskit.migration.profile import DeviceClass, GuestBus, GuestDevice, HostBus

CARD = UUID("5a4e6f7e-0000-4000-8000-0000000000c1")
DISK = UUID("5a4e6f7e-0000-4000-8000-0000000000d1")
SECONDS = 20
NEGCAP, PAIR = 3, Struct("<II")
ALL_BITS = 0xFFFF_FFFF
BITS_OF = {CARD: {0, 1, 2, 3}, DISK: {1, 3}}  # by group; a rig that offers none would prove nothing
Groups = dict[int, int]


@dataclass
class Rig:
    """A bus with a card and a disk, a north to open them, and what the classes offer."""

    host: Host
    client: Client
    offered: dict[UUID, Groups]
    wanted: dict[UUID, Groups]  # masks, as they were set last

    def open(self, uuid: UUID, wanted: Groups) -> Groups:
        """Negotiate anew, open, ask for so many bits; what is active then."""
        self.client.negotiate()
        # vbusd's answer to a mask comes before the worker has it; what is closed shows it at once.
        assert until(lambda: self.masked(uuid) == self.wanted.get(uuid, {}), SECONDS)
        handle = self.client.open(uuid)
        asked = {group: PAIR.pack(group, bits) for group, bits in wanted.items()}
        answers = {group: self.client.device_call(handle, NEGCAP, data) for group, data in asked.items()}
        return {group: PAIR.unpack(answer)[1] for group, answer in answers.items()}

    def masked(self, uuid: UUID) -> Groups:
        groups = self.host.device("vm", uuid).groups
        return {number: group.masked for number, group in groups.items() if group.masked}

    def mask(self, everywhere: Groups, of_one: Groups, uuid: UUID) -> None:
        has = self.offered[uuid]
        both = {group: everywhere.get(group, 0) | of_one.get(group, 0) for group in has}
        self.wanted[uuid] = {group: bits for group, bits in both.items() if bits}
        for group in has:
            self.host.mask("vm", group, everywhere.get(group, 0))
            self.host.mask("vm", group, of_one.get(group, 0), uuid=uuid)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    programs = host_programs(Runner(), Places.from_environment())
    folder = tmp_path_factory.mktemp("sampled")
    image = folder / "image"
    image.write_bytes(bytes(1 << 20))
    path, vbusd = folder / "s", programs["vbusd"].path
    with serving(Runner(), vbusd, path, output=folder / "log"), Host(path) as host:
        host.add_bus("vm", folder / "q", window_mib=1)
        host.add_device("vm", CARD, "venet-loopback", mac="52:54:00:00:00:01")
        host.add_device("vm", DISK, "vblk-file", argument=str(image))
        with Client(programs["libvbus_client.so"].path, folder / "q") as client:
            made = Rig(host, client, {}, {})
            for uuid in (CARD, DISK):
                made.offered[uuid] = offered(host, uuid)
            yield made


def offered(host: Host, uuid: UUID) -> Groups:
    """The worker tells of a device's bits when it has it, which may be after vbusd's answer."""
    groups = until(lambda: host.device("vm", uuid).groups, SECONDS)
    assert groups
    return {number: group.offered for number, group in groups.items()}


def guest_of(uuid: UUID, active: Groups) -> GuestProfile:
    kind, klass = ("venet", "venet-loopback") if uuid == CARD else ("vblk", "vblk-file")
    device = GuestDevice(uuid=uuid, type=kind, version=1, klass=klass, is_open=True, active=active)
    return GuestProfile(
        schema=1,
        identity=UUID(int=1),
        name="vm",
        release="0.2.0",
        captured="2026-11-24T00:00:00Z",
        arch="x86_64",
        machine="pc-q35-7.2",
        cpu="qemu64",
        bus=GuestBus(version=1, window=1, vectors=8),
        devices=(device,),
    )


def host_of(groups: Groups, everywhere: Groups, of_one: Groups, guest: GuestProfile) -> HostProfile:
    (device,) = guest.devices
    there = DeviceClass(name=device.klass, type=device.type, version=1, groups=groups)
    return HostProfile(
        schema=1,
        identity=UUID(int=2),
        name="host2",
        release="0.2.0",
        captured=guest.captured,
        arch="x86_64",
        qemu="7.2.22",
        libvirt="9.0.0",
        bus=HostBus(version=1),
        machines=("pc-q35-7.2",),
        cpus=("qemu64",),
        classes=(there,),
        mask={device.type: everywhere},
        masks={device.uuid: of_one},
    )


# Often no bit: else one of two masks nearly always takes something.
BITS = st.one_of(st.just(0), st.sampled_from((0x1, 0x2, 0x4, 0x8, 0x40)), st.integers(0, 0x7F))
MASKS = st.dictionaries(st.integers(0, 3), BITS, max_size=4)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from((CARD, DISK)), MASKS, MASKS, MASKS, MASKS)
@example(CARD, {}, {}, {0: 0x1}, {})
@example(CARD, {0: 0x4}, {}, {0: 0x2}, {})  # ECN goes with the one segmentation that this guest has
@example(CARD, {}, {}, {0: 0x40}, {2: 0x40})
def test_the_judge_says_yes_exactly_when_a_re_opened_device_gets_the_very_set(
    rig: Rig, uuid: UUID, less: Groups, before: Groups, everywhere: Groups, of_one: Groups
) -> None:
    """`less`: what the driver leaves out on the first day; `before`: what is masked then."""
    has = rig.offered[uuid]
    everywhere, of_one, before = (
        {group: bits & has[group] for group, bits in each.items() if group in has}
        for each in (everywhere, of_one, before)
    )  # vbusd refuses to mask what it does not know
    rig.mask({}, before, uuid)
    active = rig.open(uuid, {group: ALL_BITS & ~less.get(group, 0) for group in has})
    assert active.keys() == has.keys() == BITS_OF[uuid]
    rig.mask(everywhere, of_one, uuid)
    again = rig.open(uuid, active)

    guest = guest_of(uuid, active)
    found = judge(guest, host_of(has, everywhere, of_one, guest))
    event(found.verdict)
    assert (found.verdict is Verdict.YES) == (again == active), found.findings
    lost = {(each.subject.split(" ")[1].split(".")[0]) for each in found.findings}
    assert len(lost) == sum(again[group] != active[group] for group in active)
    assert len(found.findings) == sum((active[group] & ~again[group]).bit_count() for group in active)
    rig.mask({}, {}, uuid)


def test_what_a_host_of_another_release_lacks_is_lost_as_what_is_masked(rig: Rig) -> None:
    """A class without a bit gives the same set as one that masks it; only the verdict differs."""
    has = rig.offered[CARD]
    active = rig.open(CARD, has)
    guest = guest_of(CARD, active)
    for bit in (0x1, 0x2, 0x40):
        rig.mask({0: bit}, {}, CARD)
        masked = judge(guest, host_of(has, {0: bit}, {}, guest))
        older = judge(guest, host_of({**has, 0: has[0] & ~bit}, {}, {}, guest))
        lost = {each.subject for each in masked.findings}
        assert {each.subject for each in older.findings} == lost
        assert len(lost) == (active[0] & ~rig.open(CARD, active)[0]).bit_count()
        assert (masked.verdict, older.verdict) == (Verdict.IF, Verdict.NO)
    rig.mask({}, {}, CARD)
    assert rig.open(CARD, active) == active
