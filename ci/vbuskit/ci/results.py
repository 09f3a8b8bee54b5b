# SPDX-License-Identifier: MIT
"""`out/results.json`: everything a run found out, so that its report can be written again.

docs/report.md describes the keys. `SCHEMA` changes when a reader of the old form could misread the new.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Blocked, Refused
from vbuskit.ci.facts import Guest, Host, RunFacts, Step
from vbuskit.compat.cells import Cell, cell_of, document_of

SCHEMA = 3


def encode(out: Path, facts: RunFacts, cells: Sequence[Cell]) -> str:
    """Paths become relative to `out`, so that the folder can be moved and archived."""
    document = {
        "schema": SCHEMA,
        "facts": {
            **asdict(facts),
            "started": facts.started.isoformat(),
            "artifacts": [{**asdict(made), "path": relative(out, made.path)} for made in facts.artifacts],
        },
        "cells": [
            {**document_of(cell), "logs": [relative(out, log) for log in cell.logs]} for cell in cells
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def decode(out: Path, text: str) -> tuple[RunFacts, list[Cell]]:
    """The reverse; raises Refused for anything that `encode` would not have written."""
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise Refused(f"results.json: schema {document['schema']}, this vbuskit reads {SCHEMA}")
        facts, cells = (
            facts_from(out, document["facts"]),
            [in_folder(out, cell_of(each)) for each in document["cells"]],
        )
        for each in (facts, *cells):
            check(each, type(each), type(each).__name__)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Refused(
            f"results.json: not what a run writes: {error!r}", hint="./vbuskit run writes a new one"
        ) from error
    return facts, cells


def check(value: Any, kind: Any, name: str) -> None:
    """Raise TypeError when `value`, or what is in it, is not of the type that is written down for it."""
    if is_dataclass(value):
        for field, its in get_type_hints(type(value)).items():
            check(getattr(value, field), its, field)
    plain = kind if isinstance(kind, UnionType) else get_origin(kind) or kind
    is_whole = isinstance(value, plain) or (kind is float and isinstance(value, int))
    if not is_whole or (isinstance(value, float) and not isfinite(value)):
        raise TypeError(f"{name}: {type(value).__name__}")
    if isinstance(value, (list, tuple)):
        for each in value:
            check(each, get_args(kind)[0], name)
    if isinstance(value, dict):
        for each in (*value, *value.values()):
            check(each, str, name)


def read(out: Path) -> tuple[RunFacts, list[Cell]]:
    path = out / "results.json"
    if not path.is_file():
        raise Blocked(f"{path}: there are no results yet", hint="./vbuskit run writes them")
    return decode(out, path.read_text(encoding="utf-8", errors="replace"))


def facts_from(out: Path, raw: dict[str, Any]) -> RunFacts:
    return RunFacts(
        **{
            **raw,
            "host": Host(**raw["host"]),
            "guests": tuple(Guest(**each) for each in raw["guests"]),
            "started": datetime.fromisoformat(raw["started"]),
            "steps": tuple(Step(str(each["name"]), float(each["seconds"])) for each in raw["steps"]),
            "artifacts": tuple(
                Artifact(out / each["path"], str(each["sha256"]), int(each["size"]))
                for each in raw["artifacts"]
            ),
        }
    )


def in_folder(out: Path, cell: Cell) -> Cell:
    cell.logs = [below(out, log) for log in cell.logs]
    return cell


def below(out: Path, log: Path) -> Path:
    """`log` seen from `out`. Raises Refused for one that leads out of it, by `..` or by a link.

    A page shows the end of each, and a bundle has all of it: of a run, and of nothing else on this machine.
    """
    path = out / log
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)):
        raise Refused(
            f"results.json: the log {str(log)!r} lies outside {out}",
            hint="no run writes that: take it for a forgery, or copy the folder with what its links lead to",
        )
    return path


def relative(out: Path, path: Path) -> str:
    return os.path.relpath(path, out)
