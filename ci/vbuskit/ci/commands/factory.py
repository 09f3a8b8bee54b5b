# SPDX-License-Identifier: MIT
"""What `sign`, `package` and `iso` have in common: the words they take, the factory they start."""

from __future__ import annotations

import argparse
from pathlib import Path

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.ci.pipeline import Factory
from vbuskit.drivers.kernel import modules, newest_release
from vbuskit.kmp.keyfiles import PASSPHRASE
from vbuskit.kmp.keyring import Choice, chosen_key


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", metavar="RELEASE", help="default: the newest with headers installed")
    shared_arguments(parser)


def shared_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the kernel. No option takes a secret: every user of a machine reads its command lines."""
    parser.add_argument(
        "--key", metavar="FILE|URI", help="PEM, PKCS#12 or pkcs11: URI; default: that of the state directory"
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="of that key, PEM or DER; default: what is with the key",
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help=f"mode 0600; default: what {PASSPHRASE} says"
    )
    parser.add_argument(
        "--detached",
        type=Path,
        metavar="FOLDER",
        help="a service has the key of --certificate: what is to be signed goes there, NAME.sig comes back",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: out/ of the checkout")


def choice(options: argparse.Namespace) -> Choice:
    return Choice(
        key=options.key,
        certificate=options.certificate,
        passphrase=options.passphrase_file,
        detached=options.detached,
    )


def chosen_factory(options: argparse.Namespace) -> Factory:
    return factory_for(options, options.kernel or newest_release())


def factory_for(options: argparse.Namespace, kernel: str) -> Factory:
    places = Places.from_environment(options.out)
    return Factory(
        run=Runner(places.work() / "factory.log"),
        places=places,
        key=chosen_key(places, choice(options)),
        kernel=kernel,
        build=modules,
    )
