# SPDX-License-Identifier: MIT
"""Kernel modules by Kbuild, in a copy of the sources, so that the checkout is never written to."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of, write
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.base.places import Places, make
from vbuskit.base.run import Arg, Runner, not_for_want_of_room

INSTALLED = Path("/lib/modules")
MODULES = ("vbus", "venet", "vblk")
SOURCES = ("Kbuild", "core", "include", "linux", "ports/linux")
KINDS = (".c", ".h", ".sh")
CONFIG = Path("linux/vbus_config.h")  # what the probes found; Kbuild makes it
DATED = ("compile.h", "package.h", "utsrelease.h")  # name the package that the headers came from
DEFECTS = ("none", "epoch", "late", "wakeup", "mac")
UNSEEN = ("leak", "atomic")  # defects that only the debug kernel notices


class ModuleBuildFailed(VbuskitError):
    """Kbuild said no; the hint names the log."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the modules of one kernel release are built.

    toolchain: digest over compiler and headers; another one begins with an empty folder
    root, work: a build root, and the folder in it that sources are bound to; None for the machine itself
    settings: words for make, when the kernel is another architecture's
    tools: what the names of the binutils begin with
    devel: what is built against; None for what is installed for `release`
    """

    release: str
    toolchain: str
    root: Path | None = None
    work: Path | None = None
    settings: tuple[str, ...] = ()
    tools: str = ""
    devel: Path | None = None

    @property
    def headers(self) -> Path:
        return self.devel or INSTALLED / self.release / "build"

    @property
    def symbols(self) -> Path:
        """What the kernel exports, in which version, as a path of this machine."""
        if self.root is None:
            return self.headers / "Module.symvers"
        return self.root / f"usr/src/linux-headers-{self.release}/Module.symvers"

    def seen(self, folder: Path) -> Path:
        """What `folder` is called where the build runs."""
        return self.work or folder

    def words(self, folder: Path, args: Sequence[Arg]) -> list[Arg]:
        if self.root is None:
            return list(args)
        return inside(self.root, args, binds={folder: str(self.work)})


def modules(run: Runner, places: Places, release: str, *, defect: str = "none") -> dict[str, Artifact]:
    """Build {module name: unsigned .ko, without debug information} for a kernel whose headers are installed.

    `defect` plants a fault on purpose ("epoch": a new epoch goes unnoticed, "late": it is followed after
    seconds, "wakeup": a receiver stays awake for ever, "mac": a card takes another address), for the tests
    that must turn red. Raises Blocked without the headers of
    `release`, ModuleBuildFailed when a source does not compile; warnings are errors.
    """
    return modules_at(run, places, site_here(run, release), f"modules-{release}", defect=defect)


def modules_for(run: Runner, places: Places, site: Site, *, defect: str = "none") -> dict[str, Artifact]:
    """As `modules`, for a kernel that is not installed: see devel.py."""
    return modules_at(
        run, places, site, f"modules-{site.release}-{digest_of(str(site.devel))[:8]}", defect=defect
    )


def site_here(run: Runner, release: str) -> Site:
    """The machine itself; Blocked without the headers of `release`."""
    generated = headers_of(release) / "include/generated"
    dated = [path.read_bytes() for name in DATED if (path := generated / name).is_file()]
    return Site(release, digest_of(release, run(["gcc", "-dumpfullversion"]), *dated))


def modules_at(
    run: Runner, places: Places, site: Site, name: str, *, defect: str = "none"
) -> dict[str, Artifact]:
    """As `modules`, anywhere; `name` is a folder below out/build."""
    folder = places.work("build", name + ("" if defect == "none" else f"-{defect}"))
    sources = sources_of(places.tree / "drivers")
    version = (places.tree / "VERSION").read_text().strip()
    contents = [part for s in sources.items() for part in (str(s[0]), s[1].read_bytes())]
    recipe = digest_of(site.toolchain, defect, version, *contents)
    stamp, toolchain = folder / "recipe", folder / "toolchain"
    # Of a user's own headers no digest has all: there make looks at each of them.
    if site.devel or not stamp.is_file() or stamp.read_text() != recipe:
        # make knows neither a new compiler under an old name nor headers that kept their release.
        if not toolchain.is_file() or toolchain.read_text() != site.toolchain:
            shutil.rmtree(folder)
            make(folder)
        with begun(folder):
            stamp.unlink(missing_ok=True)
            copy(sources, folder)
            compile_modules(run, site, folder, version, defect)
            write(toolchain, site.toolchain)
            write(stamp, recipe)
    return {name: Artifact.of(folder / f"{name}.ko") for name in MODULES}


@contextmanager
def begun(folder: Path) -> Iterator[None]:
    """A build that did not come to its end is begun anew: make takes half a file for a new one."""
    mark = folder / "begun"
    if mark.exists():
        shutil.rmtree(folder)
        make(folder)
    mark.touch()
    yield
    mark.unlink()


def newest_release(flavour: str = "", installed: Path = INSTALLED) -> str:
    """The newest release, by number, whose headers are installed; `flavour` is how its name ends."""
    releases = [path.parent.name for path in installed.glob(f"*{flavour}/build") if path.is_dir()]
    if not releases:
        package = f"linux-headers-{flavour or 'cloud-amd64'}"
        raise Blocked(f"no kernel headers (*{flavour}) below {installed}", hint=f"apt-get install {package}")
    return max(releases, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def headers_of(release: str) -> Path:
    headers = INSTALLED / release / "build"
    if not (headers / "Makefile").is_file():
        raise Blocked(
            f"kernel {release}: its headers are not installed",
            hint=f"apt-get install linux-headers-{release}",
        )
    return headers


def sources_of(drivers: Path) -> dict[Path, Path]:
    """{path relative to drivers/: file} of all that Kbuild reads, sorted."""
    found: dict[Path, Path] = {}
    for name in SOURCES:
        top = drivers / name
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.suffix in KINDS)
        found |= {file.relative_to(drivers): file for file in files}
    return {name: file for name, file in found.items() if "tests" not in name.parts}


def copy(sources: dict[Path, Path], folder: Path) -> None:
    """Copy what differs; what is the same keeps its time, so that make rebuilds only what changed."""
    for name, source in sources.items():
        target = folder / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for stray in folder.rglob("*.[ch]"):
        made = stray.relative_to(folder) == CONFIG or stray.name.endswith(".mod.c")
        if stray.relative_to(folder) not in sources and not made:
            stray.unlink()


def sparse(run: Runner, places: Places, release: str) -> int:
    """Let sparse check types, contexts and byte order; returns how many sources it looked at.

    Raises ModuleBuildFailed with the first thing it says of one of ours.
    """
    folder = places.work("build", f"sparse-{release}")
    sources = sources_of(places.tree / "drivers")
    version = (places.tree / "VERSION").read_text().strip()
    command = kbuild(site_here(run, release), folder, version)
    log = folder / "build.log"
    with begun(folder):
        copy(sources, folder)
        done = run.attempt([*command, "C=2", "CF=-D__CHECK_ENDIAN__", "modules"])
        log.write_text(done.out + done.err)
    said = [line for line in done.err.splitlines() if line.startswith(str(folder))]
    if done.code or said:
        raise ModuleBuildFailed(f"sparse: {(said or done.err.splitlines())[0]}", hint=f"see {log}")
    return len(re.findall(r"^  CHECK ", done.out, re.MULTILINE))


def kbuild(site: Site, folder: Path, version: str) -> list[str | Path]:
    # The same bytes wherever they are built: debug information and the build id name no folder.
    here = site.seen(folder)
    mapped = f"KCFLAGS=-ffile-prefix-map={here}=."
    jobs = f"-j{os.cpu_count() or 1}"
    ours = [f"M={here}", f"VBUS_RELEASE={version}", mapped]
    strict = [] if site.devel else ["VBUS_WERROR=1"]  # nobody has seen what a user's compiler warns of
    return ["make", jobs, "-C", site.headers, *ours, *strict, *site.settings]


def compile_modules(run: Runner, site: Site, folder: Path, version: str, defect: str) -> None:
    planted = [] if defect == "none" else [f"VBUS_DEFECT={defect.upper()}"]
    done = run.attempt(site.words(folder, [*kbuild(site, folder, version), *planted, "modules"]))
    log = folder / "build.log"
    log.write_text(done.out + done.err)
    if done.code:
        not_for_want_of_room("make", done)
        said = (line for line in done.err.splitlines() if "error" in line or line.startswith("vbus: "))
        first = next(said, done.err.strip()[-200:])
        raise ModuleBuildFailed(f"modules for {site.release}: {first.strip()}", hint=f"see {log}")
    # Debug information names the build folder and quintuples the size; a signature comes after this.
    kos = [site.seen(folder) / f"{name}.ko" for name in MODULES]
    run(site.words(folder, [f"{site.tools}strip", "--strip-debug", *kos]))
