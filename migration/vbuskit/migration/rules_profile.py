# SPDX-License-Identifier: MIT
"""Rules about the profiles themselves: what they say that we do not know, whose they are."""

from __future__ import annotations

from collections.abc import Iterator

from vbuskit.migration.judgement import Finding, Side, note, require
from vbuskit.migration.profile import SCHEMA, GuestProfile, HostProfile


def is_same_host(guest: GuestProfile, host: HostProfile) -> bool:
    return guest.host == host.identity


def unknown_fields(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """A field that we do not know may be about something that the guest uses, or that the host lacks."""
    for profile, side in ((guest, Side.GUEST), (host, Side.DESTINATION)):
        newer = ["$.schema"] if profile.schema > SCHEMA else []
        for path in (*newer, *sorted(profile.unknown)):
            yield require(
                "unknown-field",
                side,
                path,
                f"{profile.name} was captured by vbuskit {profile.release}, and this one does not know it",
                f"judge with vbuskit {profile.release} or later: it is enough to have it here",
            )


def same_host(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if is_same_host(guest, host):
        yield note(
            "same-host",
            Side.DESTINATION,
            str(host.identity),
            f"{guest.name} runs on {host.name}: nothing moves, and libvirt refuses to",
            "when these are two hosts, give each a host_uuid of its own in /etc/libvirt/libvirtd.conf",
        )


def drivers(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    """Versions decide nothing: feature bits do."""
    for name, version in guest.drivers.items():
        if version != host.release:
            yield note(
                "driver-version",
                Side.GUEST,
                f"{name} {version}",
                f"the guest's driver is of another release than {host.name} ({host.release}): no matter",
            )
