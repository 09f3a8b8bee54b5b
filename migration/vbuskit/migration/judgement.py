# SPDX-License-Identifier: MIT
"""A verdict, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Verdict(StrEnum):
    """YES: it may move now. IF: after the remedies, which neither touch the guest nor need another release.

    NO: it may not; what its remedies have changes the guest or the software of a host.
    """

    YES = "yes"
    IF = "yes-if"
    NO = "no"


ORDER = (Verdict.YES, Verdict.IF, Verdict.NO)


class Side(StrEnum):
    """Where the reason lies, and mostly where the remedy is applied."""

    SOURCE = "source"
    DESTINATION = "destination"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against a move.

    rule:    a stable word, such as `feature-masked`; docs/gate.md lists them
    subject: the bit (`venet sg.tso4`), machine type, image or field that it is about
    device:  whose, or None
    """

    rule: str
    verdict: Verdict
    side: Side
    subject: str
    reason: str
    remedies: tuple[str, ...] = ()
    device: UUID | None = None

    def __str__(self) -> str:
        where = f" device {self.device}:" if self.device else ""
        remedy = f" ({'; or '.join(self.remedies)})" if self.remedies else ""
        return f"{self.verdict}:{where} {self.subject}: {self.reason}{remedy}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one guest and one host; the verdict is the worst of the findings', YES without any."""

    guest: str
    host: str
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst(finding.verdict for finding in self.findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=ORDER.index, default=Verdict.YES)


def refuse(
    rule: str, side: Side, subject: str, reason: str, *remedies: str, of: UUID | None = None
) -> Finding:
    """A NO."""
    return Finding(rule, Verdict.NO, side, subject, reason, remedies, of)


def require(
    rule: str, side: Side, subject: str, reason: str, *remedies: str, of: UUID | None = None
) -> Finding:
    """An IF."""
    return Finding(rule, Verdict.IF, side, subject, reason, remedies, of)


def note(
    rule: str, side: Side, subject: str, reason: str, *remedies: str, of: UUID | None = None
) -> Finding:
    """Worth saying, and nothing against a move."""
    return Finding(rule, Verdict.YES, side, subject, reason, remedies, of)
