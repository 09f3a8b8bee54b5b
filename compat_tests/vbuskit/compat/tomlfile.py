# SPDX-License-Identifier: MIT
"""A TOML file whose errors say where: FILE:LINE:COLUMN. tomllib itself knows that only while it reads."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vbuskit.base.errors import UsageError, printable

# What no statement begins in: strings of several lines, the insides of the others, comments.
OPAQUE = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'" r"|#[^\n]*", re.DOTALL
)
KEY = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
DOTTED = rf"{KEY}(?:[ \t]*\.[ \t]*{KEY})*"
STATEMENT = re.compile(rf"[ \t]*(?:\[+[ \t]*(?P<table>{DOTTED})[ \t]*\]|(?P<key>{DOTTED})[ \t]*=[ \t]*)")
SAID = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A file that could be read as TOML; `name` is what its errors call it."""

    name: str
    text: str
    tables: dict[str, Any]

    def wrong(self, what: str, *path: str, hint: str | None = None) -> UsageError:
        """An error at the value of `path`, a table or a key."""
        return error_at(self.name, self.text, self.place(path)[1], what, hint)

    def unknown(self, what: str, known: Iterable[str], *path: str) -> UsageError:
        """As `wrong`, at the key itself, with the nearest of the words that there are."""
        known = list(known)
        near = get_close_matches(path[-1], known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        what = f"{what}; expected {' or '.join(known)}{meant}"
        return error_at(self.name, self.text, self.place(path)[0], what)

    def place(self, path: Names) -> tuple[int, int]:
        """Where `path` begins and where its value does, or those of what encloses it."""
        places = located(self.text)
        known = (path[:length] for length in range(len(path), 0, -1))
        return next((places[part] for part in known if part in places), (0, 0))


def read(path: Path, name: str) -> TomlFile:
    """Raises UsageError, in one line, for whatever is no TOML."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    return read_text(raw, name)


def read_text(raw: bytes, name: str) -> TomlFile:
    try:
        text = raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise error_at(name, before, len(before), "is no UTF-8; expected a text in it") from error
    try:
        return TomlFile(name, text, tomllib.loads(text))
    except RecursionError as error:
        raise error_at(name, text, 0, "is nested too deeply; expected tables of words") from error
    except ValueError as error:
        said = SAID.fullmatch(str(error))
        if said:
            raise UsageError(f"{name}:{said[2]}:{said[3]}: {expected(said[1])}") from error
        end = len(text) if "end of document" in str(error) else 0
        words = str(error).replace(" (at end of document)", "")
        raise error_at(name, text, end, expected(words)) from error


def expected(said: str) -> str:
    """What tomllib says, with what it leaves out: not all of its messages name what was expected."""
    said = printable(said[:1].lower() + said[1:])
    return said if "expected" in said.lower() else f"{said}; expected TOML, such as [table] or key = value"


def error_at(name: str, text: str, offset: int, what: str, hint: str | None = None) -> UsageError:
    before = text[:offset]
    line, column = before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
    return UsageError(f"{name}:{line}:{column}: {printable(what)}", hint=hint)


def located(text: str) -> dict[Names, tuple[int, int]]:
    """{path of a table or a key: where it begins, where its value does}, of a text that is TOML.

    A small reading: it finds tables, and keys that begin a line. An error in an inline table is shown where
    that begins; a line in the middle of an array may be taken for a table.
    """
    found: dict[Names, tuple[int, int]] = {}
    table: Names = ()
    offset = 0
    for line in OPAQUE.sub(blank, text).split("\n"):
        if match := STATEMENT.match(line):
            kind = "table" if match["table"] is not None else "key"
            start, end = offset + match.start(kind), offset + match.end(kind)
            if words := names(text[start:end]):
                table = words if kind == "table" else table
                path = words if kind == "table" else (*table, *words)
                found.setdefault(path, (start, start if kind == "table" else offset + match.end()))
                for length in range(len(table) + 1, len(path)):
                    found.setdefault(path[:length], (start, start))
        offset += len(line) + 1
    return found


def blank(match: re.Match[str]) -> str:
    """As long as before, with its line ends, and with nothing in it that looks like a statement."""
    whole = match[0]
    inside = re.sub(r"[^\n]", " ", whole[1:-1])
    return " " * len(whole) if whole.startswith("#") else whole[0] + inside + whole[-1]


def names(dotted: str) -> Names:
    """The words of a key as TOML understands them; none of a string of several lines, which is no key."""
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    words: list[str] = []
    while isinstance(value, dict):
        ((word, value),) = value.items()
        words.append(word)
    return tuple(words)
