# SPDX-License-Identifier: MIT
"""Goldens: what a release has shipped, made by that release's own tree and tools, or given by the user.

A tree and its .venv lie in the cache by commit; ISO and host programs by everything they are made from,
looked at each time before they are used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.places import Places, make
from vbuskit.base.remembered import Results, remembered
from vbuskit.base.run import Arg, CommandFailed, Finished, Runner
from vbuskit.base.shelf import draft_on, has_room, hold, locked, sweep, trusted
from vbuskit.ci.manifest import NAME, Manifest
from vbuskit.ci.media import read_iso
from vbuskit.ci.road import Goods, common_name
from vbuskit.ci.verify import verify_iso
from vbuskit.compat.cells import CellSkipped
from vbuskit.compat.plan import USUAL
from vbuskit.kmp.deb import MODULES
from vbuskit.kmp.keyring import chosen_key
from vbuskit.kmp.keys import parse_certificate

VERSION = 1  # raise it when goldens are made in another way
RELEASE = re.compile(r"\d+(\.\d+){1,2}(-[a-z0-9.]+)?")
PROGRAMS = ("vbusd", "vbus-worker")  # which start each other, and so lie side by side
BUILT = re.compile(r"^(?P<name>\S+) +\d+ bytes +[0-9a-f]+ +(?P<path>/.*)$", re.MULTILINE)
CERTIFICATE = "linux/certificate.pem"
ROOM = 1 << 30  # bytes of a tree with its .venv and what it builds
USAGE = 2  # exit code of every release for what it does not know


def given_of(words: Sequence[str] | None) -> dict[str, Path]:
    """`--golden RELEASE=FOLDER`, each of them. Raises UsageError for another form."""
    found: dict[str, Path] = {}
    for word in words or ():
        release, _, folder = word.partition("=")
        if not (RELEASE.fullmatch(release) and folder):
            raise UsageError(
                f"--golden {word}: expected RELEASE=FOLDER", hint="a folder with its ISO, vbusd, vbus-worker"
            )
        found[release] = Path(folder).resolve()
    return found


def unavailable(
    run: Runner, tree: Path, values: Mapping[str, Iterable[str]], given: Mapping[str, Path]
) -> dict[str, str]:
    """Why not, by `axis=value`, of the releases that some axes name. Raises UsageError for what is none."""
    found = {}
    for axis, releases in values.items():
        for release in releases:
            if release == USUAL[axis] or release in given:
                continue
            if not RELEASE.fullmatch(release):
                raise UsageError(
                    f"--{axis} {release}: is no release", hint="`this`, or a release such as 0.1"
                )
            if not commit_of(run, tree, release):
                found[f"{axis}={release}"] = (
                    f"this checkout has no tag v{release}: git fetch --tags, or --golden {release}=FOLDER"
                )
    return found


def commit_of(run: Runner, tree: Path, release: str) -> str:
    """Of a release's tag; empty where there is none, as in a shallow clone."""
    words: list[Arg] = [
        "git",
        "-C",
        tree,
        "rev-parse",
        "--verify",
        "--quiet",
        f"refs/tags/v{release}^{{commit}}",
    ]
    done = run.attempt(words)
    return "" if done.code else done.out.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Goldens:
    """Of the releases that `places.tree` has tags of; `given` are folders of the user's, by release."""

    run: Runner
    places: Places
    given: Mapping[str, Path] = field(default_factory=dict)

    def programs(self, release: str) -> Results:
        """A release's vbusd and worker."""
        if release in self.given:
            folder = self.given[release]
            return {name: one(folder, name) for name in PROGRAMS}

        def work(folder: Path) -> Results:
            done = self._old(release, folder, "build", "--only", "host")
            built = {match["name"]: Path(match["path"]) for match in BUILT.finditer(done.out)}
            return {name: moved(built[name], folder / name) for name in PROGRAMS}

        return self._made(release, work, "programs")

    def goods(self, release: str, kernel: str, uname: str) -> Goods:
        """A release's ISO with drivers for a kernel; `kernel` as its `iso --kernel` takes it.

        Raises CellSkipped when that release knows no such kernel.
        """
        if release in self.given:
            return goods_on(one(self.given[release], "*.iso"), uname)

        def work(folder: Path) -> Results:
            done = self._old(release, folder, "iso", "--kernel", kernel)
            iso = Path(done.out.splitlines()[-1])
            return {"iso": moved(iso, folder / iso.name)}

        key = chosen_key(self.places).certificate_der
        return goods_on(self._made(release, work, "iso", kernel, uname, key)["iso"], uname)

    def _made(self, release: str, work: Callable[[Path], Results], *inputs: str | bytes) -> Results:
        """One at a time: two would build the same, and the cells of one release come together."""
        commit = self._commit(release)
        shelf = make(self.places.cache / "goldens")

        def clean(folder: Path) -> Results:
            results = work(folder)
            shutil.rmtree(folder / "out")
            return results

        with locked(shelf):
            trusted(shelf)
            made = remembered(shelf / "made", digest_of(str(VERSION), commit, *inputs), clean)
            for result in made.values():
                hold(result.path.parent)
        return made

    def _old(self, release: str, folder: Path, *words: Arg) -> Finished:
        """The release's own `./vbuskit`, which makes its .venv first; results go to `folder`/out."""
        command: list[Arg] = [self._tree(release) / "vbuskit", *words, "--out", folder / "out"]
        where = {"VBUSKIT_CACHE": str(self.places.cache), "VBUSKIT_STATE": str(self.places.state)}
        where["PYTHONPATH"] = ""  # it has sources of its own
        done = self.run.attempt(command, env=where)
        if done.code == USAGE:
            said = (done.err.strip() or done.out.strip()).splitlines()
            refusal = next((line for line in said if line.startswith("vbuskit: ")), "")
            raise CellSkipped(f"release {release} does not know this: {refusal.removeprefix('vbuskit: ')}")
        if done.code:
            raise CommandFailed([str(word) for word in command], done.code, done.err or done.out)
        return done

    def _tree(self, release: str) -> Path:
        commit = self._commit(release)
        shelf = make(self.places.cache / "goldens" / "trees")
        with locked(shelf):
            trusted(shelf)
            sweep(shelf)
            if not (shelf / commit).is_dir():
                has_room(shelf, f"the tree of release {release}", ROOM)
                with draft_on(shelf, commit) as draft:
                    archive = draft / "tree.tar"
                    self.run(["git", "-C", self.places.tree, "archive", "-o", archive, commit])
                    self.run(["tar", "-x", "-f", archive, "-C", make(draft / "tree")])
                    archive.unlink()
            hold(shelf / commit)
        return shelf / commit / "tree"  # which its ./vbuskit locks itself

    def _commit(self, release: str) -> str:
        commit = commit_of(self.run, self.places.tree, release)
        if not commit:
            raise Refused(f"release {release}: this checkout has no tag v{release}", hint="git fetch --tags")
        return commit


def one(folder: Path, pattern: str) -> Artifact:
    """The only file there of that name. Raises UsageError: what the user gave is not whole."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UsageError(f"{folder}: has {len(found)} files {pattern}, not one", hint="see docs/matrix.md")
    return Artifact.of(found[0])


def moved(source: Path, target: Path) -> Artifact:
    shutil.move(source, target)
    return Artifact.of(target)


def goods_on(iso: Artifact, uname: str) -> Goods:
    """What an ISO carries, once all of it is as its signed list says.

    Raises CellSkipped when it has nothing for that kernel.
    """
    files = read_iso(iso.path)
    if CERTIFICATE not in files:
        raise Refused(f"{iso.path.name}: {CERTIFICATE}: is missing", hint="this is no whole driver ISO")
    signer = parse_certificate(files[CERTIFICATE])
    verify_iso(iso.path, signer)
    manifest = Manifest.from_json(files[NAME])
    if not any(each.name == f"{MODULES}-{uname}" for each in manifest.packages):
        raise CellSkipped(f"{iso.path.name}, vbuskit {manifest.vbuskit}: has no drivers for {uname}")
    return Goods(iso=iso, packages=(), version=manifest.vbuskit, signer=common_name(signer))
