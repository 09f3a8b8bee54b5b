# SPDX-License-Identifier: MIT
"""`pkcs11:` URIs: what names a key, and all that must not be guessed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuskit.base.errors import UsageError
from vbuskit.kmp.tokenuri import TokenUri


def test_an_uri_is_taken_apart() -> None:
    text = "pkcs11:token=a%20b;serial=1;object=k%3b;id=%00%ff;type=private"
    uri = TokenUri.parse(f"{text}?module-path=/x.so&pin-source=file:/p%20q")
    assert (uri.text, uri.token, uri.object, uri.id) == (
        text,
        {"token": "a b", "serial": "1"},
        "k;",
        b"\0\xff",
    )
    assert (uri.module, uri.pin_file) == ("/x.so", Path("/p q"))


def test_an_uri_that_says_nothing_fits_everything() -> None:
    uri = TokenUri.parse("pkcs11:")
    assert (uri.token, uri.object, uri.id, uri.module, uri.pin_file) == ({}, None, None, None, None)


def test_a_pin_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="would show the PIN") as said:
        TokenUri.parse("pkcs11:token=t?pin-value=7777")
    assert "7777" not in f"{said.value} {said.value.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "tokn=t",
        "token=a;token=b",
        "token",
        "type=cert",
        "token=%ff",
        "token=t?module-name=x",
        "token=t?module-path=/a&module-path=/b",
        "library-version=3",
        "token=t?x-vendor=1",
    ],
)
def test_what_is_not_understood_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="pkcs11:"):
        TokenUri.parse(f"pkcs11:{text}")


@given(st.text())
def test_any_text_is_an_uri_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        TokenUri.parse(f"pkcs11:{text}")
