# SPDX-License-Identifier: MIT
"""A key at a signing service: what is to be signed goes into a folder, signatures come back into it.

    NAME         what is to be signed: a module without debug information, or a manifest
    NAME.sha256  its SHA-256, 32 bytes; what services that take digests want (OBS: *.cpio.rsasign)
    NAME.sig     what comes back: the RSA value (PKCS#1 v1.5), or PKCS#7 as `openssl cms` writes it
    SHA256SUMS   the names for which a signature is waited for, for `sha256sum -c`

NAME ends with the first half of the digest: a signature of yesterday's module is never taken for today's.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cryptography import x509

from vbuskit.base.artifact import write
from vbuskit.base.errors import Blocked, Refused
from vbuskit.kmp import pkcs7
from vbuskit.kmp.keys import Key, public_key, read
from vbuskit.kmp.outside import OutsideKey

SUMS = "SHA256SUMS"


class Waiting(Blocked):
    """Signatures that have not come back; `names` are those of the files in the folder."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        one = len(names) == 1
        super().__init__(
            f"{folder}: {len(names)} signature{' is' if one else 's are'} waited for: {', '.join(names)}",
            hint="have each NAME signed, put NAME.sig beside it, run the same command again",
        )
        self.folder, self.names = folder, names


class Asked:
    """Several signatures are asked for before the first that is missing ends the command."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Waiting):
            self._waiting.append(error)
        return isinstance(error, Waiting)

    def tell(self) -> None:
        if self._waiting:
            names = [name for error in self._waiting for name in error.names]
            raise Waiting(self._waiting[0].folder, names)


class DetachedKey(OutsideKey):
    """Answers with the signatures in `folder`; what has none is written there, and Waiting is raised."""

    def __init__(self, folder: Path, certificate: x509.Certificate) -> None:
        super().__init__(public_key(certificate))
        self._folder, self._certificate = folder, certificate

    def value_of(self, content: bytes) -> bytes:
        answer = self._answer(content)
        if not answer.is_file():
            name = answer.name.removesuffix(".sig")
            write(self._folder / name, content)
            write(self._folder / f"{name}.sha256", hashlib.sha256(content).digest())
            announce(self._folder)
            raise Waiting(self._folder, [name])
        try:
            return self._checked(read(answer), content)
        except Refused as error:
            raise Refused(f"{answer}: {error}", hint=error.hint) from error

    def source_of(self, content: bytes) -> str:
        return str(self._answer(content))

    def _answer(self, content: bytes) -> Path:
        digest = hashlib.sha256(content).hexdigest()
        return self._folder / f"{kind_of(content)}-{digest[:32]}.sig"

    def _checked(self, answer: bytes, content: bytes) -> bytes:
        """The RSA value; what is as long as the key is one, all else has to be PKCS#7."""
        if len(answer) == -(-self.key_size // 8):
            return answer
        pkcs7.verify(content, answer, self._certificate)
        signer = pkcs7.read(answer)
        if signer.digest.name != "sha256":
            raise Refused(f"is made over {signer.digest.name}", hint="ask the service for SHA-256")
        return signer.value


def detached_key(folder: Path, certificate: x509.Certificate) -> Key:
    return Key(DetachedKey(folder, certificate), certificate)


def announce(folder: Path) -> None:
    """List what is waited for, that of earlier commands included."""
    asked = sorted(path for path in folder.glob("*.sha256") if not path.with_suffix(".sig").exists())
    write(folder / SUMS, "".join(f"{read(path).hex()}  {path.stem}\n" for path in asked))


def kind_of(content: bytes) -> str:
    """A name for people: that of the module, as its modinfo has it, or `manifest`."""
    if not content.startswith(b"\x7fELF"):
        return "manifest"
    found = re.search(rb"\0name=([A-Za-z0-9_-]{1,56})\0", content)
    return f"{found[1].decode()}.ko" if found else "module.ko"
