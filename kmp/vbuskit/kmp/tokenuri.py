# SPDX-License-Identifier: MIT
"""`pkcs11:` URIs (RFC 7512), as far as they name one key on one token."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from vbuskit.base.errors import UsageError

SCHEME = "pkcs11:"
TOKEN = frozenset({"token", "serial", "manufacturer", "model", "slot-id"})
OBJECT = frozenset({"object", "id", "type"})
QUERY = frozenset({"module-path", "pin-source"})


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Attributes, decoded: `token` say which token, `object` and `id` which key; None is "any"."""

    text: str
    token: dict[str, str] = field(default_factory=dict)
    object: str | None = None
    id: bytes | None = None
    module: str | None = None
    pin_file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """UsageError for what has no meaning here: a key that is not the one that was meant is worse."""
        path, _, query = text.removeprefix(SCHEME).partition("?")
        if "pin-value" in query:
            raise UsageError(
                "pkcs11: pin-value would show the PIN to every user of this machine",
                hint="put it into a file of mode 0600: pin-source=file:PATH, or --passphrase-file PATH",
            )
        named = attributes(path, ";", TOKEN | OBJECT)
        asked = attributes(query, "&", QUERY)
        if named.pop("type", b"private") != b"private":
            raise UsageError(f"{text}: type is not private", hint="name the private key, or leave type out")
        pin = asked.get("pin-source")
        return cls(
            text=SCHEME + path,
            token={name: value.decode() for name, value in named.items() if name in TOKEN},
            object=named["object"].decode() if "object" in named else None,
            id=named.get("id"),
            module=asked["module-path"].decode() if "module-path" in asked else None,
            pin_file=Path(pin.decode().removeprefix("file:")) if pin else None,
        )


def attributes(text: str, between: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(between)):
        name, equals, value = part.partition("=")
        if name not in known or not equals or name in found:
            hint = f"once each: {', '.join(sorted(known))}"
            raise UsageError(f"pkcs11: {name}: is not understood here, or stands there twice", hint=hint)
        found[name] = unquote_to_bytes(value)
        if name != "id":
            check_text(name, found[name])
    return found


def check_text(name: str, value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        raise UsageError(f"pkcs11: {name}: is not UTF-8") from None
