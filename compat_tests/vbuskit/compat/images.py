# SPDX-License-Identifier: MIT
"""Guest images: built once from a recipe, kept in the cache under its hash, never written to again.

The packages that went into one are kept too: when the image is lost, they make it again (kept.py).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.artifact import Artifact, write
from vbuskit.base.chroot import inside
from vbuskit.base.errors import Blocked, Refused, VbuskitError
from vbuskit.base.mirror import bootstrap, named, source, why_not
from vbuskit.base.places import Places, make
from vbuskit.base.run import Arg, Finished, Runner
from vbuskit.base.shelf import draft_on, has_room, hold, is_held, locked, sweep, trusted
from vbuskit.compat.kept import Kept, Package
from vbuskit.compat.recipe import DISK_MIB, EXCLUDED, FILES, GENERATORS, INIT, MASKED, Recipe

PARTS = ("disk.qcow2", "vmlinuz", "initrd", "packages.txt")
QUICK = "initrd.quick"
UDEV_IN_INITRD = ("hooks/udev", "scripts/init-top/udev", "scripts/init-bottom/udev")
ROOM = 2 << 30  # bytes a build takes at its peak, with a margin: tree, raw disk, qcow2


@dataclass(frozen=True, slots=True)
class Image:
    """One finished image; `packages` lists what is installed, one `name version` a line."""

    recipe: Recipe
    disk: Artifact
    kernel: Artifact
    initrd: Artifact
    packages: Artifact


def image_for(run: Runner, places: Places, recipe: Recipe) -> Image:
    """The image from the cache, verified; built first when it is not there or not what it was."""
    shelf = make(places.cache / "images")
    with suppress(Refused):  # who only takes one does not wait for who builds another
        return held(shelf, recipe)
    with locked(shelf):
        sweep(shelf)
        try:
            return held(shelf, recipe)
        except Refused:
            build(run, recipe, shelf, Kept.of(places))
        return held(shelf, recipe)


def image_anew(run: Runner, places: Places, recipe: Recipe) -> Image:
    """The image, of what the mirror has now; what it was made of before is forgotten once it is there."""
    shelf = make(places.cache / "images")
    with locked(shelf):
        sweep(shelf)
        if (shelf / recipe.key).is_dir() and is_held(shelf / recipe.key):
            raise Blocked(f"{shelf / recipe.key}: is in use", hint="wait until the run with it has ended")
        build(run, recipe, shelf, Kept.of(places), anew=True)
        return held(shelf, recipe)


def held(shelf: Path, recipe: Recipe) -> Image:
    """As `load`, and kept from `vbuskit guest gc` until this process ends."""
    hold(shelf / recipe.key)
    return load(shelf / recipe.key, recipe)


def load(folder: Path, recipe: Recipe) -> Image:
    """Raises Refused when the folder is not complete, or when a file is not the one that was built.

    The whole content is hashed each time: the cache is shared between checkouts, and 0.5 s per image is
    cheaper than a guest that boots something else.
    """
    try:
        trusted(folder)
        record = json.loads((folder / "image.json").read_text())
        parts = [Artifact(folder / name, *record[name]) for name in PARTS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder.name}: no finished image") from error
    for part in parts:
        part.verify()
    return Image(recipe, *parts)


def build(run: Runner, recipe: Recipe, shelf: Path, kept: Kept, *, anew: bool = False) -> None:
    """Everything happens in a draft folder; the rename at the end makes it an image."""
    has_room(shelf, "a guest image", ROOM)
    with draft_on(shelf, recipe.key) as draft:
        tree = draft / "tree"
        install(run, recipe, tree, kept, () if anew else kept.locked(recipe.wanted))
        settle(recipe, tree)
        make_initrd(run, recipe, tree)
        list_packages(run, tree, draft)
        extract(recipe, tree, draft)
        make_disk(run, tree, draft)
        shutil.rmtree(tree)
        seal(draft)


def install(run: Runner, recipe: Recipe, tree: Path, kept: Kept, lock: Sequence[Package]) -> None:
    """Debian's packages: those that `lock` says when they are what they were, or what the mirror has now."""
    if lock and kept.are_whole(lock):
        install_again(run, recipe, tree, kept, lock)
    else:
        install_new(run, recipe, tree, kept)
    forget_mirror(tree)
    if recipe.kernel is not None:
        binds = {recipe.kernel.path.parent: "/mnt"}
        dpkg = ["dpkg", "--install", f"/mnt/{recipe.kernel.path.name}"]
        run(inside(tree, dpkg, binds=binds, env=["INITRD=No"], writable=True))


def install_again(run: Runner, recipe: Recipe, tree: Path, kept: Kept, lock: Sequence[Package]) -> None:
    """The same packages as last time, to the byte; all are named, for priorities are the archive's."""
    mirror = tree.with_name("mirror")
    line = kept.repository(lock, recipe.suite, mirror)
    names = [package.name for package in lock]
    done = bootstrap(
        run, recipe.suite, tree, "minbase", names, EXCLUDED, sources=[line], arch=recipe.foreign
    )
    shutil.rmtree(mirror)
    if done.code:
        raise why_not(done, "guest image", "packages that were kept")


