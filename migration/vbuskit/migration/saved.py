# SPDX-License-Identifier: MIT
"""What one vbusd leaves to the next one of its host, as a compiler has it: record, worker's page, messages.

Lines are those of drivers/include/wire.txt.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vbuskit.base.run import Runner
from vbuskit.drivers.wire import Claim, number, structure

# A record's version is that of all of it: a vbusd leaves a bus alone that another version recorded.
VERSION = "VBUSD_RECORD_VERSION"
HEADERS = ("vbusd_abi.h", "worker_abi.h", "vbusd_record.h")
ROOTS = ("vbusd_record", "vbus_worker_message", "vbus_worker_notice", "vbus_status_page")
LISTS = ("vbusd_held", "vbus_worker_kind", "vbus_worker_fd", "vbus_notice_kind")
STRUCT = re.compile(r"^struct (\w+) \{([^{}]*)\};$", re.MULTILINE)
ENUM = re.compile(r"^enum (\w+) \{([^{}]*)\};$", re.MULTILINE)
FOLDERS = ("include", "core", "ports/user", "host", "host/classes")


def saved(run: Runner, tree: Path) -> list[str]:
    drivers = tree / "drivers"
    claims = list(claims_of(run, drivers / "host"))
    texts = [text for claim in claims for text in claim.expressions]
    prints = "\n".join(f'\tprintf("%llu\\n", (unsigned long long)({text}));' for text in texts)
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "saved.c"), Path(folder, "saved")
        source.write_text(
            f'#include <stdio.h>\n#include "vbusd_record.h"\nint main(void)\n{{\n{prints}\n}}\n'
        )
        run(
            ["gcc", "-std=gnu11", *(f"-I{drivers / each}" for each in FOLDERS), source, "-o", program],
        )
        numbers = iter(run([program]).split())
    return [claim.line.format(*(next(numbers) for _ in claim.expressions)) for claim in claims]


def claims_of(run: Runner, host: Path) -> Iterator[Claim]:
    """The version, what the lists number, and the structures with all that they are made of."""
    yield number(VERSION)
    texts = {name: run(["gcc", "-fpreprocessed", "-dD", "-E", "-P", host / name]) for name in HEADERS}
    for text in texts.values():
        for name, members in ENUM.findall(text):
            words = [word.partition("=")[0].strip() for word in members.split(",")]
            yield from (number(word) for word in words if word and name in LISTS)
    found = {
        name: (host / header, fields)
        for header, text in texts.items()
        for name, fields in STRUCT.findall(text)
    }
    for name in reached(found, ROOTS):
        header, fields = found[name]
        yield from structure(header, name, fields)


def reached(found: dict[str, tuple[Path, str]], names: tuple[str, ...]) -> list[str]:
    """Those and the structures within them, each once."""
    order = list(names)
    for name in order:
        inner = re.findall(r"\bstruct (\w+)", found[name][1])
        order += [each for each in dict.fromkeys(inner) if each in found and each not in order]
    return order
