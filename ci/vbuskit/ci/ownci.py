# SPDX-License-Identifier: MIT
"""Pipelines for a CI that the user has: a job a shard of the matrix, and one that puts them together."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

# Not braces: GitHub's own expressions are written with them.
DELIMITERS = {
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "block_start_string": "<%",
    "block_end_string": "%>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}
# By their major version: who wants a commit writes it there, and so does a bot that keeps it up to date.
ACTIONS = {
    "checkout": "actions/checkout@v6",
    "restore": "actions/cache/restore@v5",
    "save": "actions/cache/save@v5",
    "upload": "actions/upload-artifact@v6",
    "download": "actions/download-artifact@v7",
}
# Minutes: what a machine needs before its first cell, with nothing in its cache; what a job may ever have.
PREPARING, LONGEST = 60, 360
FACTOR = 3  # by which a machine of a CI may be slower than expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What is generated.

    words:   of `./vbuskit matrix run`, but for its shard and where it writes
    chosen:  those of them that choose cells
    again:   the command that writes this file
    shards:  expected seconds of each
    machine: labels (GitHub) or tags (GitLab) of the machines
    image:   of the container; empty: the machine itself is a Debian 12
    """

    words: Sequence[str]
    chosen: Sequence[str]
    again: Sequence[str]
    shards: Sequence[float]
    machine: Sequence[str]
    image: str

    @property
    def minutes(self) -> int:
        """When a job is given up; the same for all, since shards move as guests come and go."""
        expected = FACTOR * max(self.shards) / 60
        return min(LONGEST, 10 * math.ceil((PREPARING + expected) / 10))

    def render(self, template: str) -> str:
        env = Environment(
            loader=PackageLoader("vbuskit.ci"),
            autoescape=False,  # YAML; every word of the user goes through `tojson` or shlex
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            **DELIMITERS,  # type: ignore[arg-type]
        )
        return env.get_template(template).render(
            run=shlex.join(["./vbuskit", "matrix", "run", *self.words]),
            collect=shlex.join(["./vbuskit", "ci", "collect", *self.chosen]),
            again=shlex.join(["./vbuskit", "ci", *self.again]),
            count=len(self.shards),
            minutes=self.minutes,
            machine=list(self.machine),
            image=self.image,
            actions=ACTIONS,
        )