def install_new(run: Runner, recipe: Recipe, tree: Path, kept: Kept) -> None:
    debs = make(tree.with_name("debs"))
    done = bootstrap(
        run, recipe.suite, tree, "minbase", recipe.packages, EXCLUDED, keep=debs, arch=recipe.foreign
    )
    if done.code:
        raise why_no_image(done, recipe, source())
    kept.keep(run, recipe.wanted, debs.glob("*.deb"))
    shutil.rmtree(debs)


def forget_mirror(tree: Path) -> None:
    """A guest has no network; and where its packages came from is no business of its own."""
    for name in ("sources.list", "sources.list.d"):
        place = tree / "etc/apt" / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)


def why_no_image(done: Finished, recipe: Recipe, mirror: str) -> VbuskitError:
    """As why_not; and a mirror without the kernel of the headers here, or a foreign architecture."""
    if "Unable to locate package" in done.out + done.err:
        return Blocked(
            f"guest image: the mirror ({named(mirror)}) has no linux-image-{recipe.release}",
            hint="bring the headers up to date: apt-get update && apt-get install linux-headers-cloud-amd64",
        )
    if "can neither be executed natively" in done.out + done.err:
        return Blocked(
            f"guest image: this machine starts no programs of {recipe.arch}",
            hint="apt-get install qemu-user-static binfmt-support arch-test",
        )
    return why_not(done, "guest image", mirror)


def settle(recipe: Recipe, tree: Path) -> None:
    """Our files, our masks, no host's name: `tree` is a root that nothing runs in."""
    for name, content in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content)
    if recipe.init is not None:
        place = tree / INIT.lstrip("/")
        shutil.copyfile(recipe.init.path, place)
        place.chmod(0o755)
    for unit in MASKED:
        mask(tree / "etc/systemd/system" / unit)
    for name in GENERATORS:
        mask(tree / "etc/systemd/system-generators" / f"systemd-{name}-generator")
    mask(tree / "etc/systemd/system/multi-user.target.wants/dbus.service")  # its socket starts it when asked
    shadow = tree / "etc/shadow"
    shadow.write_text(re.sub(r"(?m)^root:[^:]*:", "root::", shadow.read_text()))


def mask(path: Path) -> None:
    """As `systemctl mask` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/null")


def make_initrd(run: Runner, recipe: Recipe, tree: Path) -> None:
    """Two: the guest's own, as a user has it, and one for our boots that goes without udev (3 s less)."""
    run(["chroot", tree, "update-initramfs", "-c", "-k", recipe.release], env={"LC_ALL": "C"})
    with without(tree, UDEV_IN_INITRD):
        run(["chroot", tree, "mkinitramfs", "-o", f"/{QUICK}", recipe.release], env={"LC_ALL": "C"})


@contextmanager
def without(tree: Path, names: Sequence[str]) -> Iterator[None]:
    """The tree as if these files had never been there."""
    paths = [tree / "usr/share/initramfs-tools" / name for name in names]
    for path in paths:
        path.rename(path.with_suffix(".away"))
        path.with_suffix(".away").chmod(0o644)
    try:
        yield
    finally:
        for path in paths:
            path.with_suffix(".away").chmod(0o755)
            path.with_suffix(".away").rename(path)


def list_packages(run: Runner, tree: Path, draft: Path) -> None:
    listing = run(["dpkg-query", f"--admindir={tree / 'var/lib/dpkg'}", "-W", "-f=${Package} ${Version}\n"])
    write(draft / "packages.txt", listing)


def extract(recipe: Recipe, tree: Path, draft: Path) -> None:
    """Kernel and initrd for direct boot: no boot loader, no firmware menu."""
    shutil.copyfile(tree / f"boot/vmlinuz-{recipe.release}", draft / "vmlinuz")
    (tree / QUICK).rename(draft / "initrd")


def make_disk(run: Runner, tree: Path, draft: Path) -> None:
    """ext4 straight from the tree: no loop device, no mount; tables written now, not in every boot."""
    raw = draft / "disk.raw"
    now = "lazy_itable_init=0,lazy_journal_init=0"
    run(["mke2fs", "-q", "-t", "ext4", "-L", "guest", "-E", now, "-d", tree, raw, f"{DISK_MIB}M"])
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, draft / "disk.qcow2"])
    raw.unlink()


def seal(draft: Path) -> None:
    """The record is written last; a folder without it is not an image."""
    parts = {name: Artifact.of(draft / name) for name in PARTS}
    record = {name: [part.sha256, part.size] for name, part in parts.items()}
    for part in parts.values():
        part.path.chmod(0o444)
    write(draft / "image.json", json.dumps(record, indent=1) + "\n")


def overlay(
    run: Runner, base: Path, path: Path, command: Callable[[Sequence[Arg]], list[Arg]] = list
) -> Path:
    """A throw-away disk on top of another one, a qcow2 which stays as it is; `command`: of their host."""
    run(command(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path]))
    return path
