# SPDX-License-Identifier: MIT
"""The wire as a table: every constant, size and offset of drivers/include/*_abi.h, as a compiler has them.

The table of v0.1 is drivers/include/wire.txt. What stands in it is for good; what is new in the headers is
added by `.venv/bin/python -m vbuskit.drivers.wire`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vbuskit.base.errors import Refused, VbuskitError
from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner

INCLUDE = ROOT / "drivers" / "include"
TABLE = "wire.txt"
COMMAND = ".venv/bin/python -m vbuskit.drivers.wire"
HEAD = f"""\
# SPDX-License-Identifier: MIT
# What north and south agree on, as a compiler has it. `{COMMAND}` adds what is new in
# the headers; a line is never changed or taken away: docs/protocol.md, Versions.
"""

ROOM = re.compile(r"reserved|pad\d*")  # of a structure: what a feature bit may give a name to
TALLIES = re.compile(r"\w+_NR_\w+")  # of an enumeration: how many there are is not on the wire
SAMPLES = (0, 1, 7)  # what the macros that count are asked for

PARTS = re.compile(
    r"""^\#define\ (?P<macro>\w+)(?P<counts>\(\w+\))?[ ](?P<value>\S.*)$
    | ^struct\ (?P<struct>\w+)\ \{(?P<fields>[^{}]*)\};$
    | ^enum\ \w+\ \{(?P<members>[^{}]*)\};$
    | ^(?P<silent>\#include\ .*|\#ifndef\ \w+|\#endif|\#define\ \w+\ *|VBUS_STATIC_ASSERT\(.*\);|\s*)$""",
    re.MULTILINE | re.VERBOSE,
)
FIELD = re.compile(r"(?P<type>(?:struct )?\w+) (?P<name>\w+)(?P<shape>(?:\[\w*\])*)")


@dataclass(frozen=True, slots=True)
class Claim:
    """A line of the table; what stands in braces is what the compiler makes of `expressions`."""

    line: str
    expressions: tuple[str, ...] = ()


def table(run: Runner, include: Path = INCLUDE) -> dict[str, list[str]]:
    """{header: its lines}; a hole in a structure, or what cannot be read, raises VbuskitError."""
    claims = {path.name: list(claims_of(run, path)) for path in sorted(include.glob("*_abi.h"))}
    numbers = compiled(run, include, [claim for each in claims.values() for claim in each])
    return {
        name: [claim.line.format(*(next(numbers) for _ in claim.expressions)) for claim in each]
        for name, each in claims.items()
    }


# ---- Headers ----


def claims_of(run: Runner, header: Path) -> Iterator[Claim]:
    """Of what is left of a header without its comments, which must be nothing but what is understood."""
    text, at = run(["gcc", "-fpreprocessed", "-dD", "-E", "-P", header]), 0
    while at < len(text):
        part = PARTS.match(text, at)
        if part is None:
            line = text[at:].partition("\n")[0]
            raise VbuskitError(f"{header.name}: `{line}` is nothing that the table of the wire can hold")
        if part["macro"]:
            yield from macro(part["macro"], part["value"], counts=bool(part["counts"]))
        elif part["struct"]:
            yield from structure(header, part["struct"], part["fields"])
        elif part["members"]:
            names = [member.partition("=")[0].strip() for member in part["members"].split(",")]
            yield from (number(name) for name in names if name and not TALLIES.fullmatch(name))
        at = part.end() + 1


def number(name: str) -> Claim:
    return Claim(f"{name} = {{}}", (name,))


def macro(name: str, value: str, *, counts: bool) -> Iterator[Claim]:
    if counts:
        yield from (number(f"{name}({sample})") for sample in SAMPLES)
    elif value.startswith('"'):
        yield Claim(f"{name} = {value}")
    else:
        yield number(name)


def structure(header: Path, name: str, fields: str) -> Iterator[Claim]:
    yield Claim(f"struct {name}: {{}} bytes", (f"sizeof(struct {name})",))
    for words in fields.split(";")[:-1]:
        field = FIELD.fullmatch(" ".join(words.split()))
        if field is None:
            raise VbuskitError(f"{header.name}: struct {name}: `{words.strip()}`: one plain field at a time")
        if not ROOM.fullmatch(field["name"]):
            yield place(name, field["type"], field["name"], each=field["shape"] == "[]")


def place(struct: str, kind: str, field: str, *, each: bool) -> Claim:
    """Where a field is; of an array without an end, how long each of it is."""
    value, more = f"((struct {struct} *)0)->{field}", " each" if each else ""
    size = f"sizeof({value}[0])" if each else f"sizeof({value})"
    line = f"struct {struct}.{field}: {kind} at {{}}, {{}} bytes{more}"
    return Claim(line, (f"offsetof(struct {struct}, {field})", size))


def compiled(run: Runner, include: Path, claims: list[Claim]) -> Iterator[int]:
    """What each expression is, by a program that says so; a structure with a hole does not compile."""
    texts = [text for claim in claims for text in claim.expressions]
    prints = "\n".join(f'\tprintf("%llu\\n", (unsigned long long)({text}));' for text in texts)
    headers = "\n".join(f'#include "{path.name}"' for path in sorted(include.glob("*_abi.h")))
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "wire.c"), Path(folder, "wire")
        source.write_text(f"#include <stdio.h>\n{headers}\nint main(void)\n{{\n{prints}\n}}\n")
        flags = ["-std=gnu11", "-Werror", "-Wpadded", f"-I{include}"]
        done = run.attempt(["gcc", *flags, source, "-o", program])
        if done.code:
            why = next((line for line in done.err.splitlines() if "error:" in line), done.err)
            raise VbuskitError(f"the headers of the wire: {why}", hint="name a hole in a structure reserved")
        return iter([int(line) for line in run([program]).split()])


# ---- The table ----


def recorded(include: Path = INCLUDE) -> list[str]:
    path = include / TABLE
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def objections(run: Runner, include: Path = INCLUDE) -> list[str]:
    """A line for each difference between the headers and the table: what is wrong, and what to do."""
    now, then = [line for lines in table(run, include).values() for line in lines], recorded(include)
    gone = [
        f"the wire had `{line}`: take the change back, or put it under a feature bit "
        "(docs/protocol.md, Versions)"
        for line in then
        if line not in now
    ]
    new = [f"`{line}` is new: run {COMMAND}" for line in now if line not in then]
    return gone or new


def record(run: Runner, include: Path = INCLUDE) -> str:
    """Add what is new; raises Refused when that is not all. Returns what was done."""
    lines, then = table(run, include), recorded(include)
    now = [line for each in lines.values() for line in each]
    if lost := [line for line in then if line not in now]:
        raise Refused(
            f"{TABLE}: the wire had `{lost[0]}` and {len(lost) - 1} more that the headers have not",
            hint="take the change back, or put it under a feature bit: docs/protocol.md, Versions",
        )
    parts = "\n".join("\n".join((f"# {name}", *each, "")) for name, each in lines.items())
    (include / TABLE).write_text(f"{HEAD}\n{parts}")
    return f"{include / TABLE}: {len(now)} lines, {len(now) - len(then)} of them new"


def main() -> int:
    try:
        print(record(Runner()))
    except VbuskitError as error:
        print(f"wire: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
