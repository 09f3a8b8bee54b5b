# SPDX-License-Identifier: MIT
"""The table of rules and the page that shows it; what a remedy has to say, word by word."""

from __future__ import annotations

import re
from dataclasses import replace as changed
from uuid import UUID

import pytest
from msgspec.structs import replace

from vbuskit.base.places import ROOT
from vbuskit.migration import Verdict, judge
from vbuskit.migration.explanations import EXPLANATIONS
from vbuskit.migration.judgement import Finding
from vbuskit.migration.profile import (
    DeviceClass,
    GuestBus,
    GuestDevice,
    GuestProfile,
    HostBus,
    HostProfile,
    Image,
)
from vbuskit.migration.remedies import BUILT_IN, version

CARD, DISK = UUID(int=7), UUID(int=8)
VENET = {0: 0x4F, 1: 0x1, 2: 0x4F, 3: 0x7}
HOST = HostProfile(
    schema=1,
    identity=UUID(int=2),
    name="host2",
    release="0.2.0",
    captured="2026-11-24T00:00:00Z",
    arch="x86_64",
    qemu="7.2.22",
    libvirt="9.0.0",
    bus=HostBus(version=1),
    machines=("pc-q35-6.2", "pc-q35-7.2"),
    cpus=("qemu64",),
    classes=(
        DeviceClass(
            name="venet-tap", type="venet", version=1, groups=VENET, limits={"mtu": 1500, "pairs": 16}
        ),
        DeviceClass(name="vblk-file", type="vblk", version=1, groups={1: 0x7, 3: 0x3}),
    ),
    networks=("tap0",),
    images=(Image(path="/a b.img", size=1 << 30, shared=True),),
)
GUEST = GuestProfile(
    schema=1,
    identity=UUID(int=1),
    name="vm1",
    release="0.2.0",
    captured="2026-11-24T00:00:00Z",
    host=UUID(int=3),
    arch="x86_64",
    machine="pc-q35-7.2",
    cpu="qemu64",
    bus=GuestBus(version=1, window=16, vectors=8),
    devices=(
        GuestDevice(
            uuid=CARD, type="venet", version=1, klass="venet-tap", is_open=True, active=VENET, backend="tap0"
        ),
        GuestDevice(
            uuid=DISK,
            type="vblk",
            version=1,
            klass="vblk-file",
            is_open=True,
            active={1: 0x7},
            backend="/a b.img",
            capacity=1 << 30,
        ),
    ),
)


def image(**words: object) -> HostProfile:
    return replace(HOST, images=(replace(HOST.images[0], **words),))


def only(guest: GuestProfile, host: HostProfile) -> Finding:
    (found,) = judge(guest, host).findings
    return found


# ---- The table ----


def rows() -> list[tuple[str, ...]]:
    text = (ROOT / "docs" / "gate.md").read_text().partition("\n## Rules\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([a-z-]+)` \| ([a-z-]+(?: or [a-z-]+)?) \| (.+) \|$", text, re.MULTILINE)
    return [tuple(each) for each in found]


def test_the_page_lists_each_rule_with_its_verdict_and_what_it_says() -> None:
    assert rows() == [
        (rule, " or ".join(found.verdicts), found.says) for rule, found in EXPLANATIONS.items()
    ]


@pytest.mark.parametrize("rule", EXPLANATIONS)
def test_what_a_rule_rests_on_is_a_heading_of_a_page(rule: str) -> None:
    name, _, heading = EXPLANATIONS[rule].source.partition(", ")
    lines = (ROOT / name).read_text().splitlines()
    assert not heading or any(line.lstrip("#") == f" {heading}" for line in lines if line.startswith("#"))


def test_the_rules_of_the_sources_are_those_of_the_table() -> None:
    folder = ROOT / "migration" / "vbuskit" / "migration"
    text = "".join(path.read_text() for path in sorted(folder.glob("rules_*.py")))
    named = set(re.findall(r'"([a-z]+(?:-[a-z]+)*)",?\n? +(?:Side\.|side)', text))
    assert named <= set(EXPLANATIONS)


