# SPDX-License-Identifier: MIT
"""Each example of docs/guides, taken from its page and run against the profiles in docs/guides/samples."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from ruamel.yaml import YAML

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.ci import cli
from vbuskit.migration import guest_profile, host_profile

GUIDES = ROOT / "docs" / "guides"
VM = "11111111-1111-4111-8111-111111111111"
CHECK = ROOT / ".venv/bin/check-jsonschema"
SCHEMAS = ["vendor.github-workflows"], ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GUIDES / "samples", tmp_path / "profiles"))


def blocks(guide: str, language: str) -> list[str]:
    text = (GUIDES / f"{guide}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def indented(guide: str, first: str) -> str:
    """The page's block that is set in by four spaces and has this line at its beginning."""
    text = (GUIDES / f"{guide}.md").read_text()
    found = re.findall(r"(?:^(?:    .*)?\n)+", text, re.MULTILINE)
    (block,) = (each for each in map(textwrap.dedent, found) if each.strip().startswith(first))
    return block.strip() + "\n"


def run(guide: str, **instead: object) -> dict[str, Any]:
    """What the page's Python defines, with these names in place of its own."""
    found: dict[str, Any] = {"__name__": guide}
    exec(compile("\n".join(blocks(guide, "python")), f"{guide}.md", "exec"), found)
    assert instead.keys() <= found.keys()
    found.update(instead)
    return found


def test_every_guide_has_an_example_and_is_in_the_list_below() -> None:
    here = Path(__file__).read_text()
    names = [path.stem for path in GUIDES.glob("*.md")]
    assert len(names) == 4 and all(blocks(name, "python") and f'run("{name}"' in here for name in names)


# ---- nova ----


