# SPDX-License-Identifier: MIT
"""Whose host it is, and what is only told: drivers' versions."""

from __future__ import annotations

from collections.abc import Iterator

from vbuskit.migration.judgement import Finding, Side, note, refuse
from vbuskit.migration.profile import GuestProfile, HostProfile


def is_same_host(guest: GuestProfile, host: HostProfile) -> bool:
    return guest.host == host.identity


def same_host(guest: GuestProfile, host: HostProfile) -> Iterator[Finding]:
    if not is_same_host(guest, host):
        return
    if guest.host_name not in ("", host.name):
        yield refuse(
            "same-host",
            Side.DESTINATION,
            str(host.identity),
            f"{guest.host_name}, where {guest.name} runs, has the identity of {host.name}, and libvirt "
            "takes them for one host",
            "give each a host_uuid of its own in /etc/libvirt/libvirtd.conf, and capture both again",
        )
    else:
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
