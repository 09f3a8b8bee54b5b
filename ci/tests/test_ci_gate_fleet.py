# SPDX-License-Identifier: MIT
"""`vbuskit gate baseline | plan | matrix` from the command line, with profiles that are files."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.ci.gates import matrix
from vbuskit.ci.gates.baseline import ALIAS
from vbuskit.drivers.description import QEMU, BusDescription, domain_xml
from vbuskit.migration import GuestProfile, HostProfile, Verdict, judge
from vbuskit.migration.baseline import consumer
from vbuskit.migration.fleet import between
from vbuskit.migration.profile import DeviceClass, HostBus
from vbuskit.migration.reading import parse

VENET = {0: 0x4F, 1: 0x1, 2: 0x4F, 3: 0x7}
VBLK = {1: 0x7, 3: 0x3}


def host(name: str, sg: int = 0x4F, **words: Any) -> HostProfile:
    usual: dict[str, Any] = {"machines": ("pc-q35-7.2", "pc-q35-10.0"), "cpus": ("qemu64",)}
    return HostProfile(
        schema=1,
        identity=UUID(int=int.from_bytes(name.encode()[:16])),
        name=name,
        release="0.2.0",
        captured="then",
        arch="x86_64",
        qemu="10.0.13",
        libvirt="9.0.0",
        bus=HostBus(version=1),
        classes=(
            DeviceClass(name="venet-tap", type="venet", version=1, groups={**VENET, 0: sg}),
            DeviceClass(name="vblk-file", type="vblk", version=1, groups=VBLK),
        ),
        **usual | words,
    )


def written(folder: Path, *profiles: HostProfile | GuestProfile) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.json" for number in range(len(profiles))]
    for path, profile in zip(paths, profiles, strict=True):
        path.write_bytes(msgspec.json.encode(profile))
    return [str(path) for path in paths]


OLD, NEW = host("old", 0x0F, machines=("pc-q35-7.2",)), host("new")
GUEST = replace(consumer(OLD), name="vm1")


def test_baseline_says_what_is_common_and_the_commands_that_keep_a_guest_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "guest.json").write_bytes(msgspec.json.encode(GUEST))
    words = [*written(tmp_path / "pool", OLD, NEW), "--guest", str(tmp_path / "guest.json")]
    assert cli.main(["gate", "baseline", *words]) == Exit.OK
    said = capsys.readouterr().out
    assert "machine types: pc-q35-7.2\n" in said
    assert "class venet-tap: venet sg.csum, venet sg.tso4, venet sg.tso6, venet sg.ecn, venet event" in said
    assert [line for line in said.splitlines() if "host mask" in line] == [
        "on new: vbuskit host mask vm1 0 0x40  # venet sg.uso"
    ]
    xml = said[said.index("<os>") :]
    root = ET.fromstring(f"<domain>{xml}</domain>")
    assert [each.get("machine") for each in root.iter("type")] == ["pc-q35-7.2"]
    assert [each.text for each in root.iter("model")] == ["qemu64"]
    assert properties(root) == {"master": "on"}


def properties(domain: ET.Element) -> dict[str | None, str | None]:
    return {each.get("name"): each.get("value") for each in domain.iter(f"{{{QEMU}}}property")}


@pytest.mark.parametrize(
    ("roms", "size"),
    [((0, 65536), None), ((32768, 32768), 32768), ((32768, 65536), 65536), ((4, 99999), 131072)],
)
def test_the_domain_has_a_romsize_where_each_host_has_a_rom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], roms: tuple[int, int], size: int | None
) -> None:
    pool = [
        replace(each, bus=replace(each.bus, rom=rom)) for each, rom in zip((OLD, NEW), roms, strict=True)
    ]
    assert cli.main(["gate", "baseline", "--json", *written(tmp_path / "pool", *pool)]) == Exit.OK
    xml = json.loads(capsys.readouterr().out)["domain"]
    said = properties(ET.fromstring(f"<domain>{xml}</domain>"))
    assert said == {"master": "on"} | ({"romsize": str(size)} if size else {})


def test_where_a_libvirt_passes_over_overrides_the_domain_says_it_by_global(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (replace(each, bus=replace(each.bus, rom=65536)) for each in (OLD, NEW))
    paths = written(tmp_path / "pool", replace(old, libvirt="7.0.0"), new)
    assert cli.main(["gate", "baseline", "--json", *paths]) == Exit.OK
    root = ET.fromstring(f"<domain>{json.loads(capsys.readouterr().out)['domain']}</domain>")
    assert [each.get("value") for each in root.iter(f"{{{QEMU}}}arg")] == [
        *("-global", "ivshmem-doorbell.master=on"),
        *("-global", "ivshmem-doorbell.romsize=65536"),
    ]
    assert properties(root) == {}


def test_a_cpu_that_is_only_emulated_is_named_as_libvirt_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = written(tmp_path / "pool", replace(OLD, cpus=("tcg:qemu64",)))
    assert cli.main(["gate", "baseline", "--json", path]) == Exit.OK
    xml = json.loads(capsys.readouterr().out)["domain"]
    assert "<domain type='qemu'>" in xml
    assert [each.text for each in ET.fromstring(f"<domain>{xml}</domain>").iter("model")] == ["qemu64"]


def test_the_bridge_has_the_alias_that_our_own_words_for_a_domain_give_it() -> None:
    ours = domain_xml(BusDescription(name="vm1", socket=Path("/run/vbuskit/bus/vm1")))
    assert f'alias name="{ALIAS}"' in ours


def test_the_baseline_is_a_host_that_a_guest_can_be_checked_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "pool", OLD, NEW)
    assert cli.main(["gate", "baseline", str(tmp_path / "pool"), "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    shared = parse(json.dumps(found["baseline"]).encode(), HostProfile, "baseline")
    assert judge(GUEST, shared).verdict is Verdict.YES
    assert judge(consumer(NEW), shared).verdict is Verdict.NO
    assert found["commands"] == {"old": [], "new": ["vbuskit host mask BUS 0 0x40  # venet sg.uso"]}


def test_a_mask_that_a_release_does_not_heed_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = written(tmp_path / "pool", OLD, replace(NEW, release="0.1.0"))
    assert cli.main(["gate", "baseline", *paths]) == Exit.OK
    said = capsys.readouterr().out
    assert (
        "mask BUS 0 0x40  # venet sg.uso; vbuskit 0.1.0 does not heed it: start the guest elsewhere\n"
        in said
    )


def test_rings_that_no_mask_makes_fewer_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (
        replace(each, classes=(replace(OLD.classes[0], limits={"pairs": pairs, "mtu": 1500 * pairs}),))
        for each, pairs in ((OLD, 2), (NEW, 8))
    )
    assert cli.main(["gate", "baseline", *written(tmp_path / "pool", few, many)]) == Exit.OK
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("on ")]
    assert said == [
        "on new: # class venet-tap has 8 pairs, and all have 2: no mask makes it that; "
        "a mask of venet config.pairs leaves 1"
    ]


def test_where_a_group_is_two_types_the_mask_is_each_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = replace(OLD.classes[0], groups={**VENET, 3: 0x6})  # without config.mtu, which is vblk's resize
    paths = written(tmp_path / "pool", replace(OLD, classes=(cards, OLD.classes[1])), host("new", 0x4F))
    (tmp_path / "guest.json").write_bytes(msgspec.json.encode(GUEST))
    assert cli.main(["gate", "baseline", *paths]) == Exit.OK
    assert "mask BUS 3 0x1 --device UUID-of-venet-tap  # venet config.mtu" in capsys.readouterr().out
    assert cli.main(["gate", "baseline", *paths, "--guest", str(tmp_path / "guest.json")]) == Exit.OK
    card = GUEST.devices[0].uuid
    assert f"mask vm1 3 0x1 --device {card}  # venet config.mtu" in capsys.readouterr().out


def test_a_pool_without_anything_in_common_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = written(tmp_path / "pool", OLD, host("new", machines=("pc-q35-10.0",)))
    assert cli.main(["gate", "baseline", *paths]) == Exit.REFUSED
    assert capsys.readouterr().out.startswith("no guest runs on all 2: machine type: none that all have\n")


def test_a_guests_name_is_quoted_for_the_shell_it_is_pasted_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = replace(GUEST, name="vm1; reboot")
    (tmp_path / "guest.json").write_bytes(msgspec.json.encode(bad))
    words = [*written(tmp_path / "pool", OLD, NEW), "--guest", str(tmp_path / "guest.json")]
    assert cli.main(["gate", "baseline", *words]) == Exit.OK
    assert "vbuskit host mask 'vm1; reboot' 0 0x40" in capsys.readouterr().out


def test_plan_says_each_hop_and_what_a_restart_on_the_way_closes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "guest.json").write_bytes(msgspec.json.encode(GUEST))
    paths = written(tmp_path / "pool", OLD, NEW, host("third", 0x0F))
    assert cli.main(["gate", "plan", str(tmp_path / "guest.json"), *paths]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["yes: old to new", "yes: new to third"]
    assert [line for line in lines if line.startswith("trap")] == [
        "trap, no: a restart of vm1 on new, or of a driver in it, makes it need what old does not offer",
        "trap, no: a restart of vm1 on new, or of a driver in it, makes it need what third does not offer",
    ]
    assert sum("venet sg.uso" in line for line in lines) == 2
    assert "gate baseline" in lines[-1]


def test_plan_finds_a_way_round_a_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = replace(NEW, release="0.1.0")
    (tmp_path / "guest.json").write_bytes(
        msgspec.json.encode(replace(consumer(source), machine="pc-q35-7.2"))
    )
    paths = written(tmp_path / "pool", source, OLD, host("third"))
    words = ["gate", "plan", str(tmp_path / "guest.json"), *paths[:2]]
    assert cli.main([*words, "--through", paths[2]]) == Exit.REFUSED
    said = capsys.readouterr().out
    assert "yes from new to old: move to third, mask venet sg.uso at third, have the guest re-open" in said
    card = consumer(source).devices[0].uuid
    assert f"\n  on third: vbuskit host mask new 0 0x40 --device {card}\n" in said
    assert cli.main([*words, "--json"]) == Exit.REFUSED
    found = json.loads(capsys.readouterr().out)
    assert (found["routes"], found["stuck"]) == ([], [["new", "old"]])
    assert cli.main(words) == Exit.REFUSED
    *_, stuck, why = capsys.readouterr().out.splitlines()
    assert stuck == "no way from new to old over these hosts"
    assert why == "no mask of group 0 is heeded on new: --through a later vbuskit, or update"


def test_a_way_may_lead_over_a_pool_that_has_the_hosts_of_the_chain_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = replace(NEW, release="0.1.0")
    (guest,) = written(tmp_path / "guest", replace(consumer(source), machine="pc-q35-7.2"))
    paths = written(tmp_path / "pool", source, OLD, host("third"))
    words = ["gate", "plan", guest, *paths[:2], "--through", str(tmp_path / "pool")]
    assert cli.main(words) == Exit.REFUSED
    assert "from new to old: move to third, mask venet sg.uso at third" in capsys.readouterr().out


def test_a_command_keeps_what_is_masked_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = consumer(NEW).devices[0].uuid
    source = replace(NEW, masks={card: {0: 0x8}})
    before = consumer(NEW)
    active = {**before.devices[0].active, 0: 0x47}
    devices = (replace(before.devices[0], active=active), *before.devices[1:])
    (guest,) = written(tmp_path / "guest", replace(before, machine="pc-q35-7.2", devices=devices))
    paths = written(tmp_path / "pool", source, OLD)
    assert cli.main(["gate", "plan", guest, *paths]) == Exit.REFUSED
    assert f"  on new: vbuskit host mask new 0 0x48 --device {card}\n" in capsys.readouterr().out


def test_rings_that_a_restart_takes_are_a_trap_that_no_baseline_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, many = (
        replace(each, classes=(replace(OLD.classes[0], limits={"pairs": pairs}),))
        for each, pairs in ((OLD, 2), (NEW, 8))
    )
    (guest,) = written(tmp_path / "guest", consumer(few))
    assert cli.main(["gate", "plan", guest, *written(tmp_path / "pool", few, many)]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("trap, no: ") and "limit-low" not in lines[2] and "pairs 8" in lines[2]
    assert lines[-1] == "no mask of `vbuskit gate baseline` bounds rings: the remedies above do"


def test_the_first_host_is_the_one_that_the_guest_runs_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (guest,) = written(tmp_path / "guest", GUEST)
    assert cli.main(["gate", "plan", guest, *written(tmp_path / "pool", NEW, OLD)]) == Exit.USAGE
    assert "plan: vm1 does not run on new\n" in capsys.readouterr().err


def test_one_host_is_no_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = written(tmp_path / "guest", GUEST)
    assert cli.main(["gate", "plan", path, *written(tmp_path / "pool", OLD)]) == Exit.USAGE
    assert "one host is no way" in capsys.readouterr().err


def test_the_matrix_is_words_letters_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = written(tmp_path / "pool", OLD, NEW, host("masked", mask={"venet": {0: 0x40}}))
    assert cli.main(["gate", "matrix", *paths, "--format", "json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["guests"] == found["hosts"] == ["old", "new", "masked"]
    assert found["rows"] == ["YYY", "NY?", "NYY"]
    assert found["counts"] == {"yes": 6, "yes-if": 1, "no": 2}
    assert cli.main(["gate", "matrix", *paths]) == Exit.OK
    assert capsys.readouterr().out.splitlines()[1:] == [
        "old     YYY",
        "new     NY?",
        "masked  NYY",
        "6 yes, 1 yes-if, 2 no",
    ]
    assert (
        cli.main(["gate", "matrix", *paths, "--format", "csv", "--out", str(tmp_path / "x.csv")]) == Exit.OK
    )
    rows = list(csv.reader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert rows[2] == ["new", "no", "yes", "yes-if"]


def test_every_host_of_a_large_fleet_is_named() -> None:
    hosts = [host(f"rack{number:04}-{'x' * 30}") for number in range(300)]
    first, *rows = matrix.as_text(between(hosts)).splitlines()
    assert first.removeprefix("to: ").split(", ") == [each.name for each in hosts]
    assert rows[0].endswith("Y" * 300)


def test_guests_have_rows_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "guests", GUEST, replace(consumer(NEW), name="vm2"))
    words = [*written(tmp_path / "pool", OLD, NEW), "--guests", str(tmp_path / "guests"), "--format", "json"]
    assert cli.main(["gate", "matrix", *words]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["guests"], found["rows"]) == (["vm1", "vm2"], ["YY", "NY"])


def test_a_name_is_no_formula_in_a_table_and_no_sequence_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "pool", host("=cmd|'/c calc'!A1"), host("-1"))
    assert cli.main(["gate", "matrix", *path, "--format", "csv"]) == Exit.OK
    (first, second) = list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]
    assert (first[0], second[0]) == ("'=cmd|'/c calc'!A1", "'-1")
    assert "\x1b" not in matrix.as_text(between([host("\x1b]0;x\x07")]))


@pytest.mark.parametrize("verb", ["baseline", "matrix"])
def test_two_profiles_of_one_host_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    paths = written(tmp_path / "pool", OLD, replace(NEW, identity=OLD.identity))
    assert cli.main(["gate", verb, *paths]) == Exit.REFUSED
    assert (
        f"{paths[0]} (old) and {paths[1]} (new): have one identity, {OLD.identity}\n"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("verb", ["baseline", "matrix", "diff next", "release next", "state next"])
def test_a_path_that_no_file_can_have_is_one_line(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert cli.main(["gate", *verb.split(), "n" * 300]) in (Exit.BLOCKED, Exit.USAGE)
    assert capsys.readouterr().err.startswith(f"vbuskit: {'n' * 300}: ")


def test_where_nothing_can_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = written(tmp_path / "pool", OLD)
    assert cli.main(["gate", "matrix", path, "--out", str(tmp_path)]) == Exit.BLOCKED
    assert capsys.readouterr().err.startswith(f"vbuskit: {tmp_path}: Is a directory\n")


def test_a_folder_without_profiles_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gate", "matrix", str(tmp_path)]) == Exit.BLOCKED
    assert f"{tmp_path}: no *.json in there" in capsys.readouterr().err