@pytest.fixture
def nova(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """With a stand-in for nova: its base class has nothing that the filter uses."""
    filters = ModuleType("nova.scheduler.filters")
    filters.BaseHostFilter = object  # type: ignore[attr-defined]
    scheduler = ModuleType("nova.scheduler")
    scheduler.filters = filters  # type: ignore[attr-defined]
    for name, module in {"nova": ModuleType("nova"), scheduler.__name__: scheduler}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return run("nova", PROFILES=profiles)


@pytest.mark.parametrize(
    ("host", "uuid", "passes"),
    [
        ("host2", VM, True),
        ("host3", VM, False),
        ("host4", VM, False),
        ("host9", VM, False),
        ("host9", "99999999-9999-4999-8999-999999999999", True),
    ],
)
def test_novas_filter_passes_a_host_that_is_a_yes(
    nova: dict[str, Any], host: str, uuid: str, passes: bool
) -> None:
    chosen = nova["VbuskitGateFilter"]()
    assert chosen.host_passes(SimpleNamespace(host=host), SimpleNamespace(instance_uuid=uuid)) is passes


def test_traits_are_names_that_placement_takes_and_a_masked_bit_has_none(
    nova: dict[str, Any], profiles: Path
) -> None:
    full, less = (
        nova["traits"](host_profile(profiles / f"hosts/{name}.json")) for name in ("host1", "host4")
    )
    assert all(re.fullmatch(r"CUSTOM_[A-Z0-9_]{1,248}", each) for each in full)
    assert set(full) - set(less) == {"CUSTOM_VBUSKIT_VENET_TAP_SG_USO"}


def test_a_bit_that_falls_with_a_masked_one_is_no_trait_and_no_label(
    nova: dict[str, Any], profiles: Path
) -> None:
    host = replace(host_profile(profiles / "hosts/host1.json"), mask={"venet": {0: 0x1}})
    assert [each for each in nova["traits"](host) if "_SG_" in each] == []
    assert [each for each in run("kubevirt")["node_labels"](host) if ".sg." in each] == []


def test_novas_configuration_names_the_filter_and_the_trait_of_the_page(
    nova: dict[str, Any], profiles: Path
) -> None:
    page = configparser.ConfigParser(strict=False)  # nova reads a name that comes again as a list
    page.read_string(indented("nova", "[filter_scheduler]"))
    chosen = page["filter_scheduler"]
    assert chosen["available_filters"] == "vbuskit_nova.VbuskitGateFilter"
    assert "VbuskitGateFilter" in nova and "VbuskitGateFilter" in chosen["enabled_filters"].split(",")
    (provider,) = YAML(typ="safe").load(indented("nova", "meta:"))["providers"]
    assert set(provider["traits"]["additional"]) <= set(
        nova["traits"](host_profile(profiles / "hosts/host1.json"))
    )


# ---- KubeVirt ----


def review(profiles: Path, node: str | None) -> dict[str, Any]:
    page = run("kubevirt", PROFILES=profiles)
    made = page["migration"](guest_profile(profiles / f"guests/{VM}.json"), "vm1", "lab", node)
    asked = {"request": {"uid": "7", "namespace": "lab", "object": made}}
    answer: dict[str, Any] = page["review"](asked, lambda namespace, name: VM)
    response: dict[str, Any] = answer["response"]
    return response


def test_kubevirts_labels_let_a_guest_go_where_its_bits_are(profiles: Path) -> None:
    page = run("kubevirt")
    wanted = page["migration"](guest_profile(profiles / f"guests/{VM}.json"), "vm1", "lab")["spec"]
    labels = {
        name: page["node_labels"](host_profile(profiles / f"hosts/{name}.json"))
        for name in ("host1", "host2", "host3", "host4")
    }
    fitting = [name for name, has in labels.items() if wanted["addedNodeSelector"].items() <= has.items()]
    assert fitting == ["host1", "host2"]
    assert all(re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]{1,63}", name) for name in labels["host1"])


def test_kubevirts_webhook_refuses_a_node_in_words_and_lets_others_be_chosen(profiles: Path) -> None:
    assert review(profiles, "host2") == {"uid": "7", "allowed": True}
    assert review(profiles, None)["allowed"]
    refused = review(profiles, "host3")
    assert not refused["allowed"] and "venet sg.tso6" in refused["status"]["message"]
    assert not review(profiles, "host9")["allowed"] and refused["uid"] == "7"
    (profiles / "hosts/host2.json").unlink()
    assert "host4: yes-if" in review(profiles, None)["status"]["message"]
    (profiles / f"guests/{VM}.json").rename(profiles / "elsewhere")
    assert run("kubevirt", PROFILES=profiles)["objections"](VM, None) == []


def test_a_webhook_goes_on_past_a_node_whose_profile_cannot_be_read(profiles: Path) -> None:
    (profiles / "hosts/host0.json").write_text("{")
    assert review(profiles, None)["allowed"]
    (profiles / "hosts/host2.json").unlink()
    assert "host0.json: " in review(profiles, None)["status"]["message"]


def test_a_migration_without_a_selector_is_asked_about_as_any_other(profiles: Path) -> None:
    page = run("kubevirt", PROFILES=profiles)
    for spec in ({"vmiName": "vm1"}, {"vmiName": "vm1", "addedNodeSelector": None}):
        asked = {"request": {"uid": "7", "namespace": "lab", "object": {"spec": spec}}}
        assert page["review"](asked, lambda namespace, name: VM)["response"]["allowed"]


def test_the_webhook_is_asked_about_the_objects_that_the_page_makes(profiles: Path) -> None:
    (hook,) = YAML(typ="safe").load(indented("kubevirt", "apiVersion: admission"))["webhooks"]
    made = run("kubevirt")["migration"](guest_profile(profiles / f"guests/{VM}.json"), "vm1", "lab")
    (rule,) = hook["rules"]
    assert [f"{rule['apiGroups'][0]}/{rule['apiVersions'][0]}"] == [made["apiVersion"]]
    assert rule["resources"] == [f"{made['kind'].lower()}s"] and hook["admissionReviewVersions"] == ["v1"]


# ---- oVirt ----


@pytest.mark.parametrize(("host", "code"), [("host2", 0), ("host3", 2), ("host4", 2), ("host9", 2)])
def test_ovirts_hook_ends_with_a_code_that_vdsm_knows(
    host: str, code: int, profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run("ovirt", HOST=profiles / f"hosts/{host}.json", GUESTS=profiles / "guests")
    assert page["main"](VM) == code and page["main"]("another") == 0
    said = capsys.readouterr()
    assert said.out == "" and bool(said.err) == bool(code)


@pytest.mark.parametrize(("host", "code"), [("host2", 0), ("host4", 1), ("host3", 4), ("host9", 3)])
def test_ovirts_hook_in_shell_ends_as_the_command_does(
    host: str, code: int, profiles: Path, tmp_path: Path
) -> None:
    text = indented("ovirt", "#!/bin/sh")
    for there, here in {
        "/var/lib/vbuskit/profiles": profiles,
        "/etc/vbuskit/profile.json": profiles / f"hosts/{host}.json",
        "exec vbuskit": f"exec {ROOT / 'vbuskit'}",
    }.items():
        assert there in text
        text = text.replace(there, str(here))
    (tmp_path / "hook").write_text(text)
    done = Runner().attempt(["env", f"vmId={VM}", "sh", tmp_path / "hook"])
    assert (done.code, done.out) == (code, "")
    assert Runner().attempt(["env", "vmId=another", "sh", tmp_path / "hook"]).code == 0
    assert Runner().attempt(["env", "-u", "vmId", "sh", tmp_path / "hook"]).code != 0


def test_ovirts_hook_without_a_vms_uuid_lets_nothing_pass(tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text(blocks("ovirt", "python")[0])
    places = os.pathsep.join(str(ROOT / each) for each in ("base", "migration"))
    done = Runner().attempt(
        ["env", "-u", "vmId", f"PYTHONPATH={places}", sys.executable, tmp_path / "hook.py"]
    )
    assert done.code not in (0, None)


def test_ovirts_group_has_the_hosts_that_are_a_yes(profiles: Path) -> None:
    hosts = [host_profile(path) for path in sorted((profiles / "hosts").glob("*.json"))]
    guest = guest_profile(profiles / f"guests/{VM}.json")
    assert run("ovirt")["may_go_to"](guest, hosts) == ["host1", "host2"]


# ---- A CI job ----


def test_a_guest_that_has_nowhere_to_go_is_named_with_the_reasons(profiles: Path) -> None:
    stuck: Callable[[Path], Any] = run("ci-job")["stuck"]
    assert list(stuck(profiles)) == []
    (profiles / "hosts/host2.json").unlink()
    (line,) = stuck(profiles)
    assert line.startswith("vm1: host3: no: ") and "host4: yes-if: " in line


def test_the_jobs_script_ends_with_1_when_a_guest_is_stuck(profiles: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(blocks("ci-job", "python")[0])
    places = os.pathsep.join(str(ROOT / each) for each in ("base", "migration"))
    job: list[str | Path] = ["env", f"PYTHONPATH={places}", sys.executable, tmp_path / "job.py", profiles]
    assert Runner().attempt(job).code == 0
    (profiles / "hosts/host2.json").unlink()
    done = Runner().attempt(job)
    assert done.code == 1 and done.out.startswith("vm1: host3: no: ")


def test_the_pipelines_are_what_both_systems_take(tmp_path: Path) -> None:
    if not CHECK.exists():
        pytest.skip(f"{CHECK} is not there: ./vbuskit --setup makes it")
    for text, schema in zip(blocks("ci-job", "yaml"), SCHEMAS, strict=True):
        (tmp_path / "pipeline.yml").write_text(text)
        Runner()([CHECK, tmp_path / "pipeline.yml", "--builtin-schema", *schema])


def test_the_gates_of_the_pipelines_are_commands_that_hold_here() -> None:
    github, gitlab = (YAML(typ="safe").load(text) for text in blocks("ci-job", "yaml"))
    steps = [each["run"] for each in github["jobs"]["gate"]["steps"] if "run" in each]
    assert steps == gitlab["gate"]["script"]
    for step in steps:
        command, *lets_pass = step.split(" || ")
        words, good = shlex.split(command), {0, 1} if lets_pass == ["[ $? -eq 1 ]"] else {0}
        assert words == ["./vbuskit", "--setup"] or cli.main(words[1:]) in good
