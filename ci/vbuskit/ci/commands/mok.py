# SPDX-License-Identifier: MIT
"""`vbuskit mok`: the request by which a user's firmware comes to trust the key of the modules."""

from __future__ import annotations

import argparse
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from vbuskit.base.artifact import write
from vbuskit.base.errors import Exit, printable
from vbuskit.base.places import Places
from vbuskit.kmp.keyring import state_certificate
from vbuskit.kmp.keys import load_certificate
from vbuskit.kmp.mok import check_fit, words


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="default: that of the state directory's key"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")


def main(options: argparse.Namespace) -> Exit:
    places = Places.from_environment(options.out)
    given = options.certificate
    certificate = load_certificate(given) if given else state_certificate(places)
    check_fit(certificate)
    request = write(places.out / "vbuskit-mok.der", certificate.public_bytes(Encoding.DER))
    for line in words(request.path, certificate):
        print(printable(line))
    return Exit.OK
