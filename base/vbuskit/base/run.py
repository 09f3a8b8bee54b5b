# SPDX-License-Identifier: MIT
"""The one door to other programs; everybody else takes a `Runner` as a parameter."""

from __future__ import annotations

import errno
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vbuskit.base.errors import Blocked, TimedOut, VbuskitError

Arg = str | Path
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# We read what programs print. Kbuild drops LC_ALL, and LANGUAGE would win over it.
ENGLISH = {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "LANGUAGE": "C"}


class CommandFailed(VbuskitError):
    """A program was started and said no; the last line it printed is part of the text."""

    def __init__(self, args: Sequence[str], code: int, output: str, *, hint: str | None = None) -> None:
        self.code, self.output = code, output
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
        super().__init__(f"{Path(args[0]).name}: exit code {code}: {last.strip()}", hint=hint)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left behind: exit code, standard output, standard error (both decoded, lossy)."""

    code: int
    out: str
    err: str


class Process:
    """A program in the background; leaving the `with` block ends it and waits for it."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    def poll(self) -> int | None:
        """Exit code, or None while it runs; minus the signal number when a signal ended it."""
        return self._popen.poll()

    def wait(self, seconds: float | None = None) -> int:
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"process {self.pid}: still running after {seconds:g} s") from error

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def stop(self, grace: float = 5.0) -> int:
        """Ask, then insist; seconds of `grace` between the two. Returns the exit code.

        Whatever it had started and left behind in its process group ends with it.
        """
        self.kill(signal.SIGTERM)
        try:
            self._popen.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
        end_group(self._popen)
        return self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Dialogue(Process):
    """A program in the background that one speaks with, line by line.

    Its standard input ends with this process, however that ends: it can see that nobody is there any more.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        super().__init__(popen)
        assert popen.stdin is not None and popen.stdout is not None
        self._words, self._answers = popen.stdin, popen.stdout
        self._seen = b""
        self._ended = False

    def fileno(self) -> int:
        """For select(): readable when `heard(0)` has something new to look at."""
        return self._answers.fileno()

    def say(self, words: str) -> None:
        """Blocked when it has ended or reads no more."""
        try:
            self._words.write(words.encode())
            self._words.flush()
        except OSError as error:
            raise Blocked(f"process {self.pid}: listens no more") from error

    def hang_up(self) -> None:
        """End its standard input; what it does then is its own affair."""
        with suppress(OSError):
            self._words.close()

    def heard(self, seconds: float) -> str | None:
        """The next line without its end, or None when none came in time or nothing more will come."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._seen and not self._ended:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._answers], [], [], left)[0]:
                return None
            part = os.read(self._answers.fileno(), 1 << 16)
            self._seen += part
            self._ended = not part
        line, found, rest = self._seen.partition(b"\n")
        if not found:
            return None
        self._seen = rest
        return text(line)

    @property
    def is_over(self) -> bool:
        """Whether it has said its last word, and that was heard."""
        return self._ended and not self._seen

    def stop(self, grace: float = 5.0) -> int:
        """Hang up first: most end by that alone."""
        self.hang_up()
        with suppress(VbuskitError):
            self.wait(grace)
        code = super().stop(grace)
        self._answers.close()
        return code


class Runner:
    """Starts programs; `log`, when given, receives every command line, its output and its exit code."""

    def __init__(self, log: Path | None = None) -> None:
        self._log = log

    def __call__(
        self,
        args: Sequence[Arg],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        seconds: float | None = None,
        hint: str | None = None,
    ) -> str:
        """Run to the end and return standard output; a non-zero exit code raises CommandFailed.

        Blocked when the program says that the disk is full: that is no fault of what it worked on.
        """
        done = self.attempt(args, cwd=cwd, env=env, stdin=stdin, seconds=seconds)
        if done.code:
            not_for_want_of_room(args[0], done)
            raise CommandFailed([str(a) for a in args], done.code, done.err or done.out, hint=hint)
        return done.out

    def attempt(
        self,
        args: Sequence[Arg],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        seconds: float | None = None,
    ) -> Finished:
        """Run to the end and return what came of it; raises only when it could not start or not end."""
        words = [str(a) for a in args]
        try:
            popen = subprocess.Popen(
                words,
                cwd=cwd,
                env=environment(env),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            raise cannot_start(words[0], error) from error
        with popen:
            try:
                out, err = popen.communicate(None if stdin is None else stdin.encode(), seconds)
            except subprocess.TimeoutExpired as error:
                end_group(popen)
                late = f"no answer within {seconds:g} s and was ended"
                self._note(words, text(error.output or b""), text(error.stderr or b""), late)
                raise TimedOut(
                    f"{Path(words[0]).name}: {late}", hint=f"run it by hand: {shlex.join(words)}"
                ) from error
            except BaseException:
                end_group(popen)
                raise
        finished = Finished(popen.returncode, text(out), text(err))
        self._note(words, finished.out, finished.err, f"exit code {finished.code}")
        return finished

    def start(
        self,
        args: Sequence[Arg],
        *,
        output: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Run in the background in a session of its own; both outputs are appended to the file `output`."""
        words = [str(a) for a in args]
        with output.open("ab") as log:
            try:
                popen = subprocess.Popen(
                    words,
                    cwd=cwd,
                    env=environment(env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise cannot_start(words[0], error) from error
        return Process(popen)

    def converse(self, args: Sequence[Arg], *, errors: Path) -> Dialogue:
        """Run in the background in a session of its own; what it says on standard error goes to `errors`."""
        words = [str(a) for a in args]
        with errors.open("ab") as log:
            try:
                popen = subprocess.Popen(
                    words,
                    env=environment(None),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise cannot_start(words[0], error) from error
        return Dialogue(popen)

    def _note(self, words: Sequence[str], out: str, err: str, end: str) -> None:
        if self._log is None:
            return
        with self._log.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {shlex.join(words)}\n{out}{err}[{end}]\n")


def not_for_want_of_room(program: Arg, done: Finished) -> None:
    """Raise Blocked when a program that failed says that the disk is full."""
    if os.strerror(errno.ENOSPC) in done.err + done.out:
        raise Blocked(f"{Path(program).name}: the disk is full", hint="free some space and run it again")


def environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Ours, but in English, and `more`.

    On Debian an ordinary user's PATH lacks the sbin folders, and root's does after `su`.
    """
    path = os.pathsep.join([os.environ.get("PATH") or os.defpath, *SBIN])
    return {**os.environ, **ENGLISH, "PATH": path, **(more or {})}


def end_group(popen: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process group that `popen` leads; a group that is gone is fine."""
    with suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)


def text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def cannot_start(program: str, error: OSError) -> VbuskitError:
    """The three ways in which a program does not start, as errors that say what to do next."""
    if error.errno == errno.ENOENT and error.filename in (None, program):
        return Blocked(f"{program}: not installed", hint="./vbuskit --setup installs what is missing")
    if error.errno == errno.ENOSPC:
        return Blocked(f"{program}: the disk is full", hint="free some space and run the same command again")
    return Blocked(f"{program}: cannot be started: {error.strerror}")
