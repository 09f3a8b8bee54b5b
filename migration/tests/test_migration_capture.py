# SPDX-License-Identifier: MIT
"""Profiles of a real vbusd and a north without a guest, beside what libvirt's test driver says of both."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import socket
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base.errors import Blocked, Exit, Refused, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.virt import Connection
from vbuskit.base.wait import until
from vbuskit.ci.cli import main
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.client import Client
from vbuskit.drivers.host import Host, bus_of, serving
from vbuskit.drivers.host_abi import BusStatus, ClassStatus, Op, Request
from vbuskit.migration import capture
from vbuskit.migration.capture import capture_guest, capture_host
from vbuskit.migration.images import NOWHERE, SHARED, Mount, Reach, mounts_in
from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Verdict
from vbuskit.migration.profile import GuestProfile, HostProfile, Image
from vbuskit.migration.reading import parse
from vbuskit.migration.writing import canonical

CARD = UUID("5a4e6f7e-0000-4000-8000-000000000001")
DISK = UUID("5a4e6f7e-0000-4000-8000-000000000002")
VM = UUID("06140b5f-0887-471f-bb77-fb1bfe15948e")
HERE = UUID("e222b529-e1b1-4e42-8cb8-0d538a5ff5d4")
MAC = "52:54:00:00:00:01"
CONFIG, MTU, PAIRS = 3, 0x1, 0x2
NEGCAP = 3
SECRET = "geheim"

# As libvirt 9.0 says it, shortened.
CAPABILITIES = f"""
<capabilities><host><uuid>{HERE}</uuid><cpu><arch>x86_64</arch></cpu></host>
<guest><os_type>hvm</os_type><arch name='x86_64'><machine maxCpus='255'>pc-i440fx-7.2</machine>
<machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine><machine maxCpus='288'>pc-q35-7.2</machine>
<domain type='qemu'/>{{domains}}</arch></guest>
<guest><arch name='i686'><machine>other</machine></arch></guest></capabilities>"""
KVM = "<domain type='kvm'><machine canonical='pc-q35-5.2'>x</machine></domain>"
MODELS = """
<domainCapabilities><cpu><mode name='host-passthrough' supported='no'/><mode name='custom' supported='yes'>
<model usable='yes'>qemu64</model><model usable='no'>EPYC</model></mode></cpu></domainCapabilities>"""
NODE = """
<node><domain type='test'><name>vm1</name><uuid>{vm}</uuid><memory unit='MiB'>8</memory>
<os><type arch='x86_64' machine='{machine}'>hvm</type></os><cpu mode='custom'><model>qemu64</model></cpu>
<devices><graphics type='vnc' passwd='{secret}'/>
<shmem name='x'><model type='ivshmem-doorbell'/><server path='{path}'/><msi vectors='8'/></shmem></devices>
</domain><domain type='test'><name>bare</name><memory>8192</memory><os><type>hvm</type></os></domain>
<domain type='test' xmlns:t='http://libvirt.org/schemas/domain/test/1.0'><name>idle</name><memory>8192</memory>
<os><type>hvm</type></os><t:runstate>5</t:runstate></domain>
<pool type='dir'><name>images</name><target><path>{pool}</path></target></pool></node>"""


class Virt(Connection):
    """libvirt's test driver, with the words that QEMU's has and it has not."""

    domains = ""
    asked: Sequence[tuple[str, str]] = ()

    def capabilities(self) -> ET.Element:
        return ET.fromstring(CAPABILITIES.format(domains=self.domains))

    def domain_capabilities(self, arch: str, virt: str) -> ET.Element:
        self.asked = [*self.asked, (arch, virt)]
        return ET.fromstring(MODELS)


@dataclass
class Rig:
    """A bus with a card and a disk, a domain whose QEMU would be on it, and a north in its place."""

    vbusd: Host
    socket: Path
    library: Path
    bus: Path
    node: Path
    image: Path

    @property
    def uri(self) -> str:
        return f"test://{self.node}"

    def north(self) -> Client:
        client = Client(self.library, self.bus)
        client.negotiate()
        return client

    def host(self, domains: str = "") -> HostProfile:
        with Virt(self.uri) as virt:
            virt.domains = domains
            return capture_host(self.vbusd, virt)

    def guest(self) -> GuestProfile:
        with Virt(self.uri) as virt:
            return capture_guest(self.vbusd, virt, "vm1")


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    return {
        name: artifact.path for name, artifact in host_programs(Runner(), Places.from_environment()).items()
    }


@pytest.fixture
def rig(programs: dict[str, Path], tmp_path: Path) -> Iterator[Rig]:
    pool, image = tmp_path / "pool", tmp_path / "pool/disk.img"
    pool.mkdir()
    image.write_bytes(bytes((1 << 20) + 100))
    node = tmp_path / "node.xml"
    node.write_text(NODE.format(vm=VM, machine="q35", secret=SECRET, path=tmp_path / "q", pool=pool))
    socket = tmp_path / "s"
    with serving(Runner(), programs["vbusd"], socket, output=tmp_path / "log"), Host(socket) as vbusd:
        vbusd.add_bus("vm", tmp_path / "q", window_mib=4, vectors=16)
        vbusd.add_device("vm", CARD, "venet-loopback", mac=MAC, mtu=9000)
        vbusd.add_device("vm", DISK, "vblk-file", argument=str(image), serial="S1", block_size=4096)
        yield Rig(vbusd, socket, programs["libvbus_client.so"], tmp_path / "q", node, image)


def consume(client: Client, uuid: UUID, group: int, bits: int) -> int:
    """Open a device and ask for feature bits, as a driver does."""
    handle = client.open(uuid)
    wanted = group.to_bytes(4, "little") + bits.to_bytes(4, "little")
    client.device_call(handle, NEGCAP, wanted)
    return handle


# ---- Guest ----


def test_the_bits_that_a_guest_has_agreed_on_are_in_its_profile_and_no_others(rig: Rig) -> None:
    with rig.north() as client:
        consume(client, CARD, CONFIG, PAIRS)
        consume(client, DISK, 1, 0x3)
        guest = rig.guest()
    active = {device.uuid: device.active for device in guest.devices}
    assert active == {CARD: {CONFIG: PAIRS}, DISK: {1: 0x3}}
    assert guest.devices[0].limits == {"mtu": 1500}  # it was not told of the 9000


def test_what_else_a_guest_counts_on_is_in_its_profile(rig: Rig) -> None:
    with rig.north() as client:
        consume(client, CARD, CONFIG, MTU)
        consume(client, DISK, 1, 0x1)
        guest = rig.guest()
    card, disk = guest.devices
    assert (guest.name, guest.identity, guest.host, guest.arch) == ("vm1", VM, HERE, "x86_64")
    assert (guest.machine, guest.cpu, guest.host_name) == ("pc-q35-7.2", "qemu64", rig.host().name)
    assert (guest.bus.window, guest.bus.vectors, guest.bus.connector) == (4, 16, "ivshmem")
    assert guest.bus.name == "vm"
    assert (guest.bus.rom, guest.drivers) == (0, {})
    assert (card.type, card.version, card.klass, card.is_open) == ("venet", 1, "venet-loopback", True)
    assert (card.mac, card.limits, card.backend, card.capacity) == (MAC, {"mtu": 9000}, "", 0)
    assert (disk.backend, disk.capacity, disk.block_size) == (str(rig.image), 1 << 20, 4096)
    assert (disk.mac, disk.limits, disk.serial) == ("", {"segments": 64}, "S1")


def test_a_guest_that_is_not_told_its_mtu_counts_on_the_usual_one_and_on_its_rings(rig: Rig) -> None:
    with rig.north() as client:
        handle = consume(client, CARD, CONFIG, PAIRS)
        client.close_device(handle)
        client.venet(CARD)  # link up, one pair, and the bits that the library asks for
        (card, _) = rig.guest().devices
    mtu = 9000 if card.active.get(CONFIG, 0) & MTU else 1500
    assert card.limits == {"pairs": 1, "mtu": mtu}


def test_a_closed_device_has_nothing_active(rig: Rig) -> None:
    with rig.north():
        assert {(device.is_open, len(device.active)) for device in rig.guest().devices} == {(False, 0)}


def test_a_guest_may_stay_on_the_host_that_it_runs_on(rig: Rig) -> None:
    with rig.north() as client:
        client.venet(CARD)
        consume(client, DISK, 1, 0x7)
        guest, host = rig.guest(), rig.host(KVM)
    judgement = judge(guest, host)
    assert judgement.verdict is Verdict.YES, judgement.findings


def test_both_profiles_are_read_again_as_they_were_written(rig: Rig) -> None:
    with rig.north() as client:
        client.venet(CARD)
        rig.vbusd.mask("vm", 1, 0x1)
        guest, host = rig.guest(), rig.host()
    assert parse(canonical(guest), GuestProfile, "guest") == guest
    assert parse(canonical(host), HostProfile, "host") == host


def test_a_password_of_the_domain_is_in_no_profile(rig: Rig) -> None:
    assert SECRET in rig.node.read_text()
    with rig.north():
        assert not any(SECRET.encode() in canonical(each) for each in (rig.guest(), rig.host()))


def test_the_queues_are_those_up_to_the_last_one_that_something_is_bound_to() -> None:
    raw = BusStatus()
    raw.queue[0].signals, raw.queue[2].signals, raw.counters.queue[7].events = 1, 3, 9
    assert capture.registered(bus_of(raw)) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, (0, False)),
        ({"romsize": "65536"}, (0, False)),
        ({"romsize": "65536", "romfile": "x"}, (65536, True)),
    ],
)
def test_a_rom_is_where_an_override_or_a_global_names_its_file(
    words: dict[str, str], told: tuple[int, bool]
) -> None:
    assert capture.rom(*domain_with_rom(words)) == told
    values = "".join(f"<q:arg value='ivshmem-doorbell.{name}={value}'/>" for name, value in words.items())
    of_all = f"<domain xmlns:q='{capture.QEMU}'><q:commandline>{values}</q:commandline></domain>"
    assert capture.rom(ET.fromstring(of_all), ET.Element("shmem")) == told


def test_the_bar_of_a_rom_is_the_next_power_of_two(tmp_path: Path) -> None:
    (tmp_path / "rom").write_bytes(bytes(70_000))
    assert capture.rom(*domain_with_rom({"romfile": str(tmp_path / "rom")})) == (131_072, False)


def test_a_rom_whose_file_is_gone_is_not_told_as_none() -> None:
    with pytest.raises(Blocked, match="a ROM's size is not known"):
        capture.rom(*domain_with_rom({"romfile": "/no/where"}))


def test_a_host_tells_of_the_rom_that_it_is_asked_for(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "rom").write_bytes(bytes(70_000))
    assert rig.host().bus.rom == 0
    assert capture_host(rig.vbusd, None, rom=tmp_path / "rom").bus.rom == 131_072


@pytest.mark.parametrize(
    ("xml", "master"),
    [("<q:arg value='-global'/><q:arg value='ivshmem-doorbell.master=on'/>", "global"), ("", "override")],
)
def test_how_a_domain_says_that_it_may_migrate_is_told(xml: str, master: str) -> None:
    domain = f"<domain xmlns:q='{capture.QEMU}'><q:commandline>{xml}</q:commandline></domain>"
    assert capture.master(ET.fromstring(domain)) == master


def domain_with_rom(words: dict[str, str]) -> tuple[ET.Element, ET.Element]:
    of = "".join(
        f"<q:property name='{name}' type='string' value='{value}'/>" for name, value in words.items()
    )
    root = ET.fromstring(
        f"<domain xmlns:q='{capture.QEMU}'><devices><shmem><alias name='ua-vbus'/></shmem></devices>"
        f"<q:override><q:device alias='ua-vbus'><q:frontend>{of}</q:frontend></q:device>"
        "</q:override></domain>"
    )
    (shmem,) = root.iterfind("devices/shmem")
    return root, shmem


@pytest.mark.parametrize(
    ("xml", "model"),
    [
        ("<cpu mode='custom'><model>EPYC</model></cpu>", "EPYC"),
        ("<cpu mode='host-passthrough'/>", "host-passthrough"),
        ("", "default"),
    ],
)
def test_a_cpu_without_a_model_is_named_by_its_mode(xml: str, model: str) -> None:
    assert capture.cpu(ET.fromstring(f"<domain type='kvm'>{xml}</domain>")) == model
    emulated = f"tcg:{model}" if "<model>" in xml else model
    assert capture.cpu(ET.fromstring(f"<domain type='qemu'>{xml}</domain>")) == emulated


class Said:
    """A domain whose agent has ended a program that printed this."""

    name = "vm1"

    def __init__(self, out: str) -> None:
        self._out = out

    def agent(self, command: str, seconds: int) -> str:
        done = {"exited": True, "exitcode": 0, "out-data": base64.b64encode(self._out.encode()).decode()}
        return json.dumps({"return": {"pid": 7} if '"guest-exec"' in command else done})


def test_what_a_guest_says_of_its_drivers_is_taken_as_versions_only() -> None:
    said = "vbus/version:0.2\nvenet/version:\x1b[31m\nvblk/version:1 2\nother/version:1\nnonsense\n"
    assert capture.drivers(Said(said)) == {"vbus": "0.2"}  # type: ignore[arg-type]


# ---- What a guest's capture refuses ----


def test_a_guest_that_libvirt_does_not_know_is_an_error_that_names_those_it_knows(rig: Rig) -> None:
    with (
        Virt(rig.uri) as virt,
        pytest.raises(UsageError, match=r"nobody: libvirt at .* no such guest") as error,
    ):
        capture_guest(rig.vbusd, virt, "nobody")
    assert error.value.hint == "there are: bare, vm1"


def test_a_guest_that_is_off_is_not_captured(rig: Rig) -> None:
    with Virt(rig.uri) as virt, pytest.raises(Blocked, match="idle: is off"):
        capture_guest(rig.vbusd, virt, "idle")


def test_a_guest_without_a_bus_is_refused(rig: Rig) -> None:
    with Virt(rig.uri) as virt, pytest.raises(Refused, match="bare: has no device"):
        capture_guest(rig.vbusd, virt, "bare")


def test_a_guest_that_has_not_negotiated_is_not_captured(rig: Rig) -> None:
    with pytest.raises(Blocked, match="vm1: its driver has not negotiated with bus vm yet"):
        rig.guest()


def test_a_guest_on_two_buses_is_not_captured_by_half(rig: Rig, tmp_path: Path) -> None:
    second = (
        f"<shmem name='y'><model type='ivshmem-doorbell'/><server path='{tmp_path}/q2'/></shmem></devices>"
    )
    rig.node.write_text(rig.node.read_text().replace("</devices>", second, 1))
    rig.vbusd.add_bus("vm-b", tmp_path / "q2")
    with rig.north(), pytest.raises(Refused, match=r"vm1: is on the buses vm and vm-b"):
        rig.guest()


@pytest.mark.parametrize("what", ["device", "bus"])
def test_what_goes_while_a_guest_is_captured_is_not_taken_for_what_it_never_had(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Devices are asked for by their number, so that the one after a device that goes is passed over."""
    ask = Host._ask

    def asked(vbusd: Host, message: Request) -> bytes:
        answer = ask(vbusd, message)
        if message.op == Op.DEVICE_STATUS and message.index == 0:
            monkeypatch.setattr(Host, "_ask", ask)
            vbusd.remove_device("vm", CARD) if what == "device" else vbusd.remove_bus("vm")
        return answer

    with rig.north():
        monkeypatch.setattr(Host, "_ask", asked)
        with pytest.raises(Blocked, match="bus vm: changed while it was looked at"):
            rig.guest()


