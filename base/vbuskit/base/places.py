# SPDX-License-Identifier: MIT
"""Where things lie: the checkout, the state (keys), the cache (guests), the results (out/)."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import Blocked

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The folders of one run; all absolute, all made on demand.

    tree:  the checkout, never written to by a command other than below `out`
    out:   results; may be deleted at any time
    cache: what can be made again (guest images), shared between checkouts
    state: what cannot: the signing key; mode 0700
    """

    tree: Path
    out: Path
    cache: Path
    state: Path

    @classmethod
    def from_environment(cls, out: Path | None = None) -> Places:
        """VBUSKIT_STATE and VBUSKIT_CACHE win over the XDG base directories."""
        home = Path(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
        state = Path(os.environ.get("XDG_STATE_HOME") or home / ".local/state") / "vbuskit"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "vbuskit"
        return cls(
            tree=ROOT,
            out=(out or ROOT / "out").resolve(),
            cache=Path(os.environ.get("VBUSKIT_CACHE") or cache).resolve(),
            state=Path(os.environ.get("VBUSKIT_STATE") or state).resolve(),
        )

    def work(self, *parts: str) -> Path:
        """A folder below `out`, made now."""
        return make(self.out.joinpath(*parts))


def make(folder: Path, mode: int = 0o755) -> Path:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise Blocked(
            f"{folder}: cannot be made: {error.strerror}", hint="choose another folder or free space"
        ) from error
    return folder
