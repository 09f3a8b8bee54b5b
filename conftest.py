# SPDX-License-Identifier: MIT
"""What several tests start from: real, tiny kernel modules, places of their own, a Chromium."""

from __future__ import annotations

import datetime
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Blocked
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.ci.browser import Browser, Tab
from vbuskit.kmp.flavour import flavour_of
from vbuskit.kmp.keys import Key, new_key

# A job in the background of a script has Ctrl-C ignored, and so would whatever a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

KERNEL = max((path.parent.name for path in Path("/lib/modules").glob("*/build")), default="")

NAMES = ("vbus", "venet", "vblk")

DUMMY = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>
static int __init dummy_init(void) { pr_info("%s\\n", __FILE__); return 0; }
static void __exit dummy_exit(void) { }
module_init(dummy_init);
module_exit(dummy_exit);
MODULE_LICENSE("GPL");
"""


RPM_STUB = """\
Name: {name}
Version: 1
Release: 1
Summary: stand-in
License: MIT
BuildArch: noarch
AutoReqProv: no
{provides}
%description
A stand-in.
%files
"""


def build_dummies(run: Runner, folder: Path) -> dict[str, Artifact]:
    """What the build of the drivers returns, from sources that take five seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.c").write_text(DUMMY)
    (folder / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in NAMES))
    # What __FILE__ says is code and stays; the debug information may name the folder, it is stripped.
    flags = f"KCFLAGS=-fmacro-prefix-map={folder}/="
    run(["make", "-C", f"/lib/modules/{KERNEL}/build", f"M={folder}", flags, "-j2", "modules"])
    return {name: Artifact.of(folder / f"{name}.ko") for name in NAMES}


@pytest.fixture(scope="session")
def kernel() -> str:
    if not KERNEL:
        pytest.skip("no kernel headers are installed")
    return KERNEL


@pytest.fixture(scope="session")
def dummies(kernel: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return build_dummies(Runner(), tmp_path_factory.mktemp("dummies"))


@pytest.fixture(scope="session")
def dummies_elsewhere(kernel: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The same sources, built in a folder with another name."""
    return build_dummies(Runner(), tmp_path_factory.mktemp("another") / "longer" / "path")


@pytest.fixture(scope="session")
def built_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Artifact]]:
    """The same modules, which say that they are for another kernel; and for one without symbol versions."""

    def make(modules: Mapping[str, Artifact], release: str, *, versions: bool = True) -> dict[str, Artifact]:
        run, folder = Runner(), tmp_path_factory.mktemp("other")
        for name, module in modules.items():
            info, ko = folder / f"{name}.modinfo", folder / f"{name}.ko"
            run(["objcopy", "-O", "binary", "--only-section=.modinfo", module.path, info])
            said = re.sub(rb"vermagic=\S+", f"vermagic={release}".encode(), info.read_bytes())
            info.write_bytes(said if versions else said.replace(b"modversions ", b""))
            run(["objcopy", "--update-section", f".modinfo={info}", module.path, ko])
        return {name: Artifact.of(folder / f"{name}.ko") for name in modules}

    return make


@pytest.fixture(scope="session")
def rpm_stub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Iterable[str]], Path]:
    """Makes a package that is nothing but its Provides."""

    def make(name: str, provides: Iterable[str]) -> Path:
        folder = tmp_path_factory.mktemp(name)
        text = RPM_STUB.format(name=name, provides="\n".join(f"Provides: {each}" for each in provides))
        (folder / "stub.spec").write_text(text)
        Runner()(["rpmbuild", "-bb", "--define", f"_topdir {folder}", folder / "stub.spec"])
        return next(folder.glob(f"RPMS/noarch/{name}-*.rpm"))

    return make


@pytest.fixture(scope="session")
def base_package(rpm_stub: Callable[[str, Iterable[str]], Path]) -> Path:
    """What our RPMs need besides a kernel."""
    return rpm_stub("base", ["/bin/sh", "kmod"])


@pytest.fixture(scope="session")
def kernel_package(kernel: str, rpm_stub: Callable[[str, Iterable[str]], Path]) -> Path:
    """What the kernel's package would say in SUSE's form, from the symbols that its headers list."""
    flavour = flavour_of(kernel)
    lines = Path(f"/lib/modules/{kernel}/build/Module.symvers").read_text().splitlines()
    pairs = (line.split("\t")[:2] for line in lines)
    return rpm_stub(
        f"kernel-{flavour}", [f"ksym({flavour}:{name}) = {int(crc, 16):x}" for crc, name in pairs]
    )


@pytest.fixture(scope="session")
def key() -> Key:
    return new_key()


@pytest.fixture(scope="session")
def other_key() -> Key:
    return new_key("somebody else")


@pytest.fixture(scope="session")
def certified(key: Key) -> Callable[..., Key]:
    """The session's key under another certificate: other dates (days from now), other extensions."""

    def certify(
        *extensions: x509.ExtensionType, days: tuple[int, int] = (-1, 1), name: str = "a certificate"
    ) -> Key:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        first, last = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=day) for day in days)
        builder = x509.CertificateBuilder(
            issuer_name=subject,
            subject_name=subject,
            public_key=key.private.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=first,
            not_valid_after=last,
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Key(key.private, builder.sign(key.private, hashes.SHA256()))

    return certify


@pytest.fixture
def places_in() -> Callable[[Path], Places]:
    return lambda folder: Places(
        tree=ROOT, out=folder / "out", cache=folder / "cache", state=folder / "state"
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        with Browser.started(tmp_path_factory.mktemp("browser")) as started:
            yield started
    except Blocked as error:
        pytest.skip(f"{error} (package chromium-headless-shell)")


@pytest.fixture
def tab(browser: Browser) -> Tab:
    return browser.tab()
