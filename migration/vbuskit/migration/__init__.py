# SPDX-License-Identifier: MIT
"""May this guest move to that host: profiles of both, and a judge that needs neither of them at hand.

    from vbuskit.migration import guest_profile, host_profile, judge

    judgement = judge(guest_profile(Path("vm1.json")), host_profile(Path("host2.json")))
    if judgement.verdict is not Verdict.YES:
        print(*judgement.findings, sep="\\n")

No libvirt, no vbusd and no privileges: files in, a verdict out. docs/gate.md has rules and formats.
"""

from __future__ import annotations

from vbuskit.migration.judge import judge
from vbuskit.migration.judgement import Finding, Judgement, Verdict
from vbuskit.migration.profile import GuestProfile, HostProfile
from vbuskit.migration.reading import guest_profile, host_profile, host_profiles
from vbuskit.migration.writing import canonical

__all__ = [
    "Finding",
    "GuestProfile",
    "HostProfile",
    "Judgement",
    "Verdict",
    "canonical",
    "guest_profile",
    "host_profile",
    "host_profiles",
    "judge",
]
