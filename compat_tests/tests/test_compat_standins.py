# SPDX-License-Identifier: MIT
"""The stand-ins of the RPM guest, and what a guest without a newer kernel is spared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vbuskit.base.artifact import Artifact, write
from vbuskit.base.errors import Blocked
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.compat import standins
from vbuskit.compat.bench import Bench, Delivery
from vbuskit.compat.cells import CellSkipped
from vbuskit.compat.scenarios.update import arrived

RELEASE = "6.1.0-56-cloud-amd64"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    places = Places(tree=ROOT, out=tmp_path / "out", cache=tmp_path / "cache", state=tmp_path / "state")
    return cast(Bench, SimpleNamespace(run=Runner(), places=places))


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    """A kernel of one file, as Debian packs it, and of one symbol."""
    symbols = write(tmp_path / "Module.symvers", "0x0012ab34\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n")
    root, name = tmp_path / "deb", f"linux-image-{RELEASE}"
    for path, text in {
        "DEBIAN/control": f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: m\n",
        f"boot/vmlinuz-{RELEASE}": "kernel",
        f"lib/modules/{RELEASE}/modules.order": "",
        f"usr/share/doc/{name}/copyright": "",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    Runner()(["dpkg-deb", "--build", root, tmp_path / "kernel.deb"])
    kernel = {name: Artifact.of(tmp_path / "kernel.deb")}
    return Delivery(release=RELEASE, kernel=kernel, headers={}, symbols=symbols, packages={})


def query(package: Artifact, what: str) -> list[str]:
    return Runner()(["rpm", "-qp", what, package.path]).splitlines()


def test_a_kernels_stand_in_provides_its_symbols_and_has_its_files(bench: Bench, delivery: Delivery) -> None:
    package = standins.kernel(bench, delivery)
    assert "ksym(cloud-amd64:module_layout) = 12ab34" in query(package, "--provides")
    files = {f"/boot/{name}-{RELEASE}" for name in ("vmlinuz", "symvers")}
    assert set(query(package, "-l")) == {
        *files,
        *(f"/lib/modules/{RELEASE}{rest}" for rest in ("", "/modules.order")),
    }
    assert f"weak-modules2 --add-kernel {RELEASE}" in "\n".join(query(package, "--scripts"))


def test_for_a_kernel_that_is_there_it_has_the_symbols_alone(bench: Bench, delivery: Delivery) -> None:
    package = standins.kernel_there(bench, delivery)
    assert "ksym(cloud-amd64:module_layout) = 12ab34" in query(package, "--provides")
    assert query(package, "-l") == ["(contains no files)"]
    assert query(package, "--scripts") == []


def test_weak_modules2_is_where_our_scriptlets_look_and_sound_shell(bench: Bench) -> None:
    program = "/usr/lib/module-init-tools/weak-modules2"
    assert query(standins.module_tools(bench), "-l") == [program]
    assert program.rpartition("/")[0] in (ROOT / "kmp/rpm/macros/scriptlet.sh").read_text()
    Runner()(["shellcheck", ROOT / standins.WEAK_MODULES])


def test_a_cell_is_skipped_where_there_is_no_newer_kernel_or_none_can_be_had(delivery: Delivery) -> None:
    def blocked() -> Delivery:
        raise Blocked("the mirror no longer has it")

    assert arrived(lambda: delivery) is delivery
    with pytest.raises(CellSkipped, match="no `update`"):
        arrived(None)
    with pytest.raises(CellSkipped, match="no longer has it"):
        arrived(blocked)
