# SPDX-License-Identifier: MIT
from __future__ import annotations

import time

import pytest

from vbuskit.base.places import ROOT
from vbuskit.ci.redact import NAMES, SECRETS, Redaction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rd.luks.password=hunter2 quiet", "rd.luks.password=[cut] quiet"),
        ('passphrase: "two words" x', "passphrase: [cut] x"),
        ("VNC_PASSWD='a b' x", "VNC_PASSWD=[cut] x"),
        ("api_token=abc,next", "api_token=[cut],next"),
        ("http://me:pw@host/x", "http://[cut]host/x"),
        ("a\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nb", "a\n[cut]\nb"),
        ("...\nMIIx\nAB+/=\n-----END PRIVATE KEY-----\nb", "...\n[cut]\nb"),
        ("-----BEGIN EC PRIVATE KEY-----\nMII", "[cut]"),
        ("link/ether 52:54:00:ab:cd:ef brd ff:ff:ff:ff:ff:ff", "link/ether mac-1 brd ff:ff:ff:ff:ff:ff"),
        ("inet 10.0.2.15/24 on 127.0.0.1, 0.0.0.0", "inet ipv4-1/24 on 127.0.0.1, 0.0.0.0"),
        ("from 192.168.1.7: ping", "from ipv4-1: ping"),
        ("fe80::5054:ff:feab:cdef/64 ::1 2001:db8:0:1:2:3:4:5", "ipv6-1/64 ::1 ipv6-2"),
        ("root=UUID=76627573-6b69-4000-8000-000000000001", "root=UUID=uuid-1"),
        ("/home/anna and /home/bert", "/home/user-1 and /home/user-2"),
        ("usb 1-1: SerialNumber: 4C530001230718", "usb 1-1: SerialNumber: serial-1"),
        ("machine-id=76627573000040008000000000000001", "machine-id=serial-1"),
        ("on atlas, ATLAS, atlas.example and atlas-2", "on host-1, host-1, host-2 and atlas-2"),
    ],
)
def test_what_is_nobody_elses_business_is_replaced(text: str, expected: str) -> None:
    assert Redaction(["atlas", "atlas.example", "x"])(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "vbus-modules-6.1.0-56-cloud-amd64 0.1.0+6.1.0.56",
        "pcie 0000:00:10.0: [1af4:1110] type 00 class 0x050000",
        "Linux guest 6.1.0-56-cloud-amd64 #1 SMP 12:34:56 2026-11-16",
        "serial8250: ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200)",
        "ring at 0x11000: 64 slots, valid 0x4",
        "key tasks: 3, tokens are counted",
        "std::vector, x::y",
    ],
)
def test_what_looks_alike_is_left_alone(text: str) -> None:
    assert Redaction()(text) == text


def test_the_same_is_the_same_in_every_file_of_a_bundle() -> None:
    redacted = Redaction()
    first, second = redacted("52:54:00:AB:CD:EF 10.0.0.1"), redacted("10.0.0.2 52:54:00:ab:cd:ef")
    assert (first, second) == ("mac-1 ipv4-1", "ipv4-2 mac-1")


def test_names_can_be_left_and_secrets_cannot() -> None:
    assert Redaction(["atlas"], names=True)("atlas 10.0.0.1 token=x") == "atlas 10.0.0.1 token=[cut]"


def test_the_rules_are_written_down() -> None:
    text = " ".join((ROOT / "docs/support.md").read_text().split())
    assert [rule.says for rule in (*SECRETS, *NAMES) if rule.says not in text] == []


def test_a_long_line_or_many_names_take_no_long_time() -> None:
    start = time.process_time()
    many = " ".join(f"10.{each >> 16}.{each >> 8 & 255}.{each & 255}" for each in range(70_000))
    for hostile in (
        many,
        "a" * 200_000,
        "1.1.1." * 30_000,
        "ab:" * 60_000,
        "password" * 20_000,
        "f::" * 50_000,
    ):
        Redaction(["atlas"])(hostile)
    assert time.process_time() - start < 20
