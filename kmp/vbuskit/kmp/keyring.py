# SPDX-License-Identifier: MIT
"""Which key signs: that of the state directory, a file's, a token's, or a signing service's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from vbuskit.base.errors import Blocked, UsageError
from vbuskit.base.places import Places
from vbuskit.kmp import keyfiles
from vbuskit.kmp.detached import detached_key
from vbuskit.kmp.keys import Key, check_dates, check_folder, load_certificate, new_key, store
from vbuskit.kmp.tokenuri import SCHEME, TokenUri


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a user says about the key: `key` is a file or a `pkcs11:` URI; all None is "ours".

    variable: what VBUSKIT_KEY_PASSPHRASE said; it means nothing where no key is named
    """

    key: str | None = None
    certificate: Path | None = None
    passphrase: Path | None = None
    detached: Path | None = None
    variable: bytes | None = field(default=None, repr=False)


def chosen_key(places: Places, choice: Choice | None = None) -> Key:
    """The key that was asked for, within the dates of its certificate."""
    key = found_key(places, choice or Choice())
    check_dates(key.certificate)
    return key


def found_key(places: Places, choice: Choice) -> Key:
    if choice.detached is not None:
        return service_key(choice)
    if choice.key is None:
        if choice.certificate or choice.passphrase:
            raise UsageError("--certificate and --passphrase-file are of a key", hint="give --key as well")
        return state_key(places)
    if choice.key.startswith(SCHEME):
        return token_key(TokenUri.parse(choice.key), choice)
    words = keyfiles.passphrase(choice.passphrase, choice.variable)
    return keyfiles.load_key(Path(choice.key), choice.certificate, words)


def service_key(choice: Choice) -> Key:
    if choice.key or choice.passphrase:
        raise UsageError("--detached: somebody else has the key", hint="leave out --key")
    if choice.detached is None or choice.certificate is None:
        raise UsageError("--detached needs to know whose signature comes back", hint="--certificate FILE")
    return detached_key(choice.detached, load_certificate(choice.certificate))


def token_key(uri: TokenUri, choice: Choice) -> Key:
    # Only who names a token needs the library.
    from vbuskit.kmp import token

    pin = keyfiles.passphrase(choice.passphrase or uri.pin_file, choice.variable)
    return token.load_key(uri, choice.certificate, pin)


def state_key(places: Places) -> Key:
    """The pair in `Places.state/keys` (folder 0700, files 0600); made when it is not there."""
    folder = places.state / "keys"
    if not folder.is_dir():
        store(new_key(), folder)
    check_folder(places.state, 0o022)
    check_folder(folder, 0o077)
    return keyfiles.load_key(folder / "module.key", folder / "module.pem", None)


def state_certificate(places: Places) -> x509.Certificate:
    """The certificate of the state directory's key; unlike `state_key` it makes none."""
    path = places.state / "keys" / "module.pem"
    if not path.is_file():
        raise Blocked(
            f"{path}: there is no key yet, so nothing is trusted",
            hint="give --trust CERTIFICATES, or run ./vbuskit sign, which makes a key",
        )
    return load_certificate(path)
