# SPDX-License-Identifier: MIT
"""Text without what is nobody else's business; docs/support.md lists the rules."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

CUT = "[cut]"


@dataclass(frozen=True, slots=True)
class Rule:
    """`says`: for people. `stands_for` of a name: the same stands for the same wherever it comes."""

    says: str
    pattern: re.Pattern[str]
    stands_for: str = ""


# Each repetition has an end: a guest may have written what is read here.
SECRETS = (
    Rule(
        "the value after a word such as password=, passphrase:, secret=, token= or credential=",
        re.compile(
            r"(?P<kept>(?:passw(?:or)?d|passphrase|secret|token|credential)[\w.-]{0,40}\"?\s{0,9}[=:]\s{0,9})"
            r"(?:\"[^\"\n]{0,4096}\"|'[^'\n]{0,4096}'|[^\s,;'\"<>]{1,4096})",
            re.I,
        ),
    ),
    Rule(
        "private keys in PEM, with all that is between their two lines",
        re.compile(
            r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?:[^-]|-(?!----END))*(?:-----END [A-Z ]{0,20}-----)?"
            r"|(?:^[\w+/=]{1,80}\s+){1,400}-----END [A-Z ]{0,20}PRIVATE KEY-----",
            re.MULTILINE,
        ),
    ),
    Rule("user and password in a URL", re.compile(r"(?P<kept>\w://)[^/\s@]{1,200}@")),
)
NAMES = (
    Rule(
        "MAC addresses",
        re.compile(
            r"(?<![\w:-])(?!(?:00:){5}00|(?:ff:){5}ff)[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?![\w:-])", re.I
        ),
        "mac",
    ),
    Rule("UUIDs", re.compile(r"(?<!\w)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?!\w)", re.I), "uuid"),
    Rule(
        "IPv4 addresses but 127.* and 0.0.0.0",
        re.compile(r"(?<![\w.+~-])(?!127\.|0\.0\.0\.0(?!\.?\d))(?:\d{1,3}\.){3}\d{1,3}(?![\w+~-]|\.\d)"),
        "ipv4",
    ),
    Rule(
        "IPv6 addresses but ::1",
        re.compile(
            r"(?<![\w:.])(?!::1?(?![\w:]))(?:(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"
            r"|(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6})?::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6})?)(?![\w:])",
            re.I,
        ),
        "ipv6",
    ),
    Rule("user names in /home/NAME", re.compile(r"(?P<kept>/home/)(?!user-)[\w.-]{1,64}"), "user"),
    Rule(
        "serial numbers and machine ids",
        re.compile(
            r"(?P<kept>\b(?:serial(?:number)?|machine-?id)\W{1,3})(?!tty|8250|port)[\w-]{0,40}\d[\w-]{5,80}",
            re.I,
        ),
        "serial",
    ),
)


class Redaction:
    """For one bundle: what was replaced is replaced by the same everywhere.

    hosts: names of machines; `names`: leave NAMES and these as they are, and cut secrets alone
    """

    def __init__(self, hosts: Iterable[str] = (), *, names: bool = False) -> None:
        self._known: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._names = names
        whole = sorted(
            {name for name in hosts if len(name) > 2 and name != "localhost"}, key=len, reverse=True
        )
        self._hosts = re.compile(
            "|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in whole) or r"(?!)", re.I
        )

    def __call__(self, text: str) -> str:
        for rule in SECRETS:
            text = rule.pattern.sub(kept(lambda _: CUT), text)
        if self._names:
            return text
        for rule in NAMES:
            text = rule.pattern.sub(kept(self._named(rule.stands_for)), text)
        return self._hosts.sub(kept(self._named("host")), text)

    def document(self, text: str) -> str:
        """Of JSON: a line end or a quote in it is two letters, which hide what is behind them."""
        try:
            clean = json.dumps(self._strings(json.loads(text)), indent=1) + "\n"
        except ValueError:
            clean = text
        return self(clean)  # also what a key says of its value

    def _strings(self, value: object) -> object:
        if isinstance(value, dict):
            return {self(key): self._strings(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._strings(each) for each in value]
        return self(value) if isinstance(value, str) else value

    def _named(self, kind: str) -> Callable[[str], str]:
        def name(found: str) -> str:
            known = self._known[kind]
            return known.setdefault(found.lower(), f"{kind}-{len(known) + 1}")

        return name


def kept(instead: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    """Replace a match, but for what its group `kept` found."""

    def replace(found: re.Match[str]) -> str:
        start = found["kept"] if "kept" in found.re.groupindex else ""
        return start + instead(found[0][len(start) :])

    return replace
