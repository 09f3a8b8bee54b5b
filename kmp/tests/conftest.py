# SPDX-License-Identifier: MIT
"""What tests of packages start from.

Of the modules' packages: small signed drivers, and a tree that rpm.py takes for a checkout.
Of the host's: its programs.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Arg, Runner
from vbuskit.drivers.build import host_programs
from vbuskit.kmp import host_deb, host_rpm, rpm
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.host import PROGRAMS
from vbuskit.kmp.keys import Key
from vbuskit.kmp.signing import signed_artifact

# One exports what the other two use; one alias has what a package name must not have.
DRIVERS = {
    "Kbuild": "obj-m := vbus.o venet.o vblk.o\n"
    "vbus-y := linux/bus.o\nvenet-y := linux/card.o\nvblk-y := linux/disk.o\n",
    "linux/bus.c": """\
#include <linux/module.h>
#include <linux/pci.h>
int vbus_dummy_register(int id);
int vbus_dummy_register(int id) { pr_info("%d\\n", id); return 0; }
EXPORT_SYMBOL_GPL(vbus_dummy_register);
static const struct pci_device_id ids[] = { { PCI_DEVICE(0x1af4, 0x1110) }, { } };
MODULE_DEVICE_TABLE(pci, ids);
MODULE_LICENSE("GPL");
""",
    "linux/card.c": """\
#include <linux/module.h>
int vbus_dummy_register(int id);
static int __init card_init(void) { return vbus_dummy_register(1); }
module_init(card_init);
MODULE_ALIAS("vbus:venet");
MODULE_LICENSE("GPL");
""",
    "linux/disk.c": """\
#include <linux/module.h>
int vbus_dummy_register(int id);
static int __init disk_init(void) { return vbus_dummy_register(2); }
module_init(disk_init);
MODULE_ALIAS("vbus:a_b-c");
MODULE_LICENSE("GPL");
""",
}


@pytest.fixture(scope="session")
def signed(
    dummies: dict[str, Artifact], key: Key, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("signed")
    return {name: signed_artifact(Runner(), module, key, folder) for name, module in dummies.items()}


@pytest.fixture(scope="session")
def other_kernel(kernel: str) -> str:
    """The release of a newer kernel, as long as that of the first."""
    return f"9{kernel[1:]}"


@pytest.fixture(scope="session")
def other_signed(
    dummies: dict[str, Artifact],
    kernel: str,
    other_kernel: str,
    key: Key,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Artifact]:
    """The same modules, which say that they are for the other kernel."""
    run, folder = Runner(), tmp_path_factory.mktemp("other")
    for name, module in dummies.items():
        (folder / f"{name}.ko").write_bytes(
            module.path.read_bytes().replace(kernel.encode(), other_kernel.encode())
        )
    return {
        name: signed_artifact(run, Artifact.of(folder / f"{name}.ko"), key, folder / "signed")
        for name in dummies
    }


@pytest.fixture(scope="session")
def bring() -> Callable[[str, Path], None]:
    """Copies a program and the libraries that ldd names into a root, under the paths that they have here."""

    def bring(name: str, root: Path) -> None:
        program = Path(shutil.which(name) or name)
        libraries = re.findall(r"(/\S+) \(0x", Runner()(["ldd", program]))
        for source in (program, *map(Path, libraries)):
            target = root / str(source).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy(program, root / "bin" / program.name)

    return bring


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as far as rpm.py and dkms.py read it, with drivers that are compiled in seconds."""
    tree = tmp_path_factory.mktemp("tree")
    folders = (
        "LICENSES",
        "kmp/debian",
        "kmp/dkms",
        "kmp/rpm",
        "kmp/scripts",
        "initrd/udev",
        "initrd/dracut",
    )
    for name in folders:
        shutil.copytree(ROOT / name, tree / name)
    shutil.copyfile(ROOT / "VERSION", tree / "VERSION")
    for name, text in DRIVERS.items():
        (tree / "drivers" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "drivers" / name).write_text(text)
    return tree


@pytest.fixture(scope="session")
def modules(
    tree: Path, kernel: str, key: Key, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    run, folder = Runner(), tmp_path_factory.mktemp("modules")
    shutil.copytree(tree / "drivers", folder / "drivers")
    run(["make", "-C", f"/lib/modules/{kernel}/build", f"M={folder}/drivers", "modules"])
    built = {name: Artifact.of(folder / f"drivers/{name}.ko") for name in ("vbus", "venet", "vblk")}
    return {name: signed_artifact(run, module, key, folder / "signed") for name, module in built.items()}


@pytest.fixture(scope="session")
def flavour(kernel: str) -> str:
    return flavour_of(kernel)


@pytest.fixture(scope="session")
def packages(
    tree: Path, modules: dict[str, Artifact], kernel: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    return rpm.build(Runner(), tree, current_release(ROOT), kernel, modules, tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="session")
def kmp(packages: dict[str, Artifact], flavour: str) -> Path:
    return packages[f"vbus-kmp-{flavour}"].path


@pytest.fixture(scope="session")
def built() -> Mapping[str, Artifact]:
    return host_programs(Runner(), Places.from_environment())


@pytest.fixture(scope="session")
def vbusd_packages(
    built: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path]]:
    """By format: this version, and a newer one whose programs have other bytes."""
    run, folder, release = Runner(), tmp_path_factory.mktemp("vbusd"), current_release(ROOT)
    later, newer = replace(release, version="9.0", debian_version="9.0"), {}
    for name in PROGRAMS:
        words: list[Arg] = ["objcopy", "--add-section", f".newer={ROOT / 'VERSION'}"]
        run([*words, built[name].path, folder / name])
        newer[name] = Artifact.of(folder / name)
    makers = {"deb": host_deb.build, "rpm": host_rpm.build}
    return {
        kind: (build(run, ROOT, release, built, folder).path, build(run, ROOT, later, newer, folder).path)
        for kind, build in makers.items()
    }
