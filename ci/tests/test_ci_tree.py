# SPDX-License-Identifier: MIT
"""What holds for the tree as a whole, and no linter knows."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

TAG = "SPDX-License-" + "Identifier: "
GPL = ("drivers/linux/", "drivers/ports/linux/", "drivers/Kbuild")
SOURCES = {".py", ".c", ".h", ".sh", ".css", ".js", ".j2", ".build"}
SOURCE_NAMES = {"Kbuild", "Makefile", "vbuskit", ".ci/run"}

# Names of one machine or one network; put together here, so that this file does not contain them.
FOLDERS = r"(?<![\w./~$}-])/(?:" + "|".join(["work", "root", r"home/\w+"]) + ")/"
HOSTS = [
    r"py" + r"pi\.org",
    "python" + r"hosted\.org",
    r"proxy\.go" + "lang",
    r"(?<!emit-)index" + "-url[ =]",
]
NO_MACHINE = re.compile("|".join([FOLDERS, *HOSTS]))

DOORS = {"subprocess": "base/vbuskit/base/run.py", "libvirt": "base/vbuskit/base/virt.py"}
PROGRAM_STARTERS = ("system", "popen", "posix_spawn", "spawn")


def tracked() -> list[Path]:
    """What git tracks or would track, relative to the checkout."""
    words = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = Runner().attempt(words, cwd=ROOT)
    if done.code:
        pytest.skip("this is no git checkout")
    return [Path(name) for name in done.out.split("\0") if name and (ROOT / name).is_file()]


def python() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def folders() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["hatch"]["build"]["dev-mode-dirs"]
    return [str(each) for each in listed]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_no_init_hides_the_other_portions_of_the_namespace() -> None:
    assert [path for path in tracked() if path.parts[1:] == ("vbuskit", "__init__.py")] == []


def test_no_loose_module_lies_where_it_would_be_importable_by_itself() -> None:
    assert [path for path in python() if len(path.parts) == 2 and path.parts[0] in folders()] == []


def test_every_source_file_names_its_licence_first() -> None:
    wrong = []
    for path in tracked():
        if path.suffix not in SOURCES and path.name not in SOURCE_NAMES and str(path) not in SOURCE_NAMES:
            continue
        lines = (ROOT / path).read_text(errors="replace").splitlines()
        first = next((line for line in lines if not line.startswith("#!")), "")
        wanted = "GPL-2.0-only" if str(path).startswith(GPL) else "MIT"
        if not re.search(re.escape(TAG + wanted) + r"(?!\S)", first):
            wrong.append(f"{path}: {wanted}")
    assert wrong == []


def test_no_tracked_file_names_a_machine_or_its_network() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in tracked()
        for number, line in enumerate((ROOT / path).read_text(errors="replace").splitlines(), 1)
        if NO_MACHINE.search(line)
    ]
    assert found == []


def test_there_is_one_door_to_programs_and_one_to_libvirt() -> None:
    found = []
    for path in python():
        tree = ast.parse((ROOT / path).read_text(), str(path))
        found += [f"{path}: {name}" for name in imports(tree) if str(path) != DOORS.get(name, str(path))]
        found += [
            f"{path}:{node.lineno}: os.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and node.attr.startswith(PROGRAM_STARTERS)
        ]
    assert found == []


def test_test_files_carry_their_folder_and_are_unique() -> None:
    tests = [path for path in python() if path.name.startswith("test_")]
    modules = [path for path in tests if "tests" in path.parts]
    assert [name for name, count in Counter(path.name for path in modules).items() if count > 1] == []
    stray = [
        path for path in modules if not path.name.startswith(f"test_{path.parts[0].removesuffix('_tests')}_")
    ]
    assert stray == []
