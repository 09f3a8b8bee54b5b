# SPDX-License-Identifier: MIT
"""What holds for every guest and host: monotone, reflexive, and remedies that work as they are told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.migration import Finding, GuestProfile, HostProfile, Verdict, judge
from vbuskit.migration.features import whole
from vbuskit.migration.judgement import ORDER
from vbuskit.migration.profile import DeviceClass, GuestBus, GuestDevice, HostBus, Image

Groups = dict[int, int]
Profiles = tuple[GuestProfile, HostProfile]
Change = Callable[[HostProfile], HostProfile]
T = TypeVar("T")

HERE, THERE, BEYOND = UUID(int=0xA1), UUID(int=0xA2), UUID(int=0xA3)
TYPES = {"venet-tap": "venet", "venet-passt": "venet", "vblk-file": "vblk", "module": "echo"}
BITS = {"venet": {0: 0x4F, 1: 0x1, 2: 0x4F, 3: 0x7}, "vblk": {1: 0x7, 3: 0x3}, "echo": {9: 0xF0}}
LIMITS = {"venet": ("mtu", "pairs"), "vblk": ("queues", "segments"), "echo": ("depth",)}
BACKENDS = {"venet": ("tap0", "tap1", "/run/passt"), "vblk": ("/a.img", "/b.img"), "echo": ("", "/run/e")}
MACHINES = ("pc-q35-7.2", "pc-q35-10.0", "pc-i440fx-rhel7.6.0")
CPUS = ("qemu64", "Westmere", "EPYC")
COMMAND = re.compile(
    r"vbuskit host mask (?P<bus>\S+) (?P<group>\d+) (?P<bits>0x[0-9a-f]+)(?: --device (?P<uuid>[0-9a-f-]+))?"
)
often = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


# ---- Any guest, any host ----


def some(values: tuple[T, ...]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


def groups(kind: str) -> st.SearchStrategy[Groups]:
    """What can be active, or what a class may have: each group some of its bits."""
    each = {group: st.integers(0, bits).map(bits.__and__) for group, bits in BITS[kind].items()}
    return st.fixed_dictionaries(each)


@st.composite
def device(draw: st.DrawFn, number: int) -> GuestDevice:
    klass = draw(st.sampled_from(sorted(TYPES)))
    kind = TYPES[klass]
    is_open = draw(st.booleans())
    active = {group: whole(kind, group, bits) for group, bits in draw(groups(kind)).items()}
    limits = {
        name: draw(st.sampled_from((1, 16, 1500, 9000))) for name in LIMITS[kind] if draw(st.booleans())
    }
    return GuestDevice(
        uuid=UUID(int=number),
        type=kind,
        version=1,
        klass=klass,
        is_open=is_open,
        active=active if is_open else {},
        limits=limits if is_open else {},
        backend=draw(st.sampled_from(BACKENDS[kind])),
        read_only=kind == "vblk" and draw(st.booleans()),
        block_size=draw(st.sampled_from((0, 512, 4096))) if kind == "vblk" else 0,
        capacity=draw(st.sampled_from((0, 1 << 20, 1 << 30))) if kind == "vblk" else 0,
    )


@st.composite
def guests(draw: st.DrawFn) -> GuestProfile:
    return GuestProfile(
        schema=1,
        identity=UUID(int=0xFF),
        name=draw(st.sampled_from(("vm1", "a guest; of spaces"))),
        release="0.2.0",
        captured="2026-11-24T00:00:00Z",
        host=HERE,
        arch="x86_64",
        machine=draw(st.sampled_from((*MACHINES, "q35"))),
        cpu=draw(st.sampled_from((*CPUS, "host-model", "max"))),
        bus=GuestBus(
            version=1,
            name=draw(st.sampled_from(("", "vm1"))),
            features=draw(st.sampled_from((0, 0, 0, 5))),
            connector=draw(st.sampled_from(("ivshmem", "ivshmem", "ivshmem", "file"))),
            window=draw(st.sampled_from((1, 16, 256))),
            vectors=draw(st.sampled_from((8, 32))),
            queues=draw(st.integers(0, 32)),
            rom=draw(st.sampled_from((0, 0, 65536))),
            master=draw(st.sampled_from(("override", "global"))),
        ),
        drivers={"venet": "0.1.0"} if draw(st.booleans()) else {},
        devices=tuple(draw(device(number)) for number in range(1, draw(st.integers(1, 4)))),
    )


@st.composite
def classes(draw: st.DrawFn, name: str) -> DeviceClass:
    """Mostly all bits: else hardly a guest may go anywhere."""
    kind = TYPES[name]
    has = BITS[kind] if draw(st.integers(0, 3)) else draw(groups(kind))
    limits = {
        each: draw(st.sampled_from((1, 1500, 9000))) for each in LIMITS[kind] if draw(st.integers(0, 3))
    }
    return DeviceClass(name=name, type=kind, version=1, groups=has, limits=limits)


@st.composite
def images(draw: st.DrawFn, path: str) -> Image:
    return Image(
        path=path,
        size=draw(st.sampled_from((1 << 20, 1 << 30))),
        writable=draw(st.booleans()),
        shared=draw(st.booleans()),
        lock=draw(st.sampled_from(("ofd", "local", "none"))),
        block_size=draw(st.sampled_from((0, 512, 4096))),
    )


@st.composite
def hosts(draw: st.DrawFn) -> HostProfile:
    masked = st.fixed_dictionaries({}, optional={kind: groups(kind) for kind in BITS})
    one = st.fixed_dictionaries({}, optional={UUID(int=number): groups("venet") for number in (1, 2)})
    names = draw(st.sampled_from((tuple(TYPES), tuple(TYPES), ("venet-tap", "vblk-file"))))
    return HostProfile(
        schema=1,
        identity=THERE,
        name="host2",
        release=draw(st.sampled_from(("0.1.0", "0.2.0", "0.10.0"))),
        captured="2026-11-24T00:00:00Z",
        arch="x86_64",
        qemu=draw(st.sampled_from(("7.2.22", "10.0.13"))),
        libvirt=draw(st.sampled_from(("7.0.0", "9.0.0"))),
        bus=HostBus(
            version=1, features=draw(st.sampled_from((0, 5))), rom=draw(st.sampled_from((0, 4096, 65536)))
        ),
        machines=draw(st.one_of(st.just(MACHINES), some(MACHINES))),
        cpus=draw(st.one_of(st.just(CPUS), some(CPUS))),
        classes=tuple(draw(classes(name)) for name in names),
        mask=draw(st.one_of(st.just({}), masked)),
        masks=draw(st.one_of(st.just({}), one)),
        networks=draw(some(BACKENDS["venet"])),
        held=draw(st.dictionaries(st.sampled_from(BACKENDS["venet"]), st.sampled_from((UUID(int=1), HERE)))),
        images=tuple(draw(images(path)) for path in draw(some(BACKENDS["vblk"]))),
    )


# ---- Reflexive ----


def own_host(guest: GuestProfile) -> HostProfile:
    """The host that the guest runs on has what the guest uses, and nothing that could move."""
    found: dict[str, DeviceClass] = {}
    for each in guest.devices:
        before = found.get(each.klass, DeviceClass(name=each.klass, type=each.type, version=each.version))
        merged = {
            group: before.groups.get(group, 0) | each.active.get(group, 0)
            for group in {*before.groups, *each.active}
        }
        most = {name: max(value, before.limits.get(name, 0)) for name, value in each.limits.items()}
        found[each.klass] = replace(before, groups=merged, limits={**before.limits, **most})
    disks = {each.backend: each for each in guest.devices if each.type == "vblk"}
    sizes = {path: max(each.capacity for each in guest.devices if each.backend == path) for path in disks}
    return HostProfile(
        schema=1,
        identity=HERE,
        name="host1",
        release=guest.release,
        captured=guest.captured,
        arch=guest.arch,
        qemu="7.2.22",
        libvirt="7.0.0",
        bus=HostBus(
            version=1, features=guest.bus.features, connectors=(guest.bus.connector,), rom=guest.bus.rom
        ),
        machines=(guest.machine,),
        cpus=CPUS,
        classes=tuple(found.values()),
        networks=tuple({each.backend for each in guest.devices if each.type != "vblk"}),
        images=tuple(Image(path=path, size=sizes[path], lock="local") for path in disks),
    )


@often
@given(guests())
def test_a_guest_may_stay_where_it_is(guest: GuestProfile) -> None:
    found = judge(guest, own_host(guest))
    assert found.verdict is Verdict.YES, found.findings
    assert [finding.rule for finding in found.findings if finding.rule != "driver-version"] == ["same-host"]


def pinned(guest: GuestProfile) -> GuestProfile:
    return replace(guest, machine="pc-q35-7.2", cpu="qemu64", bus=replace(guest.bus, connector="ivshmem"))


def welcoming(guest: GuestProfile) -> HostProfile:
    """Another host, to which the guest may move."""
    host = replace(own_host(guest), identity=THERE, name="host2", libvirt="9.0.0", machines=MACHINES)
    return of_images(host, lambda each: replace(each, shared=True, lock="ofd"))


@st.composite
def pairs(draw: st.DrawFn) -> Profiles:
    """Half of them from a yes on, less a few things: two profiles at random are mostly a no."""
    guest = draw(guests())
    if draw(st.booleans()):
        return guest, draw(hosts())
    guest = pinned(guest)
    host = welcoming(guest)
    for change in draw(st.lists(worsenings(), max_size=3)):
        host = change(host)
    return guest, host


@often
@given(guests())
def test_a_guest_may_move_to_a_host_that_has_all_that_it_uses(guest: GuestProfile) -> None:
    found = judge(pinned(guest), welcoming(pinned(guest)))
    assert {finding.rule for finding in found.findings} <= {"driver-version"}


# ---- Monotone ----


@st.composite
def worsenings(draw: st.DrawFn) -> Change:
    return draw(st.sampled_from(WORSE))(draw)


def more_masked(draw: st.DrawFn) -> Change:
    kind, bits = draw(st.sampled_from(sorted(BITS))), draw(st.integers(0, 0xFF))

    def change(host: HostProfile) -> HostProfile:
        now = host.mask.get(kind, {})
        return replace(
            host, mask={**host.mask, kind: {group: now.get(group, 0) | bits for group in BITS[kind]}}
        )

    return change


def more_masked_of_one(draw: st.DrawFn) -> Change:
    group, bits = draw(st.integers(0, 3)), draw(st.integers(0, 0xFF))

    def change(host: HostProfile) -> HostProfile:
        one = UUID(int=1)
        now = host.masks.get(one, {})
        return replace(host, masks={**host.masks, one: {**now, group: now.get(group, 0) | bits}})

    return change


def fewer_bits(draw: st.DrawFn) -> Change:
    bits = draw(st.integers(0, 0xFF))
    return lambda host: of_classes(host, lambda each: replace(each, groups=without(each.groups, bits)))


def without(bits: Mapping[int, int], less: int) -> Groups:
    return {group: each & ~less for group, each in bits.items()}


def lower_limits(draw: st.DrawFn) -> Change:
    most = draw(st.sampled_from((0, 1, 1000, 5000)))
    return lambda host: of_classes(
        host,
        lambda each: replace(each, limits={name: min(value, most) for name, value in each.limits.items()}),
    )


def of_classes(host: HostProfile, change: Callable[[DeviceClass], DeviceClass]) -> HostProfile:
    return replace(host, classes=tuple(change(each) for each in host.classes))


def of_images(host: HostProfile, change: Callable[[Image], Image]) -> HostProfile:
    return replace(host, images=tuple(change(each) for each in host.images))


def fewer_members(draw: st.DrawFn) -> Change:
    name = draw(st.sampled_from(("machines", "cpus", "classes", "networks", "images")))
    return lambda host: replace(host, **{name: getattr(host, name)[1:]})


def less_of_images(draw: st.DrawFn) -> Change:
    word, value = draw(
        st.sampled_from((("writable", False), ("shared", False), ("lock", "local"), ("lock", "none")))
    )
    if draw(st.booleans()):
        return lambda host: of_images(host, lambda each: replace(each, **{word: value}))
    return lambda host: of_images(host, lambda each: replace(each, size=each.size // 2, block_size=4096))


def narrower_bus(draw: st.DrawFn) -> Change:
    word, value = draw(
        st.sampled_from(
            (
                ("window_max", 8),
                ("window_min", 2),
                ("vectors_max", 16),
                ("vectors_min", 16),
                ("queues_max", 4),
                ("features", 0),
                ("connectors", ()),
            )
        )
    )
    return lambda host: replace(host, bus=replace(host.bus, **{word: value}))


def older_libvirt(_: st.DrawFn) -> Change:
    return lambda host: replace(host, libvirt="5.0.0")


def held_by_another(_: st.DrawFn) -> Change:
    return lambda host: replace(host, held=dict.fromkeys(host.networks, UUID(int=0xB1)))


WORSE = (
    held_by_another,
    more_masked,
    more_masked_of_one,
    fewer_bits,
    lower_limits,
    fewer_members,
    less_of_images,
    narrower_bus,
    older_libvirt,
)


@often
@given(pairs(), st.lists(worsenings(), min_size=1, max_size=3))
def test_what_takes_from_the_destination_never_makes_a_verdict_better(
    pair: Profiles, changes: list[Change]
) -> None:
    guest, host = pair
    before = ORDER.index(judge(guest, host).verdict)
    for change in changes:
        host = change(host)
        after = ORDER.index(judge(guest, host).verdict)
        assert after >= before
        before = after


# ---- Remedies ----


def unmasked(profiles: Profiles, found: Finding) -> Profiles:
    """As an administrator would: the commands of the first remedy, as they are written."""
    guest, host = profiles
    for command in COMMAND.finditer(found.remedies[0].replace("'a guest; of spaces'", "vm1")):
        group, bits = int(command["group"]), int(command["bits"], 16)
        if uuid := command["uuid"]:
            one = host.masks.get(UUID(uuid), {})
            host = replace(host, masks={**host.masks, UUID(uuid): {**one, group: bits}})
        else:
            (kind,) = (each.type for each in guest.devices if each.uuid == found.device)
            host = replace(host, mask={**host.mask, kind: {**host.mask.get(kind, {}), group: bits}})
    return guest, host


def image_with(**words: object) -> Callable[[Profiles, Finding], Profiles]:
    def change(profiles: Profiles, found: Finding) -> Profiles:
        guest, host = profiles
        made = (replace(each, **words) if each.path == found.subject else each for each in host.images)
        return guest, replace(host, images=tuple(made))

    return change


def truncated(profiles: Profiles, found: Finding) -> Profiles:
    told = re.search(r"truncate -s (\d+) ", found.remedies[0])
    assert told
    return image_with(size=int(told[1]))(profiles, found)


def sector_size(profiles: Profiles, found: Finding) -> Profiles:
    told = re.search(r"--sector-size (\d+) ", found.remedies[0])
    assert told
    return image_with(block_size=int(told[1]))(profiles, found)


def mounted(profiles: Profiles, found: Finding) -> Profiles:
    """One storage: the size is what the guest has of it."""
    guest, host = profiles
    size = max(each.capacity for each in guest.devices if each.backend == found.subject)
    return guest, replace(host, images=(*host.images, Image(path=found.subject, size=size, shared=True)))


def named(profiles: Profiles, found: Finding) -> Profiles:
    guest, host = profiles
    held = {name: uuid for name, uuid in host.held.items() if name != found.subject}
    return guest, replace(host, networks=(*host.networks, found.subject), held=held)


def global_master(profiles: Profiles, _: Finding) -> Profiles:
    guest, host = profiles
    return replace(guest, bus=replace(guest.bus, master="global")), host


def pinned_rom(profiles: Profiles, found: Finding) -> Profiles:
    guest, host = profiles
    told = re.search(r"romsize=(\d+)", found.remedies[0])
    assert told
    return guest, replace(host, bus=replace(host.bus, rom=int(told[1])))


def told_limits(profiles: Profiles, _: Finding) -> Profiles:
    """Captured again: it has enough, else the verdict is a no by then."""
    guest, host = profiles
    return guest, of_classes(
        host, lambda each: replace(each, limits={**dict.fromkeys(LIMITS[each.type], 1 << 20), **each.limits})
    )


APPLY: dict[str, Callable[[Profiles, Finding], Profiles]] = {
    "feature-masked": unmasked,
    "feature-depends": unmasked,
    "disk-missing": mounted,
    "disk-local": image_with(shared=True),
    "disk-read-only": image_with(writable=True),
    "disk-unlocked": image_with(lock="ofd"),
    "disk-lock-local": image_with(lock="ofd"),
    "disk-small": truncated,
    "disk-block-size": sector_size,
    "network-missing": named,
    "backend-unknown": named,
    "libvirt-old": global_master,
    "rom-size": pinned_rom,
    "rom-missing": pinned_rom,
    "limit-unknown": told_limits,
}


def fewer_back_ends(draw: st.DrawFn) -> Change:
    name = draw(st.sampled_from(("networks", "images")))
    return lambda host: replace(host, **{name: getattr(host, name)[1:]})


def smaller_rom(_: st.DrawFn) -> Change:
    return lambda host: replace(host, bus=replace(host.bus, rom=host.bus.rom // 2))


def no_rom(_: st.DrawFn) -> Change:
    return lambda host: replace(host, bus=replace(host.bus, rom=0))


def no_limits(_: st.DrawFn) -> Change:
    return lambda host: of_classes(host, lambda each: replace(each, limits={}))


MENDABLE = (
    held_by_another,
    more_masked,
    more_masked_of_one,
    less_of_images,
    older_libvirt,
    fewer_back_ends,
    smaller_rom,
    no_rom,
    no_limits,
)


@st.composite
def mendables(draw: st.DrawFn) -> Change:
    return draw(st.sampled_from(MENDABLE))(draw)


@often
@given(guests(), st.lists(mendables(), min_size=1, max_size=4))
def test_the_remedies_of_an_if_make_it_a_yes(guest: GuestProfile, changes: list[Change]) -> None:
    """What a remedy brings to light, such as the lock of storage that is shared by then, has one, too."""
    guest = pinned(guest)
    host = welcoming(guest)
    for change in changes:
        host = change(host)
    profiles = guest, host
    assert judge(*profiles).verdict is not Verdict.NO
    for _ in range(3):
        for found in judge(*profiles).findings:
            if found.verdict is Verdict.IF:
                profiles = APPLY[found.rule](profiles, found)
    assert judge(*profiles).verdict is Verdict.YES, judge(*profiles).findings


@often
@given(pairs())
def test_a_guest_that_re_opens_under_the_mask_that_is_told_does_without(pair: Profiles) -> None:
    guest, host = pair
    lost = [each for each in judge(guest, host).findings if each.rule.startswith("feature-")]
    for found in lost:
        told = COMMAND.search(found.remedies[1].replace("'a guest; of spaces'", "vm1"))
        assert told and UUID(told["uuid"]) == found.device
        guest = reopened(guest, UUID(told["uuid"]), int(told["group"]), int(told["bits"], 16))
    assert not [each for each in judge(guest, host).findings if each.rule.startswith("feature-")]


def reopened(guest: GuestProfile, uuid: UUID, group: int, mask: int) -> GuestProfile:
    made = []
    for each in guest.devices:
        if each.uuid == uuid:
            bits = whole(each.type, group, each.active[group] & ~mask)
            each = replace(each, active={**each.active, group: bits})
        made.append(each)
    return replace(guest, devices=tuple(made))


# ---- Order ----


@often
@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_lists_does_not_matter(pair: Profiles, random: Random) -> None:
    guest, host = pair

    def mixed(values: tuple[T, ...]) -> tuple[T, ...]:
        order = list(values)
        random.shuffle(order)
        return tuple(order)

    lists = ("machines", "cpus", "classes", "networks", "images")
    other = replace(host, **{name: mixed(getattr(host, name)) for name in lists})
    before = judge(guest, host)
    after = judge(replace(guest, devices=mixed(guest.devices)), other)
    assert Counter(after.findings) == Counter(before.findings)
