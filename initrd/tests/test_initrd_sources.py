# SPDX-License-Identifier: MIT
"""The initramfs-tools hook and the udev rules, as far as they can be judged without a guest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

RULES = sorted((ROOT / "initrd/udev").glob("*.rules"))
HOOK = ROOT / "initrd/initramfs-tools/hooks/vbus"

# udev(7): KEY or KEY{attribute}, an operator, a quoted value.
WORD = r'[A-Z_]+(\{[^}"]+\})?(==|!=|=|\+=|-=|:=)"[^"]*"'
SIXTY_ONE, EIGHTY_ONE = (ROOT / f"initrd/udev/{number}-vbus.rules" for number in (61, 81))


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_every_rule_is_a_list_of_keys_and_values(rules: Path) -> None:
    lines = [line for line in rules.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(rf"{WORD}(,\s*{WORD})*", line)] == []


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_every_goto_has_its_label(rules: Path) -> None:
    text = rules.read_text()
    assert set(re.findall(r'GOTO="(\w+)"', text)) == set(re.findall(r'LABEL="(\w+)"', text))


def test_the_path_is_set_after_path_id_and_the_name_before_it_is_used() -> None:
    assert SIXTY_ONE.name < "80-net-setup-link.rules" < EIGHTY_ONE.name
    assert "ID_NET_NAME_PATH" in SIXTY_ONE.read_text()
    assert 'ENV{ID_PATH}="vbus-' not in SIXTY_ONE.read_text()
    assert 'ENV{ID_PATH}="vbus-$env{ID_VBUS_UUID}"' in EIGHTY_ONE.read_text()


@pytest.mark.parametrize(
    ("uuid", "name"),
    [
        ("5e0c0b1a-5c1e-4a52-9b1c-0123456789ab", "env0123456789ab"),
        ("00000000-0000-0000-0000-000000000002", "env000000000002"),
    ],
)
def test_a_name_is_the_end_of_the_uuid_and_short_enough(uuid: str, name: str) -> None:
    found = re.search(r"""PROGRAM="/bin/sh -c '(.*?)'",""", SIXTY_ONE.read_text())
    assert found is not None
    # What udev does to it: $env{..} is filled in, $$ is a dollar sign.
    command = found[1].replace("$env{ID_VBUS_UUID}", uuid).replace("$$", "$")
    assert Runner()(["/bin/sh", "-c", command]).strip() == name
    assert len(name) < 16  # IFNAMSIZ, with its NUL


STAND_INS = """\
manual_add_modules() { echo "modules: $*"; }
modinfo() { test "$*" = "-k 6.1.0 vbus"; }
"""


def run_hook(folder: Path, *words: str, kernel: str = "6.1.0") -> str:
    """The hook with stand-ins for what it calls and for the rules of the machine; 6.1.0 has our modules."""
    functions = folder / "hook-functions"
    functions.write_text(STAND_INS)
    text = HOOK.read_text().replace("/usr/share/initramfs-tools/hook-functions", str(functions))
    script = folder / "hook"
    script.write_text(
        text.replace("/etc/udev", f"{folder}/etc/udev").replace("in /lib/", f"in {folder}/lib/")
    )
    script.write_text(script.read_text().replace(" /lib/udev/rules.d;", f" {folder}/lib/udev/rules.d;"))
    return Runner()(["sh", script, *words], env={"DESTDIR": str(folder / "initrd"), "version": kernel})


def test_the_hook_adds_all_modules_and_the_rules(tmp_path: Path) -> None:
    (tmp_path / "lib/udev/rules.d").mkdir(parents=True)
    for rules in RULES:
        (tmp_path / "lib/udev/rules.d" / rules.name).write_bytes(rules.read_bytes())
    assert run_hook(tmp_path) == "modules: vbus venet vblk\n"
    packed = sorted((tmp_path / "initrd/lib/udev/rules.d").iterdir())
    assert [path.read_bytes() for path in packed] == [rules.read_bytes() for rules in RULES]


def test_a_kernel_without_our_modules_has_the_initrd_that_it_would_have_without_us(tmp_path: Path) -> None:
    (tmp_path / "lib/udev/rules.d").mkdir(parents=True)
    (tmp_path / "lib/udev/rules.d/61-vbus.rules").touch()
    assert run_hook(tmp_path, kernel="5.10.0") == ""
    assert not (tmp_path / "initrd").exists()


def test_the_administrators_rules_win_in_the_initrd_as_well(tmp_path: Path) -> None:
    for folder in ("lib", "etc"):
        (tmp_path / folder / "udev/rules.d").mkdir(parents=True)
        (tmp_path / folder / "udev/rules.d/61-vbus.rules").write_text(folder)
    run_hook(tmp_path)
    assert (tmp_path / "initrd/lib/udev/rules.d/61-vbus.rules").read_text() == "etc"


def test_the_hook_runs_after_udevs_own(tmp_path: Path) -> None:
    assert run_hook(tmp_path, "prereqs") == "udev\n"