def test_the_guest_of_a_vbusd_that_does_not_tell_features_is_blocked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer ends before them, and its workers say one ring for any number."""
    ask = Host._ask

    def older(vbusd: Host, message: Request) -> bytes:
        answer = ask(vbusd, message)
        return answer[: ClassStatus.feature.offset] if message.op == Op.CLASS_STATUS else answer

    monkeypatch.setattr(Host, "_ask", older)
    with rig.north(), pytest.raises(Blocked, match="does not tell the features of class"):
        rig.guest()
    with pytest.raises(Blocked, match="does not tell the features of class"):
        rig.host()


# ---- Host ----


def test_a_host_says_what_its_vbusd_and_its_libvirt_say(rig: Rig) -> None:
    host = rig.host()
    assert (host.identity, host.arch, host.libvirt.count(".")) == (HERE, "x86_64", 2)
    assert (host.machines, host.cpus) == (("pc-i440fx-7.2", "pc-q35-7.2"), ("tcg:qemu64",))
    classes = {klass.name: klass for klass in host.classes}
    for there in rig.vbusd.classes():
        assert classes[there.name].limits == there.limits
        assert classes[there.name].groups == there.groups or there.name == "venet-tap"
    assert host.mask == {} and host.masks == {}


def test_cpu_models_of_kvm_and_of_emulation_are_told_apart(rig: Rig) -> None:
    with Virt(rig.uri) as virt:
        virt.domains = KVM
        host = capture_host(rig.vbusd, virt)
        assert "pc-q35-5.2" in host.machines and host.cpus == ("qemu64", "tcg:qemu64")
        assert virt.asked == [("x86_64", "kvm"), ("x86_64", "qemu")]


def test_what_is_masked_is_in_the_profile_and_not_taken_from_the_class(rig: Rig) -> None:
    rig.vbusd.mask("vm", 1, 0x1, uuid=CARD)
    rig.vbusd.mask("vm", 3, 0x2)
    expected = {CARD: {1: 0x1, 3: 0x2}, DISK: {3: 0x2}}
    assert until(lambda: rig.host().masks == expected, 20)
    assert next(each for each in rig.host().classes if each.name == "venet-loopback").groups[1] == 0x1


def test_masks_and_images_of_buses_that_are_only_written_down_count_as_well(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(bytes(4096))
    (tmp_path / "buses").mkdir()
    (tmp_path / "buses/vm9.toml").write_text(
        f'[bus]\nmask = {{ 3 = 0x1 }}\n[[device]]\nuuid = "{VM}"\nclass = "vblk-file"\nimage = "{other}"\n'
        "mask = { 1 = 0x2 }\n"
    )
    monkeypatch.setattr(capture, "BUSES", tmp_path / "buses")
    host = rig.host()
    assert host.masks == {VM: {3: 0x1, 1: 0x2}}
    assert [image.path for image in host.images] == [str(other), str(rig.image)]


def test_the_images_of_buses_pools_and_of_the_command_are_there_with_their_sizes(rig: Rig) -> None:
    beside = rig.image.with_name("beside.img")
    beside.write_bytes(bytes(512))
    asked = rig.node
    with Virt(rig.uri) as virt:
        host = capture_host(rig.vbusd, virt, [str(asked), "/nowhere/at/all"])
    sizes = {image.path: image.size for image in host.images}
    assert sizes == {str(rig.image): (1 << 20) + 100, str(beside): 512, str(asked): asked.stat().st_size}


def test_a_pool_that_is_gone_and_names_that_cannot_be_shown_stop_no_capture(rig: Rig) -> None:
    odd = [
        Path(os.fsdecode(bytes(rig.image.parent) + name)) for name in (b"/\xff", b"/a\nb", b"/a\xc2\xa0b")
    ]
    for each in odd:
        each.write_bytes(bytes(512))
    host = rig.host()
    assert [image.path for image in host.images] == [str(rig.image)]
    assert parse(canonical(host), HostProfile, "host") == host
    for each in odd:
        each.unlink()
    rig.image.rename(rig.image.parent.with_name("moved"))
    rig.image.parent.rmdir()
    assert rig.host().images == ()


def test_a_socket_that_a_card_stands_on_is_told_with_whose_it_is(rig: Rig, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(str(tmp_path / "passt"))
        peer.listen()
        rig.vbusd.add_device("vm", VM, "venet-passt", mac=MAC, argument=str(tmp_path / "passt"))
        host = rig.host()
    assert host.held == {str(tmp_path / "passt"): VM} and str(tmp_path / "passt") in host.networks


def test_taps_are_those_that_vbusd_could_open_and_that_are_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel has them of `ip tuntap add`; vbusd cannot open tuns and multi_queue."""
    found = {
        "free": ("0x1802", "0"),
        "busy": ("0x5802", "1"),
        "many": ("0x5902", "0"),
        "tun": ("0x1801", "0"),
    }
    for name, (flags, carrier) in {**found, "down": ("0x1802", ""), "lo": ("", "1")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "carrier").write_text(f"{carrier}\n")
        if flags:
            (tmp_path / name / "tun_flags").write_text(f"{flags}\n")
    monkeypatch.setattr(capture, "INTERFACES", tmp_path)
    assert list(capture.free_taps()) == ["free"]


