# SPDX-License-Identifier: MIT
"""Generated pipelines: what GitHub and GitLab accept, whose commands exist, with the least rights."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from vbuskit.base.errors import Exit
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import CommandFailed, Runner
from vbuskit.ci import cli
from vbuskit.ci.ownci import LONGEST, Pipeline
from vbuskit.compat.kept import Kept

SCHEMAS = {
    "github": ["vendor.github-workflows"],
    "gitlab": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
}
CHECK = ROOT / ".venv/bin/check-jsonschema"
VARIABLES = {"$SHARD": "1", "$CI_NODE_INDEX": "1", "$CI_NODE_TOTAL": "2"}
WORDS = [
    [],
    ["--profile", "kernels", "--shards", "2", "--workers", "2", "--pairwise"],
    ["--guest", "debian-12", "debian-13", "--only", "kill", "mask", "--runs-on", "kvm", "big"],
    ["--no-image", "--runs-on", "debian", "--shards", "1"],
]  # fmt: skip


def written(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["ci", *words]) == Exit.OK
    return capsys.readouterr().out


def judged(system: str, text: str, tmp_path: Path) -> str:
    """What the public schema of such files says; raises CommandFailed when it does not hold."""
    if not CHECK.exists():
        pytest.skip(f"{CHECK} is not there: ./vbuskit --setup makes it")
    path = tmp_path / "pipeline.yml"
    path.write_text(text)
    return Runner()([CHECK, path, "--builtin-schema", *SCHEMAS[system]])


def texts(node: Any) -> Iterator[str]:
    """All strings of a document."""
    if isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def commands(text: str) -> list[list[str]]:
    """Our own commands in a pipeline, as a shell would start them."""
    found = []
    for line in (line for each in texts(YAML(typ="safe").load(text)) for line in each.splitlines()):
        for name, value in VARIABLES.items():
            line = line.replace(name, value)
        found += [shlex.split(part)[1:] for part in re.findall(r"\./vbuskit [^)]*", line)]
    return found


def parsed(words: list[str]) -> argparse.Namespace:
    """As `./vbuskit` would; ends the test when a word is not one of that command."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"vbuskit.ci.commands.{words[0]}").arguments(parser)
    return parser.parse_args(words[1:])


@pytest.mark.parametrize("system", SCHEMAS)
@pytest.mark.parametrize("words", WORDS)
def test_the_schema_of_the_system_accepts_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, system: str, words: list[str]
) -> None:
    judged(system, written(capsys, system, *words), tmp_path)


@pytest.mark.parametrize(
    ("system", "before", "after"),
    [("github", "runs-on:", "run-on:"), ("github", "fail-fast: false", "fail-fast: 7"),
     ("gitlab", "stage: shards", "stage: 7"), ("gitlab", "parallel: 4", "parallel: [4]")],
)  # fmt: skip
def test_the_schema_would_refuse_a_broken_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, system: str, before: str, after: str
) -> None:
    text = written(capsys, system)
    assert before in text
    with pytest.raises(CommandFailed):
        judged(system, text.replace(before, after), tmp_path)


@pytest.mark.parametrize("system", SCHEMAS)
@pytest.mark.parametrize("words", WORDS)
def test_every_command_in_it_exists_with_its_words(
    capsys: pytest.CaptureFixture[str], system: str, words: list[str]
) -> None:
    found = commands(written(capsys, system, *words))
    assert [each[:2] for each in found if each[0] != "ci"] == [["matrix", "run"]]
    assert {each[1] for each in found if each[0] == "ci"} >= {"collect"}
    for each in found:
        parsed(each)
    (run,) = (parsed(each) for each in found if each[0] == "matrix")
    (collect,) = (parsed(each) for each in found if each[:2] == ["ci", "collect"])
    assert run.shard[0] == 1
    for name in ("profile", "guest", "only", "pairwise"):
        assert getattr(run, name) == getattr(collect, name), name
    assert Path(run.out).parent == Path(collect.out)