def test_the_built_in_classes_are_those_of_vbusd() -> None:
    text = (ROOT / "drivers" / "host" / "classes" / "class_info.c").read_text()
    named = re.findall(r'(?:\tVENET\(|\.name = )"([a-z-]+)"', text)
    assert sorted(named) == sorted(BUILT_IN)


# ---- Remedies, word by word ----


def test_a_mask_of_all_and_one_of_the_device_are_both_to_be_lifted_but_for_what_the_guest_leaves_out() -> (
    None
):
    guest = replace(GUEST, devices=(replace(GUEST.devices[0], active={**VENET, 0: 0x7}), GUEST.devices[1]))
    host = replace(HOST, mask={"venet": {0: 0x42}}, masks={CARD: {0: 0xA}})
    found = only(guest, host)
    assert (found.rule, found.subject, found.device) == ("feature-masked", "venet sg.tso4", CARD)
    assert found.remedies[0] == (
        f"on host2: vbuskit host mask vm1 0 0x40 && vbuskit host mask vm1 0 0x8 --device {CARD}"
        " (without --device, too, when it is the bus that masks)"
    )
    assert f"at the source: vbuskit host mask vm1 0 0x2 --device {CARD}, then" in found.remedies[1]
    assert found.remedies[1].endswith("; a mask replaces the one before, so add what is masked there")


def test_commands_name_the_bus_as_vbusd_does() -> None:
    guest = replace(GUEST, bus=replace(GUEST.bus, name="q 1"))
    masked, without = only(guest, replace(HOST, mask={"venet": {0: 0x40}})).remedies
    assert "mask 'q 1' 0 0x0" in masked and "mask 'q 1' 0 0x40 --device" in without


def test_a_mask_of_one_device_is_no_other_ones() -> None:
    found = only(GUEST, replace(HOST, masks={CARD: {0: 0x40}, UUID(int=99): {0: 0x4F}}))
    assert (found.rule, found.subject, found.device) == ("feature-masked", "venet sg.uso", CARD)
    assert f"vbuskit host mask vm1 0 0x0 --device {CARD}" in found.remedies[0]


def test_bits_that_fall_with_another_name_it_and_have_its_verdict() -> None:
    masked = judge(GUEST, replace(HOST, mask={"venet": {2: 0x1}})).findings
    older = judge(
        GUEST, replace(HOST, classes=(replace(HOST.classes[0], groups={**VENET, 2: 0x4E}), HOST.classes[1]))
    ).findings
    for found, verdict in ((masked, Verdict.IF), (older, Verdict.NO)):
        first, *others = found
        assert {each.verdict for each in found} == {verdict}
        assert first.subject == "venet l4ro.csum" and first.rule != "feature-depends"
        assert {each.rule for each in others} == {"feature-depends"}
        assert {each.reason for each in others} == {"the guest uses it, and it falls with venet l4ro.csum"}


def test_ecn_falls_with_the_one_segmentation_that_the_guest_has() -> None:
    guest = replace(GUEST, devices=(replace(GUEST.devices[0], active={**VENET, 0: 0xB}), GUEST.devices[1]))
    found = judge(guest, replace(HOST, mask={"venet": {0: 0x2}})).findings
    assert [(each.rule, each.subject) for each in found] == [
        ("feature-masked", "venet sg.tso4"),
        ("feature-depends", "venet sg.ecn"),
    ]


def test_a_bit_that_would_fall_without_any_mask_is_a_no() -> None:
    guest = replace(GUEST, devices=(replace(GUEST.devices[0], active={**VENET, 0: 0xB}), GUEST.devices[1]))
    card = replace(HOST.classes[0], groups={**VENET, 0: 0xE})
    host = replace(HOST, classes=(card, HOST.classes[1]), mask={"venet": {0: 0x2}})
    found = {each.subject: (each.rule, each.verdict) for each in judge(guest, host).findings}
    assert found["venet sg.ecn"] == ("feature-depends", Verdict.NO)
    assert found["venet sg.tso4"] == ("feature-masked", Verdict.IF)


