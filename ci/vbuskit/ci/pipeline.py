# SPDX-License-Identifier: MIT
"""build -> sign -> package -> iso: each step once for each set of inputs, results below out/."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of, written
from vbuskit.base.errors import Refused
from vbuskit.base.places import Places
from vbuskit.base.remembered import Results, digest_of_files, remembered
from vbuskit.base.run import Runner
from vbuskit.ci import iso as driver_iso
from vbuskit.kmp import deb, dkms, rpm
from vbuskit.kmp.changelog import Release, current_release
from vbuskit.kmp.deb import Spoil
from vbuskit.kmp.defects import planted, spoiling
from vbuskit.kmp.detached import Asked
from vbuskit.kmp.keys import Key
from vbuskit.kmp.signing import signed_artifacts

# Files and folders of ours that packages and ISO are made from and by.
SOURCES = (
    *("LICENSES", "base/vbuskit", "kmp/debian", "kmp/rpm", "kmp/scripts"),
    *("kmp/vbuskit", "initrd", "ci/iso"),
    *(f"ci/vbuskit/ci/{name}.py" for name in ("iso", "manifest", "media", "repository")),
    *(f"drivers/vbuskit/drivers/{name}.py" for name in ("kernel", "kernels")),
)
# Unsigned .ko files of one kernel release, by name, in the order in which they are loaded.
Build = Callable[[Runner, Places, str], Results]
# Packages, by name, of one kernel's signed modules: deb.build, rpm.build.
Pack = Callable[[Runner, Path, Release, str, Results, Path, Spoil], Results]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """What every step needs; `kernel` is a release as `uname -r` prints it in the guest.

    defect: what is wrong on purpose; one of the packages (kmp/defects.py) is planted here
    """

    run: Runner
    places: Places
    key: Key
    kernel: str
    build: Build
    defect: str = "none"

    def iso(self, others: Sequence[Factory] = ()) -> Artifact:
        """out/vbuskit-VERSION.iso for this kernel and those of `others`, and everything before it."""
        release = current_release(self.places.tree)
        packages = all_packages([self, *others])
        name = f"vbuskit-{release.version}.iso"

        def work(folder: Path) -> Results:
            path = folder / name
            return {name: driver_iso.build(self.run, self.places.tree, release, self.key, packages, path)}

        sums = [f"{package.path.name} {package.sha256}" for package in packages]
        tool = self.run(["createrepo_c", "--version"])
        inputs = digest_of(self._own(), repr(release), tool, *sums, self.key.certificate_der)
        return published(self.places, remembered(self._steps("iso"), inputs, work)[name])

    def packages(self) -> Results:
        """The Debian packages of this kernel, at the top of out/, by package name."""
        return self._packed("package", deb.build, "dpkg-deb")

    def rpms(self) -> Results:
        """out/vbus-VERSION-1.x86_64.rpm and the KMP of this kernel's flavour, by package name."""
        return self._packed("rpm", rpm.build, "rpmbuild")

    def signed(self) -> Results:
        """The modules, stripped and signed, below out/steps."""
        modules = self.build(self.run, self.places, self.kernel)

        def work(folder: Path) -> Results:
            return signed_artifacts(self.run, modules, self.key, folder)

        sums = [f"{name} {module.sha256}" for name, module in modules.items()]
        tool = self.run(["strip", "--version"])
        inputs = digest_of(self._own(), self.key.certificate_der, tool, *sums)
        return remembered(self._steps("sign"), inputs, work)

    def _packed(self, step: str, pack: Pack, program: str) -> Results:
        release = current_release(self.places.tree)
        modules = self.signed()

        def work(folder: Path) -> Results:
            spoil = spoiling(self.defect, self.kernel, self.key)
            with planted(self.places.tree, self.defect) as tree:
                return pack(self.run, tree, release, self.kernel, modules, folder, spoil)

        sums = [f"{name} {module.sha256}" for name, module in modules.items()]
        tool = self.run([program, "--version"])
        inputs = digest_of(self._own(), repr(release), self.kernel, self.defect, tool, *sums)
        made = remembered(self._steps(step), inputs, work)
        return {name: published(self.places, package) for name, package in made.items()}

    def _steps(self, step: str) -> Path:
        return self.places.work("steps", step)

    def _own(self) -> str:
        """Our own sources and libraries are inputs like the modules are."""
        libraries = [f"{name} {version(name)}" for name in ("cryptography", "pycdlib")]
        return digest_of(*libraries, digest_of_files(self.places.tree / source for source in SOURCES))


def published(places: Places, artifact: Artifact) -> Artifact:
    """The same file at the top of out/, where a user looks for it."""
    target = places.out / artifact.path.name
    if not target.is_file() or Artifact.of(target).sha256 != artifact.sha256:
        with written(target) as draft:
            shutil.copyfile(artifact.path, draft)
    return Artifact(target, artifact.sha256, artifact.size)


def dkms_packages(run: Runner, places: Places) -> Results:
    """vbus-dkms for both families, at the top of out/, by format; without a kernel and without a key."""
    tree, release = places.tree, current_release(places.tree)
    tools = [run([tool, "--version"]) for tool in ("dpkg-deb", "rpmbuild")]
    sources = digest_of_files(tree / name for name in ("LICENSES", "base/vbuskit", "drivers", "kmp"))
    inputs = digest_of(repr(release), *tools, sources)
    made = remembered(
        places.work("steps", "dkms"), inputs, lambda folder: dkms.build(run, tree, release, folder)
    )
    return {form: published(places, package) for form, package in made.items()}


def all_packages(factories: Sequence[Factory]) -> list[Artifact]:
    """Both families' packages of all these kernels; what is for all kernels, once."""
    asked = Asked()
    for factory in factories:
        with asked:
            factory.signed()
    asked.tell()
    found: dict[str, Artifact] = {}
    for factory in factories:
        for package in (*factory.packages().values(), *factory.rpms().values()):
            known = found.setdefault(package.path.name, package)
            if known.sha256 != package.sha256:
                raise Refused(
                    f"{package.path.name}: comes out in two forms, of which one is for {factory.kernel}",
                    hint="name each kernel once",
                )
    return [found[name] for name in sorted(found)]
