# SPDX-License-Identifier: MIT
"""Steps that are not done twice: results lie in a folder named after everything they were made from."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vbuskit.base.artifact import Artifact, digest_of
from vbuskit.base.errors import Blocked
from vbuskit.base.places import make

LIST = "outputs.json"
DRAFT = ".draft."  # then something random; locked by whoever works in it
Results = dict[str, Artifact]


def remembered(folder: Path, inputs: str, work: Callable[[Path], Results]) -> Results:
    """`folder`/<first 16 digits of `inputs`>: what `work` made of these inputs, made now or earlier.

    `work` gets an empty folder and returns name -> file in it. It appears under its name only when all of it
    is there; a result that was changed since is made again.
    """
    place = folder / inputs[:16]
    known = recall(place)
    if known is not None:
        return known
    with draft_in(folder) as draft:
        results = work(draft)
        listing = {name: (str(a.path.relative_to(draft)), a.sha256, a.size) for name, a in results.items()}
        (draft / LIST).write_text(json.dumps(listing))
        draft.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # somebody else was faster; what lies there is judged like any other result
            draft.rename(place)
    done = recall(place)
    if done is None:
        raise Blocked(f"{place}: somebody else is writing there", hint="run it again")
    return done


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """An empty folder below `folder`, gone after the block; those of killed processes are swept first."""
    make(folder)
    with ExitStack() as undo:
        with locked(folder):  # or somebody's sweep would see the draft before its lock
            sweep(folder)
            draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
            undo.callback(shutil.rmtree, draft, ignore_errors=True)
            undo.enter_context(locked(draft))
        yield draft


def sweep(folder: Path) -> None:
    """Remove the drafts that nobody works in: SIGKILL gave their makers no chance to do it.

    A lock says so, no process number: in a sandbox the killed maker and its sweeper are both number 2.
    """
    for draft in folder.glob(f"{DRAFT}*"):
        with suppress(BlockingIOError), locked(draft, fcntl.LOCK_NB):
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def locked(folder: Path, how: int = 0) -> Iterator[None]:
    """The kernel drops the lock when its holder dies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(handle)


def recall(place: Path) -> Results | None:
    """What lies there when there is something and all of it is as it was made, None otherwise."""
    try:
        listing = json.loads((place / LIST).read_text())
        results = {name: Artifact(place / path, sha, size) for name, (path, sha, size) in listing.items()}
        whole = all(Artifact.of(artifact.path) == artifact for artifact in results.values())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return results if results and whole else None


def digest_of_files(paths: Iterable[Path]) -> str:
    """One SHA-256 over files and over all files below folders; by name and content, never by date."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    kept = [file for file in files if file.is_file() and "__pycache__" not in file.parts]
    return digest_of(*(part for file in kept for part in (file.name, file.read_bytes())))
