# SPDX-License-Identifier: MIT
"""`./vbuskit`: one command, one module a subcommand, one place where errors are printed."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import select
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from vbuskit.base.errors import NO_SPACE, Blocked, Exit, UsageError, VbuskitError, printable
from vbuskit.base.secret import PASSPHRASE

# Subcommand -> what `--help` says of it. Its module is vbuskit.ci.commands.<name>, imported only when
# chosen; it has `arguments(parser)` and `main(options) -> Exit`.
COMMANDS = {
    "run": "try the drivers on a real guest, and say what held",
    "matrix": "try the drivers on the guests of several suites and kernels",
    "guest": "list the guests, build their images, get a shell in one, tidy the cache",
    "report": "write the report again from out/results.json, or a support bundle of one guest",
    "sign": "build the kernel modules and sign them, or sign modules that are there",
    "mok": "write what `mokutil --import` takes, and say how a key is enrolled",
    "package": "build, sign and pack them as a Debian package or as RPM",
    "iso": "build, sign, pack and write the driver ISO",
    "verify": "check an ISO, a package or a module against the certificates that you trust",
    "initrd": "say what is in an initrd, and whether it reaches a root disk on vbus",
    "build": "compile the C half and run its tests",
    "host": "start vbusd, add and remove buses and devices, see what is",
    "lab": "hold several hosts on this machine, of several suites, and cut them off from each other",
    "gate": "say whether a guest may move to a host, before anything moves, and why not",
    "migrate": "move a guest to another host while it runs: gate, prepare, move, switch, commit; journalled",
    "bench": "measure the host's programs, or the bus against virtio, with bounds",
    "ci": "write pipelines for GitHub or GitLab, and put the results of their shards together",
    "selftest": "try here what could not be tried where vbuskit was made: one file to send back",
    "test": "run the project's own tests",
}


def start() -> int:
    """What the shell starts: `main`, with the signals that a job is cancelled by treated like Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every terminal has all letters of all names
        sys.stdout.reconfigure(errors="backslashreplace")
    return main()


def main(words: Sequence[str] | None = None) -> int:
    secret = os.environb.pop(PASSPHRASE.encode(), None)  # before anything is started that could inherit it
    code = guarded(sys.argv[1:] if words is None else list(words), secret)
    settle_output()
    return code


def guarded(words: Sequence[str], secret: bytes | None) -> int:
    """The exit code of `words`; whatever could be expected to go wrong is told here."""
    try:
        code = dispatch(words, secret)
        sys.stdout.flush()
        return code
    except SystemExit as done:  # argparse has said what it had to say
        return done.code if isinstance(done.code, int) else Exit.OK
    except VbuskitError as error:
        return tell(error)
    except KeyboardInterrupt:
        print(
            "vbuskit: interrupted; everything it had started is ended, run it again to go on",
            file=sys.stderr,
        )
        return Exit.INTERRUPTED
    except OSError as error:
        if is_unread(sys.stdout.fileno()):
            return Exit.UNREAD
        if error.errno in NO_SPACE:
            full = error.filename2 or error.filename or "disk"  # of a copy, the second is what it wrote
            return tell(Blocked(f"{full}: no space left", hint="free some and run it again"))
        raise


def dispatch(words: Sequence[str], secret: bytes | None) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    parser = top_parser()
    if name is None:
        parser.parse_args(words)
        parser.print_help()
        return Exit.USAGE
    if name not in COMMANDS:
        raise UsageError(f"{name}: no such command", hint=f"commands: {', '.join(COMMANDS)}")
    module = importlib.import_module(f"vbuskit.ci.commands.{name}")
    chosen = argparse.ArgumentParser(prog=f"vbuskit {name}", description=COMMANDS[name])
    module.arguments(chosen)
    before = words.index(name)
    parser.parse_args(words[: before + 1])
    options = chosen.parse_args(words[before + 1 :])
    options.secret = secret
    return int(module.main(options))


def top_parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="vbuskit",
        description="Guest drivers of a paravirtual bus: built, signed, shipped, tried on real guests.",
        epilog=f"commands:\n{listing}\n\n`vbuskit COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=[*COMMANDS], metavar="COMMAND")
    return parser


def tell(error: VbuskitError) -> int:
    print(f"vbuskit: {one_line(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"hint: {one_line(error.hint)}", file=sys.stderr)
    return error.exit_code


def one_line(text: str) -> str:
    return printable(text, " ").strip()


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def is_unread(descriptor: int) -> bool:
    """Whether the reading end of a pipe is gone; a file or a terminal is never unread."""
    watch = select.poll()
    watch.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def settle_output() -> None:
    """Let the interpreter's last flush go nowhere when it would fail: that has been told already."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(start())
