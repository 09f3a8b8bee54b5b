# SPDX-License-Identifier: MIT
"""`vbuskit selftest`: what could not be tried where vbuskit was made, tried here; one file to send back."""

from __future__ import annotations

import argparse
import platform
import shutil
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.facts import look_at_checkout, look_at_host
from vbuskit.ci.machine import Machine
from vbuskit.ci.road import alone, say
from vbuskit.ci.selftest import Answer, Check, Outcome, Try, exit_code, pack, table
from vbuskit.ci.statements import LISTS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", choices=[*LISTS], help="which statements")
    parser.add_argument("--show", action="store_true", help="what would be tried, and what is missing")
    parser.add_argument("--only", metavar="ID", nargs="+", help="these checks")
    parser.add_argument(
        "--changes", action="store_true", help="also what changes this machine: it is undone afterwards"
    )
    parser.add_argument("--held", metavar="ID=NOTE", nargs="+", default=[], help="a person has tried it")
    parser.add_argument(
        "--failed", metavar="ID=NOTE", nargs="+", default=[], help="likewise, it does not hold"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: out/selftest-LIST.tar.gz")


def main(options: argparse.Namespace) -> Exit:
    return tried(options, Places.from_environment(), Machine())


def tried(options: argparse.Namespace, places: Places, machine: Machine) -> Exit:
    checks = chosen(LISTS[options.list](places.tree), options.only)
    told = {**notes(options.held, True, checks), **notes(options.failed, False, checks)}
    folder = places.out / "selftest"
    attempt = Try(machine, places.tree, folder, changes=options.changes)
    if options.show:
        print("\n".join(shown(attempt, checks)))
        return Exit.OK
    path = options.out or places.out / f"selftest-{options.list}.tar.gz"
    with alone(places):
        shutil.rmtree(folder, ignore_errors=True)
        places.work("selftest")
        answers = answered(attempt, checks, told, path, facts_of(places, machine))
    say(f"{counted(answers)}; send back {path}")
    return exit_code(answers)


def answered(
    attempt: Try, checks: list[Check], told: dict[str, tuple[bool, str]], path: Path, facts: dict[str, str]
) -> list[Answer]:
    """Each answer is told at once, and all of them are in the file, whatever ends this."""
    answers: list[Answer] = []
    start = time.monotonic()
    try:
        for answer in attempt.all(checks, told):
            answers.append(answer)
            print("\n".join(table([answer])), flush=True)
    finally:  # also what was found until somebody lost patience
        left = checks[len(answers) :]
        answers += [
            Answer(each.id, each.statement, Outcome.IMPOSSIBLE, "interrupted before") for each in left
        ]
        facts["seconds"] = f"{time.monotonic() - start:.0f}"
        pack(path, facts, answers, attempt.folder, attempt.tree)
    return answers


def chosen(checks: tuple[Check, ...], names: list[str] | None) -> list[Check]:
    known = [check.id for check in checks]
    if unknown := [name for name in names or () if name not in known]:
        raise UsageError(f"{unknown[0]}: no such check", hint=f"there are: {', '.join(known)}")
    return [check for check in checks if not names or check.id in names]


def notes(words: list[str], held: bool, checks: list[Check]) -> dict[str, tuple[bool, str]]:
    """`mok=on a Framework 13` of a person; only for what no command tries."""
    found = {}
    by_hand = [check.id for check in checks if not check.command]
    for word in words:
        name, _, note = word.partition("=")
        if name not in by_hand or not note:
            raise UsageError(
                f"{word}: is not ID=NOTE of a check that a person tries",
                hint=f"there are: {', '.join(by_hand)}",
            )
        found[name] = (held, note)
    return found


def shown(attempt: Try, checks: list[Check]) -> list[str]:
    lines = []
    for check in checks:
        missing = attempt.missing(check)
        lines.append(f"{check.id:16} {check.statement}")
        lines.append(
            f"{'':16} {f'not possible here: {missing}' if missing else f'up to {check.minutes} min'}"
        )
    return lines


def counted(answers: list[Answer]) -> str:
    counts = {outcome: [each.outcome for each in answers].count(outcome) for outcome in Outcome}
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def facts_of(places: Places, machine: Machine) -> dict[str, str]:
    """What a figure or a failure cannot be read without."""
    run = Runner()
    commit, dirty = look_at_checkout(run, places.tree)
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    lines = [
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")
    ]
    return {
        "version": (places.tree / "VERSION").read_text().strip(),
        "commit": commit,
        "dirty": str(dirty).lower(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(look_at_host(run)),
        "architecture": platform.machine(),
        "cpu": f"{len(lines)} x {lines[0]}" if lines else "",
        "kvm": machine.kvm() or "yes",
    }
