# SPDX-License-Identifier: MIT
"""`vbuskit initrd`: what is in an initrd, and whether it can boot from a disk on vbus."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from cryptography import x509

from vbuskit.base.errors import Exit, Refused, printable
from vbuskit.ci.commands.verify import trust_argument
from vbuskit.ci.verify import naming
from vbuskit.initrd import check, inspect, kmod
from vbuskit.initrd.image import read_image
from vbuskit.kmp import pkcs7
from vbuskit.kmp.keys import subject
from vbuskit.kmp.signing import split_signature, verify_module
from vbuskit.kmp.trust import Trust, load_trust


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    looked_at = verbs.add_parser("inspect", help="list its archives, kernels, modules and rules of ours")
    judged = verbs.add_parser("check", help="say whether it can reach its root disk on vbus, and why not")
    for verb in (looked_at, judged):
        verb.add_argument("image", type=Path, metavar="IMAGE", help="such as /boot/initrd.img-RELEASE")
    judged.add_argument(
        "--root", metavar="SPEC", help="as root= on its command line (default: by UUID or label)"
    )
    judged.add_argument(
        "--kernel", metavar="RELEASE", help="as uname -r says (default: every one in the image)"
    )
    trust_argument(judged, "whose signatures the modules must have")


def main(options: argparse.Namespace) -> Exit:
    if options.verb == "inspect":
        image = read_image(options.image)
        with naming(str(options.image)):
            return tell(inspect.lines(image, signed_by))
    return check_image(options)


def check_image(options: argparse.Namespace) -> Exit:
    """The answer first; below it what holds, or what does not and what to do about it."""
    signer = trusting(load_trust(options.trust)) if options.trust else signed_by
    image = read_image(options.image)
    with naming(str(options.image)):
        found = check.check(image, root=options.root, kernel=options.kernel, signer=signer)
    wrong = [finding for finding in found if not finding.holds]
    answer = "no: it cannot" if wrong else "yes: it can"
    tell([f"{options.image}: {answer} reach its root disk on vbus"])
    for finding in wrong or found:
        tell([f"  {finding.release}{': ' * bool(finding.release)}{finding.text}"])
        if finding.next_step:
            tell([f"    next: {finding.next_step}"])
    return Exit.REFUSED if wrong else Exit.OK


def tell(lines: Iterable[str]) -> Exit:
    for line in lines:
        print(printable(line))
    return Exit.OK


def signed_by(module: bytes) -> str:
    """Whose signature the module carries, which nobody has checked."""
    if not kmod.is_signed(module):
        return check.signed_or_not(module)
    try:
        signer = pkcs7.read(split_signature(module)[1])
    except Refused as error:
        return f"signed, but {error}"
    return f"signed by {common_name(signer.issuer)} (serial {signer.serial:x}, {signer.digest.name})"


def trusting(trust: Trust) -> check.Signer:
    def signer(module: bytes) -> str:
        return trust.judged(partial(signer_of, module))

    return signer


def signer_of(module: bytes, certificate: x509.Certificate) -> str:
    verify_module(module, certificate)
    return f"signed by {subject(certificate)}"


def common_name(issuer: bytes) -> str:
    """The common name (OID 2.5.4.3) in the DER of a name; "somebody" where there is none."""
    _, found, value = issuer.partition(bytes.fromhex("0603550403"))
    return (
        value[2 : 2 + value[1]].decode(errors="backslashreplace") if found and len(value) > 2 else "somebody"
    )
