# SPDX-License-Identifier: MIT
"""Sign kernel modules and manifests, and check both.

A signed module (scripts/sign-file.c and include/linux/module_signature.h of the Linux sources) is

    ELF file | detached PKCS#7 SignedData, DER | struct module_signature | "~Module signature appended~\\n"

and the structure, 12 bytes, is: algo, hash, id_type (2 = PKCS#7), signer_len, key_id_len, 3 bytes of
padding, all zero but id_type; then the length of the PKCS#7 part, 32 bits, big-endian.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509

from vbuskit.base import inputs
from vbuskit.base.artifact import Artifact, write, written
from vbuskit.base.errors import Refused, UsageError
from vbuskit.base.run import Runner
from vbuskit.kmp import compressed, pkcs7
from vbuskit.kmp.detached import Asked
from vbuskit.kmp.keys import Key

MARKER = b"~Module signature appended~\n"
TRAILER = struct.Struct(">5B3sI")
PKCS7_TYPE = 2
LARGEST = 1 << 30  # bytes of a module with all that debuggers read


def sign_module(module: bytes, key: Key) -> bytes:
    """The module with one signature appended."""
    if compressed.form_of(module):
        raise Refused(
            "is compressed, and a kernel looks for the signature inside", hint="sign the .ko, then compress"
        )
    if not module.startswith(b"\x7fELF"):
        raise Refused("is no kernel module: no ELF header")
    if module.endswith(MARKER):
        raise Refused("is already signed", hint="sign the module as Kbuild made it")
    signature = pkcs7.sign(module, key)
    return module + signature + TRAILER.pack(0, 0, PKCS7_TYPE, 0, 0, bytes(3), len(signature)) + MARKER


def split_signature(module: bytes) -> tuple[bytes, bytes]:
    """(the module as Kbuild made it, the DER signature); Refused when it is not signed that way."""
    if not module.endswith(MARKER):
        raise Refused("is not signed", hint="./vbuskit sign signs modules")
    end = len(module) - len(MARKER) - TRAILER.size
    if end < 0:
        raise Refused("is cut off")
    *kinds, padding, size = TRAILER.unpack_from(module, end)
    if kinds != [0, 0, PKCS7_TYPE, 0, 0] or padding != bytes(3):
        raise Refused("is signed in a way that no kernel since 4.3 reads")
    if not 0 < size <= end:
        raise Refused("has a signature longer than itself")
    return module[: end - size], module[end - size : end]


def verify_module(module: bytes, certificate: x509.Certificate) -> None:
    """Refused unless the module carries a signature over all of it by that certificate's key.

    A compressed module is judged by what is inside, as `modprobe` and the kernel do.
    """
    if compressed.form_of(module):
        if module.endswith(MARKER):
            raise Refused(
                "was signed after it was compressed, which no kernel reads",
                hint="sign the .ko, then compress",
            )
        module = compressed.unpacked(module)
    content, signature = split_signature(module)
    pkcs7.verify(content, signature, certificate)
    if content.endswith(MARKER):
        raise Refused("is signed twice")


def sign_detached(content: bytes, key: Key) -> bytes:
    """A DER signature beside the content. Checked without vbuskit by

    openssl cms -verify -binary -inform DER -in S.p7s -content S -certfile C.pem -CAfile C.pem -purpose any
    """
    return pkcs7.sign(content, key)


def verify_detached(content: bytes, signature: bytes, certificate: x509.Certificate) -> None:
    pkcs7.verify(content, signature, certificate)


def signed_artifact(run: Runner, module: Artifact, key: Key, into: Path) -> Artifact:
    """Strip what only a debugger reads, then sign: `into`/<name>.ko.

    Debug information names the folder of the build, and the build id is a hash over it: without both, a
    module built in two folders has the same bytes. Stripping after signing would cut the signature off.
    """
    with written(into / module.path.name) as draft:
        run(["strip", "--strip-debug", "--remove-section=.note.gnu.build-id", "-o", draft, module.path])
        draft.write_bytes(sign_module(draft.read_bytes(), key))
    return Artifact.of(into / module.path.name)


def signed_artifacts(
    run: Runner, modules: Mapping[str, Artifact], key: Key, into: Path
) -> dict[str, Artifact]:
    """All of `modules`, as `signed_artifact` makes each."""
    made, asked = {}, Asked()
    for name, module in modules.items():
        with asked:
            made[name] = signed_artifact(run, module, key, into)
    asked.tell()
    return made


def signed_files(modules: Sequence[Path], key: Key, into: Path) -> list[Artifact]:
    """Somebody's own modules, signed as they are: `into`/<name>."""
    twice = [name for name, count in Counter(path.name for path in modules).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]}: stands there twice, and one would replace the other")
    made, asked = [], Asked()
    for path in modules:
        with asked:
            made.append(write(into / path.name, signed_file(path, key)))
    asked.tell()
    return made


def signed_file(path: Path, key: Key) -> bytes:
    module = inputs.content(path, LARGEST)
    try:
        return sign_module(module, key)
    except Refused as error:
        raise Refused(f"{path}: {error}", hint=error.hint) from error


def packed_artifact(module: Artifact, form: str, into: Path) -> Artifact:
    """`into`/<name>.ko.<form> of a signed module; refused where it is not signed yet."""
    raw = module.path.read_bytes()
    split_signature(raw)
    return write(into / f"{module.path.name}.{form}", compressed.FORMS[form].pack(raw))