@pytest.mark.parametrize("system", SCHEMAS)
@pytest.mark.parametrize("words", WORDS)
def test_it_says_the_command_that_makes_it_again(
    capsys: pytest.CaptureFixture[str], system: str, words: list[str]
) -> None:
    text = written(capsys, system, *words)
    again = shlex.split(text.splitlines()[0].removeprefix("# Made by: "))
    assert again[:2] == ["./vbuskit", "ci"]
    assert written(capsys, *again[2:]) == text


def test_github_gets_the_least_rights_and_keeps_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    document = YAML(typ="safe").load(written(capsys, "github"))
    assert document["permissions"] == {"contents": "read"}
    assert not [job for job in document["jobs"].values() if "permissions" in job]
    steps = [step for job in document["jobs"].values() for step in job["steps"]]
    kept = [step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert kept == [{"persist-credentials": False}] * 2
    assert "secrets." not in "\n".join(texts(document))
    assert not [each for step in steps if "run" in step for each in re.findall(r"\$\{\{", step["run"])]


@pytest.mark.parametrize(("system", "history"), [("github", 2), ("gitlab", 1)])
def test_the_key_that_signs_leaves_no_machine(
    capsys: pytest.CaptureFixture[str], system: str, history: int
) -> None:
    """It lies in VBUSKIT_STATE: of that folder a cache has the history, and an artifact nothing."""
    document = YAML(typ="safe").load(written(capsys, system))
    paths = [
        path
        for node in nodes(document)
        for name in ("path", "paths")
        for path in shlex.split(
            " ".join([node[name]] if isinstance(node.get(name), str) else node.get(name, []))
        )
    ]
    assert len(paths) > 3
    assert [path for path in paths if path.startswith("state")] == ["state/history.sqlite"] * history
    assert not [path for path in paths if path in (".", "./", "**")]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(each)


def test_gitlab_caches_the_packages_that_images_are_made_of_where_we_keep_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without them an image cannot be made again once the mirror has dropped a version."""
    text = written(capsys, "gitlab")
    document = YAML(typ="safe").load(text)
    places = replace(
        Places.from_environment(tmp_path), cache=tmp_path / document["variables"]["VBUSKIT_CACHE"]
    )
    kept = Kept.of(places).folder.relative_to(places.cache)
    assert f"cache/{kept}" in document["shard"]["cache"]["paths"]
    judged("gitlab", text, tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runs-on", "a\nb"], "is no label of a machine"),
        (["--runs-on", "a: b"], "is no label of a machine"),
        (["--image", "debian 12"], "is no label of a machine"),
        (["--shards", "0"], "--shards and --workers are at least 1"),
        (["--workers", "0"], "--shards and --workers are at least 1"),
        (["--shards", "99"], "--shards 99: there are "),
        (["--guest", "none"], "none: no such guest"),
        (["--only", "none"], "none: no such scenario"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["ci", "github", *words]) == Exit.USAGE
    assert said in capsys.readouterr().err


def test_a_file_is_written_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "matrix.yml"
    assert cli.main(["ci", "github", "--output", str(path)]) == Exit.OK
    assert path.read_text() == written(capsys, "github")


def test_a_job_has_time_for_what_is_expected_but_never_for_ever() -> None:
    def minutes(*shards: float) -> int:
        pipeline = Pipeline(words=[], chosen=[], again=[], shards=shards, machine=[], image="")
        return pipeline.minutes

    assert minutes(60.0) == 70
    assert minutes(60.0, 1200.0) == 120
    assert minutes(1e6) == LONGEST


def test_the_key_of_the_cache_changes_with_what_is_in_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBUSKIT_CACHE", str(tmp_path))
    empty = written(capsys, "key")
    (tmp_path / "images/abc").mkdir(parents=True)
    assert written(capsys, "key") == empty
    (tmp_path / "images/abc/image.json").touch()
    one = written(capsys, "key")
    assert one != empty
    assert written(capsys, "key") == one
    (tmp_path / "roots/sid/def").mkdir(parents=True)
    (tmp_path / "roots/sid/def/sealed").touch()
    assert written(capsys, "key") not in (empty, one)
