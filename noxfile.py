# SPDX-License-Identifier: MIT
"""What a contributor runs; CI runs the same sessions by the same names.

The sessions run in the `.venv` that `./vbuskit` makes from pinned, hashed requirements, so that a
contributor, CI and a user have the same tools; `.venv/bin/nox -s lint` starts one.
"""

from __future__ import annotations

from pathlib import Path

import nox

VENV = Path(__file__).parent / ".venv" / "bin"

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "unit", "core", "kernel"]


def run(session: nox.Session, tool: str, *args: str) -> None:
    session.run(str(VENV / tool), *args, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, layers, spelling, shell scripts."""
    run(session, "ruff", "format", "--check", ".")
    run(session, "ruff", "check", ".")
    run(session, "lint-imports")
    tracked = str(session.run("git", "ls-files", external=True, silent=True)).split()
    scripts = [
        name for name in tracked if Path(name).read_bytes()[:15].startswith((b"#!/bin/sh", b"#!/bin/bash"))
    ]
    session.run("shellcheck", *scripts, external=True)
    session.run("codespell", "--ignore-words-list", "passt", *tracked, external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, over every folder at once."""
    run(session, "mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """Tests that need no guest."""
    run(session, "pytest", "-m", "not guest and not full", *session.posargs)


@nox.session
def core(session: nox.Session) -> None:
    """The portable C half and the host programs: native under ASan and UBSan, and once by mingw."""
    run(session, "python", "-m", "vbuskit.ci.cli", "build", "--only", "core", *session.posargs)


@nox.session
def kernel(session: nox.Session) -> None:
    """The Linux modules, warnings as errors, and sparse over all of them."""
    run(session, "python", "-m", "vbuskit.ci.cli", "build", "--only", "kernel", *session.posargs)


@nox.session
def gallery(session: nox.Session) -> None:
    """The pictures of the report and of a fleet in docs/, taken again; needs chromium-headless-shell."""
    run(session, "python", "-P", "-m", "vbuskit.ci.gallery", "docs")
