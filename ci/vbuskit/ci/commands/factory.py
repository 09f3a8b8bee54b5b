# SPDX-License-Identifier: MIT
"""What `sign`, `package` and `iso` have in common: the words they take, the factory they start."""

from __future__ import annotations

import argparse
from pathlib import Path

from vbuskit.base.places import Places
from vbuskit.base.run import Runner
from vbuskit.base.secret import PASSPHRASE
from vbuskit.ci.pipeline import Build, Factory
from vbuskit.drivers.devel import site_of
from vbuskit.drivers.kernel import modules, modules_for, newest_release
from vbuskit.kmp.keyring import Choice, chosen_key


def arguments(parser: argparse.ArgumentParser) -> None:
    kernel = parser.add_mutually_exclusive_group()
    kernel.add_argument("--kernel", metavar="RELEASE", help="default: the newest with headers installed")
    kernel.add_argument(
        "--kernel-devel",
        type=Path,
        metavar="FOLDER",
        help="for a kernel of your own: kernel-devel, linux-headers or a kernel's source that was built",
    )
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
        variable=options.secret,
    )


def chosen_factory(options: argparse.Namespace) -> Factory:
    if not options.kernel_devel:
        return factory_for(options, options.kernel or newest_release())
    return factory_for(options, *own(options.kernel_devel))


def own(devel: Path) -> tuple[str, Build]:
    """The release of a user's own kernel, and what builds for it."""
    site = site_of(Runner(), devel)
    return site.release, lambda run, places, _release: modules_for(run, places, site)


def factory_for(options: argparse.Namespace, kernel: str, build: Build = modules) -> Factory:
    places = Places.from_environment(options.out)
    return Factory(
        run=Runner(places.work() / "factory.log"),
        places=places,
        key=chosen_key(places, choice(options)),
        kernel=kernel,
        build=build,
    )
