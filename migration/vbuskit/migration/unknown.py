# SPDX-License-Identifier: MIT
"""The rule of fields that this release does not know.

A guest's may be a need, so the answer is no. A host's is an offer, and counts as not offered: what restricts
raises the schema, and is refused by reading.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from vbuskit.migration.judgement import Finding, Side, Verdict
from vbuskit.migration.profile import GuestProfile, HostProfile


def unknown_fields(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    for path in guest.unknown:
        yield Finding(
            "unknown-field",
            Verdict.NO,
            Side.GUEST,
            path,
            "this vbuskit does not know what the guest counts on there",
            (f"judge it with vbuskit {guest.release}, which wrote its profile, or later",),
        )
