# SPDX-License-Identifier: MIT
"""RPMs that a Debian guest needs before it can take ours, for no archive that we use has SUSE's or RHEL's.

They say what those say: a kernel's package provides what it exports, with versions, and when it is installed
weak-modules2 lends it the modules of others. Their files are Debian's, but for weak-modules2, which is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbuskit.base.artifact import Artifact
from vbuskit.base.places import make
from vbuskit.compat.bench import Bench, Delivery
from vbuskit.kmp.flavour import flavour_of, numbers_of

TOOLS = "/usr/lib/module-init-tools"
WEAK_MODULES = Path("compat_tests/guest/weak-modules2")
# rpmbuild changes nothing: kernels and modules are signed, and what is fast to pack is fast to unpack.
SPEC = """\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global _build_id_links none
%global _binary_payload w1.gzdio
Name: {name}
Version: {version}
Release: 1
Summary: stand-in
License: MIT
AutoReqProv: no
{provides}
%description
A stand-in, for tests.
%install
{install}
{posttrans}
%files
{files}
"""
# What SUSE's own kernel-scriptlets do, in that order.
ADDED = """\
%posttrans
{tools}/weak-modules2 --add-kernel {release}
dracut --force --kver {release} /boot/initrd.img-{release}
"""


def system(bench: Bench) -> Artifact:
    """What every distribution has, by the names that our packages ask for."""
    return built(bench, "debian-base", "12", ["/bin/sh", "kmod"])


def module_tools(bench: Bench) -> Artifact:
    program = f"%{{buildroot}}{TOOLS}/weak-modules2"
    install = f"install -D -m 755 {bench.places.tree / WEAK_MODULES} {program}"
    return built(bench, "suse-module-tools", "1", [], install, [f"{TOOLS}/weak-modules2"])


def kernel_there(bench: Bench, delivery: Delivery) -> Artifact:
    """For a kernel that is in the guest's image: the package, and no file."""
    return built(bench, f"kernel-{flavour_of(delivery.release)}", version(delivery), exports(delivery))


def kernel(bench: Bench, delivery: Delivery) -> Artifact:
    """The kernel that Debian's packages have, as an RPM."""
    release, root = delivery.release, "%{buildroot}"
    steps = [f"dpkg-deb -x {deb.path} {root}" for deb in delivery.kernel.values()]
    steps += [
        f"rm -rf {root}/usr/share",
        f"install -m 644 {delivery.symbols.path} {root}/boot/symvers-{release}",
    ]
    files = [f"/boot/*-{release}", f"/lib/modules/{release}"]
    after = ADDED.format(tools=TOOLS, release=release)
    name = f"kernel-{flavour_of(release)}"
    return built(bench, name, version(delivery), exports(delivery), "\n".join(steps), files, after)


def version(delivery: Delivery) -> str:
    """rpm takes no dash in it."""
    return numbers_of(delivery.release).replace("-", "_")


def exports(delivery: Delivery) -> list[str]:
    flavour = flavour_of(delivery.release)
    pairs = (line.split("\t")[:2] for line in delivery.symbols.path.read_text().splitlines())
    return [f"ksym({flavour}:{symbol}) = {int(crc, 16):x}" for crc, symbol in pairs]


def built(
    bench: Bench,
    name: str,
    version: str,
    provides: Sequence[str],
    install: str = "",
    files: Sequence[str] = (),
    posttrans: str = "",
) -> Artifact:
    top = make(bench.places.work("work", "standins") / f"{name}-{version}")
    spec = top / "stand-in.spec"
    lines = "\n".join(f"Provides: {each}" for each in provides)
    spec.write_text(
        SPEC.format(
            name=name,
            version=version,
            provides=lines,
            install=install,
            files="\n".join(files),
            posttrans=posttrans,
        )
    )
    bench.run(["rpmbuild", "-bb", "--define", f"_topdir {top}", spec])
    (package,) = top.glob("RPMS/*/*.rpm")
    return Artifact.of(package)