def test_bits_that_cannot_be_active_are_not_believed() -> None:
    guest = replace(GUEST, devices=(replace(GUEST.devices[0], active={0: 0x2}), GUEST.devices[1]))
    found = only(guest, HOST)
    assert (found.rule, found.verdict) == ("feature-depends", Verdict.NO) and "capture" in found.reason


@pytest.mark.parametrize(
    ("guest", "host", "said"),
    [
        ("0.2.0", "0.1.0", "update vbuskit on host2 to 0.2.0 or later"),
        ("0.2.0", "0.2.0", "update vbuskit on host2 to a release later than 0.2.0"),
        ("0.9.1", "0.10.0", "move it to a host that has vbuskit 0.9.1, not 0.10.0"),
    ],
)
def test_a_remedy_knows_which_side_is_older(guest: str, host: str, said: str) -> None:
    older = replace(HOST, bus=replace(HOST.bus, version=2), release=host)
    assert only(replace(GUEST, release=guest), older).remedies == (said,)


def test_a_guest_whose_host_masks_no_offloads_is_sent_over_a_third_one() -> None:
    card = replace(HOST.classes[0], groups={**VENET, 0: 0xF, 3: 0x3})
    older = replace(HOST, classes=(card, HOST.classes[1]))
    for release, third in (("0.1.0", True), ("0.2.0.dev0", False)):
        uso, rxmode = judge(replace(GUEST, release=release), older).findings
        assert uso.remedies[1].startswith("on a third host, of vbuskit 0.2" if third else "at the source: ")
        assert rxmode.remedies[1].startswith("at the source: ")


@pytest.mark.parametrize(("text", "numbers"), [("7.2.22", (7, 2, 22)), ("10.0~rc1", (10, 0)), ("git", ())])
def test_a_version_is_its_leading_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


def test_names_in_commands_are_quoted() -> None:
    """A profile is anybody's, and its words end up in a shell."""
    guest = replace(GUEST, name="vm1; reboot")
    assert (
        "mask 'vm1; reboot' 0 0x0"
        in judge(guest, replace(HOST, mask={"venet": {0: 1}})).findings[0].remedies[0]
    )
    assert "truncate -s 1073741824 '/a b.img'," in only(GUEST, image(size=1)).remedies[0]


def test_a_libvirt_that_tells_no_version_counts_as_too_old() -> None:
    assert only(GUEST, replace(HOST, libvirt="none")).rule == "libvirt-old"


def test_the_newest_machine_type_of_the_family_is_proposed() -> None:
    found = only(replace(GUEST, machine="pc-q35-10.0"), HOST)
    assert found.remedies[1] == "shut the guest down and start it as pc-q35-7.2 on host2"


def test_a_guest_that_stays_may_have_what_cannot_move() -> None:
    host = replace(image(shared=False, lock="local"), libvirt="7.0.0")
    guest = replace(GUEST, cpu="host-passthrough", machine="q35", bus=replace(GUEST.bus, connector="file"))
    assert judge(guest, host).verdict is Verdict.NO
    stays = judge(replace(guest, host=host.identity), host)
    assert (stays.verdict, [each.rule for each in stays.findings]) == (Verdict.YES, ["same-host"])


def test_two_hosts_that_libvirt_takes_for_one_are_a_no() -> None:
    stays = replace(GUEST, host=HOST.identity, host_name="host2")
    assert only(stays, HOST).verdict is Verdict.YES
    found = only(stays, replace(HOST, name="host3"))
    assert (found.rule, found.verdict) == ("same-host", Verdict.NO) and "host_uuid" in found.remedies[0]


def test_who_only_reads_needs_no_lock_and_no_right_to_write() -> None:
    reads = replace(GUEST, devices=(GUEST.devices[0], replace(GUEST.devices[1], read_only=True)))
    for words in ({"lock": "none"}, {"lock": "local"}, {"writable": False}):
        assert judge(reads, image(**words)).verdict is Verdict.YES
        assert only(GUEST, image(**words)).verdict is Verdict.IF
    assert "sha256sum" in only(reads, image(shared=False)).remedies[1]