@pytest.mark.parametrize(("linux", "bits"), [((6, 1), 0x0F), ((6, 2), 0x4F)])
def test_taps_of_a_kernel_before_6_2_have_no_uso(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, linux: tuple[int, int], bits: int
) -> None:
    monkeypatch.setattr(capture, "linux", lambda: linux)
    groups = {klass.name: klass.groups for klass in rig.host().classes}
    assert (groups["venet-tap"][0], groups["venet-tap"][2]) == (bits, bits)
    assert groups["venet-loopback"][0] == 0x4F


def test_without_libvirt_a_host_is_known_by_what_is_derived_from_its_machine_id(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = "0123456789abcdef0123456789abcdef"
    (tmp_path / "machine-id").write_text(f"{machine}\n")
    monkeypatch.setattr(capture, "MACHINE_ID", tmp_path / "machine-id")
    host = capture_host(rig.vbusd, None)
    assert host.identity == capture_host(rig.vbusd, None).identity != UUID(machine)
    assert machine.encode() not in canonical(host) and (host.machines, host.qemu) == ((), "unknown")
    (tmp_path / "machine-id").write_text("uninitialized\n")
    with pytest.raises(Blocked, match="gives this host no identity"):
        capture_host(rig.vbusd, None)


# ---- Images ----

MOUNTINFO = """\
36 35 0:30 / / rw,relatime shared:1 - ext4 /dev/root rw
40 36 0:41 / /srv/a ro,noatime shared:2 master:1 - nfs4 host:/a rw,vers=4.2,local_lock=none,addr=10.0.0.1
41 36 0:42 / /srv/b rw - nfs host:/b rw,vers=3,local_lock=all
"""


def test_mounts_are_read_by_number_kind_and_options(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    found = mounts_in(tmp_path / "mountinfo")
    assert {number: (mount.kind, mount.shared, mount.lock) for number, mount in found.items()} == {
        36: ("ext4", False, "local"),
        40: ("nfs4", True, "ofd"),
        41: ("nfs", True, "local"),
    }


def test_a_lock_on_a_file_system_that_nobody_shares_or_has_tried_is_local() -> None:
    kinds = {kind: Mount(kind, frozenset()).lock for kind in ["ext4", "xfs", "tmpfs", *SHARED]}
    assert {kind for kind, lock in kinds.items() if lock == "ofd"} == {
        "nfs",
        "nfs4",
        "ceph",
        "gfs2",
        "fuse.glusterfs",
        "lustre",
    }


def test_an_image_has_its_size_and_a_folder_is_none(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(bytes(5000))
    assert Reach().image(str(file)) == Image(path=str(file), size=5000, lock="local")
    assert Reach().image(str(tmp_path)) is None and Reach().image(str(tmp_path / "no")) is None


def test_an_image_on_what_is_shared_says_so(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(bytes(512))
    mounts = dict.fromkeys(Reach().mounts, Mount("nfs4", frozenset({"rw"})))
    image = Reach(mounts).image(str(file))
    assert image is not None and (image.shared, image.lock) == (True, "ofd")
    assert Reach({}).image(str(file)) == Image(path=str(file), size=512, lock=NOWHERE.lock)


# ---- The command ----


def test_the_command_writes_a_whole_file_or_none(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gate", "capture", "guest", "vm1", "--socket", str(rig.socket), "--connect", rig.uri]
    out = tmp_path / "vm1.json"
    out.write_text("before")
    assert main([*words, "--out", str(out)]) == Exit.BLOCKED
    assert out.read_text() == "before" and "not negotiated" in capsys.readouterr().err
    with rig.north():
        assert main([*words, "--out", str(out), "--no-agent"]) == Exit.OK
        assert main(words) == Exit.OK
    parsed = [parse(raw, GuestProfile, "x") for raw in (out.read_bytes(), capsys.readouterr().out.encode())]
    assert parsed[0].identity == parsed[1].identity == VM
    assert out.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert main([*words, "--out", "/proc/nowhere/x"]) == Exit.BLOCKED
    assert len(capsys.readouterr().err.splitlines()) <= 2


def test_the_command_says_in_a_line_what_it_has_to_do_without(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = ["gate", "capture", "host", "--socket"]
    assert main([*host, str(rig.socket), "--connect", "none"]) == Exit.OK
    said = capsys.readouterr()
    assert parse(said.out.encode(), HostProfile, "x").cpus == () and said.err.count("\n") == 1
    rom = ["--rom", str(tmp_path / "no.rom")]
    assert main([*host, str(rig.socket), "--connect", "none", *rom]) == Exit.BLOCKED
    assert "no.rom: No such file" in capsys.readouterr().err
    assert main([*host, str(tmp_path / "no"), "--connect", "none"]) == Exit.BLOCKED
    assert "no vbusd answers" in capsys.readouterr().err
    nowhere = f"qemu+unix:///system?socket={tmp_path}/no"
    assert main([*host, str(rig.socket), "--connect", nowhere]) == Exit.BLOCKED
    assert re.search(r"^vbuskit: .*no", capsys.readouterr().err)


YARDSTICK = "import argparse, ctypes, dataclasses, json, libvirt, msgspec, socket, xml.etree.ElementTree"


def test_a_capture_costs_little_more_than_the_libraries_that_it_loads(rig: Rig) -> None:
    python = [sys.executable, "-P"]
    command = [*python, "-m", "vbuskit.ci.cli", "gate", "capture", "guest", "vm1"]
    command += ["--socket", str(rig.socket), "--connect", rig.uri]
    with rig.north():
        pairs = [(cpu_of(command), cpu_of([*python, "-c", YARDSTICK])) for _ in range(5)]
    ours, libraries = (min(each) for each in zip(*pairs, strict=True))
    assert ours <= 3 * libraries  # 1.5 when it was written


def cpu_of(command: Sequence[str]) -> float:
    """Seconds of CPU, which a busy machine leaves much as they are."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    Runner()(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
