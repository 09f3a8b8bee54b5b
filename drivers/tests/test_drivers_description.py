# SPDX-License-Identifier: MIT
"""A bus that is written down: read from TOML and from a domain, made, removed, written again."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from vbuskit.base import wait
from vbuskit.base.errors import Refused, UsageError, VbuskitError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.drivers import description
from vbuskit.drivers.build import host_programs
from vbuskit.drivers.description import BusDescription, DeviceDescription, create, in_domain, prepare, read
from vbuskit.drivers.host import Host, serving
from vbuskit.drivers.host_abi import EventKind

CARD = UUID("5a4e6f7e-0000-4000-8000-000000000001")
TOML = f"""
[bus]
socket = "SOCKET"
window = 4
vectors = 16
mask = {{ 3 = 1 }}

[[device]]
uuid = "{CARD}"
class = "venet-loopback"
mac = "52:54:00:aa:bb:cc"
mtu = 9000
link = false
mask = {{ 1 = 0x1 }}

[[device]]
uuid = "5a4e6f7e-0000-4000-8000-000000000002"
class = "venet-loopback"
"""


def written(folder: Path, text: str = TOML) -> Path:
    path = folder / "vm1.toml"
    path.write_text(text.replace("SOCKET", str(folder / "q")))
    return path


def test_a_file_gives_the_bus_its_name_and_a_device_its_address(tmp_path: Path) -> None:
    bus = read(written(tmp_path))
    assert (bus.name, bus.window, bus.vectors, dict(bus.mask)) == ("vm1", 4, 16, {3: 1})
    assert bus.devices[0] == DeviceDescription(
        uuid=CARD, klass="venet-loopback", mac="52:54:00:aa:bb:cc", mtu=9000, link=False, mask={1: 1}
    )
    assert bus.devices[1].mac == "52:54:00:00:00:02"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[bus]\nwindows = 4\n", "windows: not a word"),
        ("[buses]\n", "buses: not a word"),
        ("[[device]]\nclass = 'venet-tap'\n", "device 1: a device needs uuid and class"),
        ("[[device]]\nclass = 'venet-tap'\nuuid = 'x'\n", "uuid 'x' is no UUID"),
        (f"[[device]]\nclass = 'a'\nuuid = '{CARD}'\ntap = 'a'\nimage = 'b'\n", "tap and image exclude"),
        (f"[[device]]\nclass='a'\nuuid='{CARD}'\n" * 2, "two devices have one uuid"),
        (f"[[device]]\nclass = 'a'\nuuid = '{CARD}'\nlink = 'perhaps'\n", "'perhaps' is neither on nor off"),
        ("[bus]\nconnector = 'files'\n", "connector: 'files' is neither ivshmem nor file"),
        ("[bus]\nwindow = 1.5\n", "window: 1.5 is no number"),
        ("[bus]\nmask = 3\n", "mask is no table"),
        ("bus = 3\n", "needs a table"),
        ("[bus\n", "is no TOML"),
    ],
)
def test_a_wrong_word_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match="vm1") as caught:
        read(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_bus_survives_the_way_through_a_domain(tmp_path: Path) -> None:
    bus = read(written(tmp_path))
    metadata, shmem, override = parts(description.domain_xml(bus))
    domain = ET.Element("domain")
    ET.SubElement(domain, "name").text = "another"
    domain.append(metadata)
    assert in_domain(ET.tostring(domain, encoding="unicode")) == bus
    assert [server.get("path") for server in shmem.iter("server")] == [str(tmp_path / "q")]
    assert [word.get("name") for word in override.iter(f"{{{description.QEMU}}}property")] == ["master"]


def parts(fragments: str) -> list[ET.Element]:
    return list(ET.fromstring(f"<all>{fragments}</all>"))


def test_a_domain_without_the_metadata_has_no_bus() -> None:
    assert in_domain("<domain><name>vm</name><metadata/></domain>") is None
    with pytest.raises(UsageError, match="is no XML"):
        in_domain("<domain>")


def test_what_is_described_is_made_and_what_is_made_can_be_described(tmp_path: Path) -> None:
    bus = read(written(tmp_path))
    with vbusd(tmp_path) as host:
        create(host, bus)
        seen = BusDescription.seen(host, "vm1")
        assert (seen.name, seen.socket, seen.window, seen.vectors) == ("vm1", tmp_path / "q", 4, 16)
        assert [device.uuid for device in seen.devices] == [device.uuid for device in bus.devices]
        assert not seen.devices[0].link and seen.devices[1].link
        assert wait.until(lambda: masks_of(host) == [{1: 1, 3: 1}, {3: 1}], 60)
        with pytest.raises(Refused, match="vm1: exists"):
            create(host, bus)
        prepare(host, bus)
        description.release(host, bus)
        description.release(host, bus)
        assert host.buses() == []


def test_a_disk_that_is_there_is_described_with_all_its_words(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    words = f"image = '{tmp_path}/disk'\nread_only = true\nblock_size = 4096\nserial = 'S'\n"
    device = f"[[device]]\nuuid = '{CARD}'\nclass = 'vblk-file'\n{words}"
    bus = read(written(tmp_path, f"[bus]\nsocket = 'SOCKET'\n{device}"))
    with vbusd(tmp_path) as host:
        create(host, bus)
        assert BusDescription.seen(host, "vm1").devices == bus.devices


def test_a_guest_that_looks_at_once_sees_each_device_as_it_is_described(tmp_path: Path) -> None:
    with vbusd(tmp_path) as host, Host(tmp_path / "s") as watcher:
        events = watcher.events(seconds=60)
        create(host, read(written(tmp_path)))
        host.remove_bus("vm1")
        kinds = list(iter(lambda: next(events).kind, EventKind.BUS_REMOVED))
    started = kinds.pop(1)
    assert started is EventKind.WORKER_STARTED
    added = EventKind.DEVICE_ADDED
    assert kinds == [EventKind.BUS_ADDED, EventKind.MASK_CHANGED, added, added]


def test_a_folder_is_a_bus_too_but_none_for_a_domain(tmp_path: Path) -> None:
    bus = read(written(tmp_path, "[bus]\nconnector = 'file'\nsocket = 'SOCKET'\n"))
    assert read(written(tmp_path, "[bus]\nconnector = 'file'\n")).socket == Path("/run/vbus/vm1")
    with vbusd(tmp_path) as host:
        create(host, bus)
        assert sorted(path.name for path in (tmp_path / "q").iterdir())[:2] == ["alive", "to-guest-0"]
        assert BusDescription.seen(host, "vm1") == bus
    with pytest.raises(UsageError, match="QEMU cannot connect to a folder"):
        description.domain_xml(bus)
    with pytest.raises(UsageError, match="connector: not a word"):
        in_domain(
            f"<domain><metadata><bus xmlns='{description.NAMESPACE}' connector='file'/></metadata></domain>"
        )


def test_a_bus_with_one_impossible_device_is_not_made_at_all(tmp_path: Path) -> None:
    text = TOML + "[[device]]\nuuid = '5a4e6f7e-0000-4000-8000-000000000003'\nclass = 'venet-nothing'\n"
    with vbusd(tmp_path) as host:
        with pytest.raises(VbuskitError, match="venet-nothing"):
            create(host, read(written(tmp_path, text)))
        assert host.buses() == [] and not (tmp_path / "q").exists()


def masks_of(host: Host) -> list[dict[int, int]]:
    """By group, of each device; its worker tells."""
    return [{n: g.masked for n, g in d.groups.items() if g.masked} for d in host.devices("vm1")]


@contextmanager
def vbusd(folder: Path) -> Iterator[Host]:
    """An administrator's connection to a vbusd that lives as long as the block."""
    program = host_programs(Runner(), Places.from_environment())["vbusd"].path
    with serving(Runner(), program, folder / "s", output=folder / "log"), Host(folder / "s") as host:
        yield host