def test_a_closed_device_is_judged_by_class_and_back_end_alone() -> None:
    card = replace(GUEST.devices[0], is_open=False, active=VENET, limits={"mtu": 9000})
    guest = replace(GUEST, devices=(card, GUEST.devices[1]))
    host = replace(HOST, mask={"venet": {0: 0x4F}})
    assert judge(guest, host).verdict is Verdict.YES
    assert only(guest, replace(host, networks=())).rule == "network-missing"
    assert only(guest, replace(host, classes=host.classes[1:])).rule == "class-missing"


def test_a_disk_keeps_the_size_of_its_blocks_up_and_down() -> None:
    """vblk_limits.c compares after a move, and the disk fails."""
    for mine, theirs, rules in ((512, 4096, True), (4096, 512, True), (4096, 4096, False), (4096, 0, False)):
        guest = replace(GUEST, devices=(GUEST.devices[0], replace(GUEST.devices[1], block_size=mine)))
        found = judge(guest, image(block_size=theirs)).findings
        assert [each.rule for each in found] == ["disk-block-size"] * rules


def test_an_image_below_a_device_of_a_module_is_shared_and_locked_like_any_other() -> None:
    disk = replace(GUEST.devices[1], type="echo", klass="echo", active={})
    guest = replace(GUEST, devices=(disk,))
    classes = (DeviceClass(name="echo", type="echo", version=1),)
    assert judge(guest, replace(HOST, classes=classes)).verdict is Verdict.YES
    assert only(guest, replace(image(shared=False), classes=classes)).rule == "disk-local"
    assert only(guest, replace(image(lock="none"), classes=classes)).rule == "disk-unlocked"
    assert only(guest, replace(HOST, classes=classes, images=())).rule == "backend-unknown"


@pytest.mark.parametrize(
    ("pinned", "there", "rules"),
    [
        (True, 65536, []),
        (True, 32768, []),
        (True, 131072, ["rom-size"]),
        (True, 0, ["rom-missing"]),
        (False, 65536, []),
        (False, 32768, ["rom-size"]),
        (False, 0, ["rom-missing"]),
    ],
)
def test_a_rom_may_be_smaller_where_its_size_is_pinned(pinned: bool, there: int, rules: list[str]) -> None:
    guest = replace(GUEST, bus=replace(GUEST.bus, rom=65536, romsize=pinned))
    host = replace(HOST, bus=replace(HOST.bus, rom=there))
    assert [each.rule for each in judge(guest, host).findings] == rules
    assert judge(replace(guest, host=host.identity), host).verdict is Verdict.YES


def test_what_another_device_has_open_is_not_there_for_this_one() -> None:
    found = only(GUEST, replace(HOST, held={"tap0": UUID(int=99)}))
    assert (found.rule, found.verdict, found.device) == ("network-missing", Verdict.IF, CARD)
    assert str(UUID(int=99)) in found.reason
    assert judge(GUEST, replace(HOST, held={"tap0": CARD})).verdict is Verdict.YES


def test_the_tap_that_a_remedy_makes_is_one_that_vbusd_opens() -> None:
    """vbusd_tap.c: one of several queues is refused, and nobody brings up what it makes itself."""
    (remedy,) = only(GUEST, replace(HOST, networks=())).remedies
    assert "ip tuntap add dev tap0 mode tap &&" in remedy and "dev tap0 master BRIDGE up" in remedy


def test_a_field_that_is_not_known_is_of_no_matter_to_a_guest_that_stays() -> None:
    newer = replace(GUEST, unknown={"$.new": 1})
    assert only(newer, HOST).rule == "unknown-field"
    assert judge(replace(newer, host=HOST.identity), HOST).verdict is Verdict.YES


def test_a_domain_without_a_cpu_has_that_of_qemu() -> None:
    assert judge(replace(GUEST, cpu="default"), HOST).verdict is Verdict.YES
    assert only(replace(GUEST, cpu="default"), replace(HOST, cpus=("Westmere",))).rule == "cpu-missing"


def test_a_finding_without_a_device_is_of_the_whole_guest() -> None:
    found = only(replace(GUEST, arch="aarch64"), HOST)
    assert found.device is None and str(changed(found, remedies=())).startswith("no: aarch64: ")
