# SPDX-License-Identifier: MIT
"""What a kernel has is asked of its compiler: the answers are believed only when the controls hold."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Arg, Runner
from vbuskit.drivers.kernel import (
    CONFIG,
    MODULES,
    SOURCES,
    ModuleBuildFailed,
    compile_modules,
    headers_of,
    modules,
    newest_release,
    site_here,
    sources_of,
)

ASK = ROOT / "drivers/linux/probe/probe.sh"
VERSIONS = re.compile(r"LINUX_VERSION_CODE|KERNEL_VERSION|linux/version\.h|RHEL_|SLE_VERSION|UTS_RELEASE")


def places(folder: Path) -> Places:
    tree = folder / "tree"
    shutil.copytree(ROOT / "drivers", tree / "drivers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "VERSION", tree)
    return Places(tree=tree, out=folder / "out", cache=folder / "cache", state=folder / "state")


def spoil(here: Places, name: str, old: str, new: str) -> None:
    path = here.tree / "drivers/linux" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def version_of(here: Places) -> str:
    return (here.tree / "VERSION").read_text().strip()


@pytest.mark.parametrize(
    ("control", "old", "new"),
    [
        ("must_compile", "-ENODEV", "no_such_name"),
        ("must_not_call", "vbus_probe_there_is_no_such_function(dev)", "dev_to_node(dev)"),
        ("must_not_discard", "put_device(dev)", "dev_name(dev)"),
    ],
)
def test_a_control_that_comes_out_wrong_stops_the_build_with_one_line(
    tmp_path: Path, control: str, old: str, new: str
) -> None:
    here = places(tmp_path)
    spoil(here, f"probe/{control}.c", old, new)
    with pytest.raises(
        ModuleBuildFailed, match=f"vbus: probe {control}: a control came out wrong"
    ) as caught:
        modules(Runner(), here, newest_release())
    assert "\n" not in str(caught.value)


def test_a_lost_const_is_an_answer_only_because_the_probes_say_so(tmp_path: Path) -> None:
    here = places(tmp_path)
    kbuild = here.tree / "drivers/Kbuild"
    kbuild.write_text(kbuild.read_text().replace("-Werror=discarded-qualifiers,", "-Wall,"))
    with pytest.raises(ModuleBuildFailed, match="probe must_not_discard"):
        modules(Runner(), here, newest_release())


def test_each_wrong_answer_breaks_the_build(tmp_path: Path) -> None:
    """So no answer is asked for nothing, and none can be wrong in silence."""
    here, run, release = places(tmp_path), Runner(), newest_release()
    folder = modules(run, here, release)["vbus"].path.parent
    config = folder / CONFIG
    truth = config.read_text()
    names = re.findall(r"^#define (HAVE_\w+) [01]$", truth, re.MULTILINE)
    assert len(names) == len(truth.splitlines()) > 0
    for name in names:
        config.write_text(re.sub(rf"({name}) ([01])", lambda m: f"{m[1]} {1 - int(m[2])}", truth))
        with pytest.raises(ModuleBuildFailed, match=r"linux/\w+\.[ch]:\d+.*error"):
            compile_modules(run, site_here(run, release), folder, version_of(here), "none")


def test_a_name_that_no_probe_answers_breaks_the_build(tmp_path: Path) -> None:
    here = places(tmp_path)
    spoil(here, "vbus_compat.h", "#if HAVE_BUS_REMOVE_VOID", "#if HAVE_BUS_REMOVED_VOID")
    with pytest.raises(ModuleBuildFailed, match=r"HAVE_BUS_REMOVED_VOID.*is not defined"):
        modules(Runner(), here, newest_release())


def test_no_source_asks_for_a_version() -> None:
    drivers = ROOT / "drivers"
    found = [str(name) for name, file in sources_of(drivers).items() if VERSIONS.search(file.read_text())]
    assert "linux" in SOURCES
    assert found == []


def test_every_answer_is_used() -> None:
    drivers = ROOT / "drivers"
    texts = [file.read_text() for name, file in sources_of(drivers).items() if name.suffix in (".c", ".h")]
    used = {name.lower() for text in texts for name in re.findall(r"#(?:el)?if !?HAVE_(\w+)", text)}
    asked = {path.stem for path in ASK.parent.glob("*.c") if not path.stem.startswith("must_")}
    assert used == asked


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("kill -9 $$", "ended with 137"),
        ("echo 'fatal error: x.s: No space left on device'; exit 1", "No space left on device"),
        ("exit 127", "ended with 127"),
    ],
)
def test_a_compiler_that_gave_no_verdict_has_not_said_no(tmp_path: Path, compiler: str, said: str) -> None:
    answer = tmp_path / "x.answer"
    done = Runner().attempt(["sh", ASK, "ask", answer, "sh", "-c", compiler])
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert said in done.err
    assert not answer.exists()


def test_a_second_build_asks_nothing_again_and_a_changed_probe_only_its_own(tmp_path: Path) -> None:
    here, run, release = places(tmp_path), Runner(), newest_release()
    folder = modules(run, here, release)["vbus"].path.parent
    log = folder / "build.log"
    compile_modules(run, site_here(run, release), folder, version_of(here), "none")
    assert "PROBE" not in log.read_text()
    probe = folder / "linux/probe/bus_remove_void.c"
    probe.write_text(probe.read_text() + "/* changed */\n")
    compile_modules(run, site_here(run, release), folder, version_of(here), "none")
    assert re.findall(r"PROBE .*/(\w+)\.answer", log.read_text()) == ["bus_remove_void"]


def test_make_and_a_shell_are_enough_and_clean_leaves_what_was_there(tmp_path: Path) -> None:
    """As DKMS and rpm call it."""
    for name, file in sources_of(ROOT / "drivers").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, tmp_path / name)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    plain: list[Arg] = [
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
        "make",
        "-C",
        headers_of(newest_release()),
        f"M={tmp_path}",
    ]
    Runner()([*plain, "-j2", "VBUS_RELEASE=1", "modules"])
    assert {f"{name}.ko" for name in MODULES} == {path.name for path in tmp_path.glob("*.ko")}
    Runner()([*plain, "clean"])
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
