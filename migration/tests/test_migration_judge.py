# SPDX-License-Identifier: MIT
"""What the judge says of guests and hosts, and that each finding names bit, side and remedy."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vbuskit.drivers.wire import recorded
from vbuskit.migration import GuestProfile, HostProfile, Verdict, judge
from vbuskit.migration.features import BITS, GROUPS, bit_name
from vbuskit.migration.profile import DeviceClass, GuestBus, GuestDevice, HostBus

CARD = UUID(int=7)
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
    machines=("pc-q35-7.2",),
    cpus=("qemu64",),
    classes=(DeviceClass(name="venet-tap", type="venet", version=1, groups=VENET),),
)
GUEST = GuestProfile(
    schema=1,
    identity=UUID(int=1),
    name="vm1",
    release="0.2.0",
    captured="2026-11-24T00:00:00Z",
    arch="x86_64",
    machine="pc-q35-7.2",
    cpu="qemu64",
    bus=GuestBus(version=1, window=16, vectors=8),
    devices=(
        GuestDevice(uuid=CARD, type="venet", version=1, klass="venet-tap", is_open=True, active=VENET),
    ),
)


def masking(host: HostProfile, group: int, bits: int) -> HostProfile:
    return replace(host, mask={"venet": {group: bits}})


def test_a_guest_may_go_where_all_that_it_uses_is_offered() -> None:
    assert judge(GUEST, HOST).verdict is Verdict.YES


def test_a_bit_that_is_masked_there_is_named_with_its_device_and_what_to_do() -> None:
    (found,) = judge(GUEST, masking(HOST, 0, 0x2)).findings
    assert (found.rule, found.verdict, found.subject, found.device) == (
        "feature-masked",
        Verdict.IF,
        "venet sg.tso4",
        CARD,
    )
    assert "host2" in found.remedies[0]


def test_without_the_bit_that_others_need_those_are_lost_as_well() -> None:
    found = judge(GUEST, masking(HOST, 0, 0x1)).findings
    assert {each.subject.rpartition(".")[2] for each in found} == {"csum", "tso4", "tso6", "ecn", "uso"}


def test_a_bit_that_the_class_does_not_have_is_a_no() -> None:
    older = replace(HOST, classes=(replace(HOST.classes[0], groups={**VENET, 0: 0xF}),))
    (found,) = judge(GUEST, older).findings
    assert (found.rule, found.verdict, found.subject) == ("feature-missing", Verdict.NO, "venet sg.uso")


@given(st.dictionaries(st.sampled_from(sorted(VENET)), st.integers(0, 0x7F)), st.integers(0, 0x7F))
def test_a_mask_more_at_the_destination_never_makes_it_better(mask: dict[int, int], more: int) -> None:
    order = [Verdict.YES, Verdict.IF, Verdict.NO]
    before = judge(GUEST, replace(HOST, mask={"venet": mask}))
    wider = {group: bits | more for group, bits in mask.items()}
    after = judge(GUEST, replace(HOST, mask={"venet": wider}))
    assert order.index(after.verdict) >= order.index(before.verdict)


@pytest.mark.parametrize("kind", GROUPS)
def test_the_names_of_bits_are_those_of_the_headers(kind: str) -> None:
    wire = dict(line.split(" = ", 1) for line in recorded() if " = " in line)
    for group, name in GROUPS[kind].items():
        assert wire[f"{kind}_GROUP_{name}".upper()] == str(group)
        for bit, word in BITS[kind, group].items():
            prefix = "SG" if name == "l4ro" else name.upper()
            constant = f"{kind.upper()}_{prefix}_{word.upper()}" if word != "csum" else f"{kind.upper()}_SG"
            assert wire[constant] == str(bit)


def test_a_bit_that_has_no_name_yet_is_told_by_its_number() -> None:
    assert bit_name("venet", 3, 0x80) == "venet group 3 bit 0x80"
