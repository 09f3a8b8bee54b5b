# SPDX-License-Identifier: MIT
"""What runs of vbuskit on a host of a pool: its lease, commands that end with the lease, files with hashes.

It is sent there as text, and needs Linux 5.3 and Python 3.9, nothing else; so it imports nothing of ours.
Each verb is one process, at the other end of an ssh session:

    lease LOCK WHO           waits for the host, holds it until its standard input ends, and then ends all
                             that was run meanwhile
    run SOCKET COMMAND...    runs a command that ends with the lease, or with the session that started it
    join SOCKET              a UNIX socket's packets (SEQPACKET) over standard input and output, after a
                             word whether somebody serves it: ssh knows streams only
    listen SOCKET COMMAND... the near end of `join`: COMMAND is started for each connection
    have KEY NAME SHA256...  the names of those files that the cache lacks, one a line
    put KEY NAME SHA256 MODE takes a file from standard input into the cache
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GONE = select.POLLHUP | select.POLLERR | select.POLLRDHUP | select.POLLNVAL
TICK = 10  # seconds between two signs of life: writing is how one side learns that the other side is gone
END = 10.0  # seconds that commands have to end when they are killed
NOTE = 4096  # bytes of what a holder may say of itself
HEAD = struct.Struct("!I")
THERE, AWAY = b"+", b"-"  # what `join` says first
SESSIONS = 5  # that are asked for, while each ends before it has begun
BLOCK = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)


def say(**what: Any) -> None:
    """One line of JSON to whoever holds the other end."""
    os.write(1, json.dumps(what).encode() + b"\n")


def home() -> Path:
    """VBUSKIT_HOST_CACHE, when the account has it; else root's is where QEMU's own user can look, too."""
    own = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache/vbuskit/host"
    usual = Path("/var/cache/vbuskit-host") if os.getuid() == 0 else own
    place = Path(os.environ.get("VBUSKIT_HOST_CACHE") or usual)
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    if place.stat().st_uid != os.getuid() or place.stat().st_mode & 0o022:
        sys.exit(f"{place}: others may write there; remove it")
    return place


# ---- The lease ----


def lease(lock: str, who: str, source: str) -> None:
    """One holder a host. The lock goes with the last process that has it open; each of our commands has."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    file = opened(lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(waits=noted(file))
        wait_for(file)
    say(taken=True, former=noted(file))
    if heard(TICK * 6) != b"keep\n":
        return  # the note of the former one stays, for whoever comes next
    note(file, json.dumps({**json.loads(who), "holder": os.getpid()}))
    place = home()
    scratches = place / "leases"
    shutil.rmtree(scratches, ignore_errors=True)  # of holders that were killed: this one is the only one
    scratches.mkdir(mode=0o711)
    scratch = Path(tempfile.mkdtemp(dir=scratches))
    scratch.chmod(0o711)
    script = scratch / "warden.py"
    script.write_text(source)
    try:
        clean = serve(file, scratch, script)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if clean:
        say(released=True)
        # Before that the other end writes down that it has let go; nobody may take the host earlier.
        if heard(END) == b"bye\n":
            note(file, "")


def opened(lock: str) -> int:
    """A lock file that every user of the host may open, in a folder where everybody may write."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            file = os.open(lock, flags)
        except FileNotFoundError:
            with suppress(FileExistsError):
                made = os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(made, 0o666)
                os.close(made)
            continue
        if not stat.S_ISREG(os.fstat(file).st_mode):
            sys.exit(f"{lock}: is no regular file; remove it")
        return file


def wait_for(file: int) -> None:
    """A child waits in the kernel, on the same open file: what it gets is ours. Who asked may go."""
    done, told = os.pipe()
    us = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(us)
        fcntl.flock(file, fcntl.LOCK_EX)
        os._exit(0)
    os.close(told)
    watch = select.poll()
    watch.register(0, select.POLLIN)
    watch.register(done, 0)
    while not (ready := watch.poll(TICK * 1000)):
        tick()
    if done not in dict(ready):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.exit(1)
    os.waitpid(child, 0)
    os.close(done)


def noted(file: int) -> Any:
    """What the holder says of itself, or None; anybody may have written it."""
    try:
        return json.loads(os.pread(file, NOTE, 0))
    except ValueError:
        return None


def note(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode()[:NOTE], 0)


def heard(seconds: float) -> bytes:
    """What the other end says next; nothing when it is gone or silent."""
    return os.read(0, 64) if select.select([0], [], [], seconds)[0] else b""


def tick() -> None:
    """Fails when there is nobody any more to read it."""
    os.write(2, b".\n")


def serve(file: int, scratch: Path, script: Path) -> bool:
    """Hand the lock to commands until the other end goes, or lets the host go; whether it did that."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(scratch / "lease"))
    listener.listen(64)
    say(ready=str(scratch), script=str(script), socket=str(scratch / "lease"))
    commands: list[socket.socket] = []
    word = b""
    try:
        while True:
            watched: list[Any] = [0, listener, *commands]
            ready = select.select(watched, [], [], TICK)[0]
            if not ready:
                tick()
            for each in [each for each in commands if each in ready]:
                commands.remove(each)
                each.close()
            if listener in ready:
                command, _ = listener.accept()
                socket.send_fds(command, [b"!"], [file])
                commands.append(command)
            if 0 in ready:
                word = os.read(0, 64)
                if not word.startswith(b"kill "):
                    break
                say(killed=killed(word))
    except OSError:
        word = b""  # the other end went without a word
    listener.close()
    end(commands)
    return word == b"release\n"


def killed(word: bytes) -> str:
    """`kill SIGNAL PID`, without the time that a session takes to start; what went wrong, if anything."""
    try:
        number, pid = (int(part) for part in word.split()[1:])
        os.kill(pid, number)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def end(commands: list[socket.socket]) -> None:
    """Each kills what it has started when it hears nothing more from here, and closes its end after that."""
    for each in commands:
        with suppress(OSError):
            each.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + END
    while commands and time.monotonic() < deadline:
        for each in select.select(commands, [], [], max(0.0, deadline - time.monotonic()))[0]:
            commands.remove(each)
            each.close()


# ---- Commands ----


def run(lease_socket: str, words: list[str]) -> int:
    """The command's exit code, shell fashion. When this returns, nothing that it started is left."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    lease = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lease.connect(lease_socket)
        _, files, _, _ = socket.recv_fds(lease, 1, 1)
    except OSError:
        files = []
    if not files:
        sys.exit("the lease of this host is over")
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    us = os.getpid()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        become(words, us)
    watch = select.poll()
    watch.register(woken, select.POLLIN)
    watch.register(lease, select.POLLIN | select.POLLRDHUP)
    watch.register(0, select.POLLIN | select.POLLRDHUP)  # says nothing: it only ends, with the session
    watch.register(1, 0)  # or whoever read this one is gone
    code = None
    while code is None:
        ready = dict(watch.poll())
        if lease.fileno() in ready or 0 in ready or ready.get(1, 0) & GONE:
            break
        if woken in ready and {*os.read(woken, 64)} - {signal.SIGCHLD}:
            break
        code = reaped(child)
    kill_children()
    return 128 + signal.SIGKILL if code is None else code


def become(words: list[str], parent: int) -> NoReturn:
    """The command, in a session of its own and with ordinary signals."""
    try:
        die_with(parent)
        os.setsid()
        os.environ["LC_ALL"] = "C.UTF-8"  # what programs say is read
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(words[0], words)
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())
    os._exit(127)


def reaped(child: int) -> int | None:
    """Bury whoever has died; the exit code of `child` when it is among them."""
    code = None
    with suppress(ChildProcessError):
        while (dead := os.waitpid(-1, os.WNOHANG))[0]:
            if dead[0] == child:
                left = os.waitstatus_to_exitcode(dead[1])
                code = left if left >= 0 else 128 - left
    return code


def kill_children() -> None:
    """All of them: when one dies, its own become ours."""
    with suppress(ChildProcessError):
        while True:
            for pid in children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def children() -> list[int]:
    """Without CONFIG_PROC_CHILDREN the kernel has no shorter way."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    found.append(int(entry.name))
    return found


def die_with(parent: int) -> None:
    """Also when it has died before this line."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


# ---- A socket of packets ----


def join(path: str) -> None:
    far = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        far.connect(path)
    except OSError as error:
        os.write(2, f"{path}: {error.strerror}\n".encode())
        os.write(1, AWAY)  # then the near end goes, and this one with it
        sys.exit(1)
    os.write(1, THERE)
    exchange(far, 0, 1)


def exchange(packets: socket.socket, source: int, sink: int) -> None:
    """Packets to frames of the stream `sink`, and frames of `source` to packets, until either side ends."""
    pending = b""
    watched: list[Any] = [packets, source]
    while True:
        ready = select.select(watched, [], [])[0]
        if packets in ready:
            packet = packets.recv(BLOCK)
            if not packet:
                return
            write_all(sink, HEAD.pack(len(packet)) + packet)
        if source in ready:
            part = os.read(source, BLOCK)
            if not part:
                return
            pending += part
            while len(pending) >= HEAD.size and len(pending) >= HEAD.size + HEAD.unpack_from(pending)[0]:
                size = HEAD.size + HEAD.unpack_from(pending)[0]
                packets.send(pending[HEAD.size : size])
                pending = pending[size:]


def write_all(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]


def listen(path: str, words: list[str]) -> NoReturn:
    """One process a connection; they end with this one, and this one with its standard input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    us = os.getpid()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(16)
    watched: list[Any] = [0, listener]
    while 0 not in (ready := select.select(watched, [], [])[0]):
        if listener in ready:
            near, _ = listener.accept()
            if os.fork() == 0:
                die_with(us)
                listener.close()
                forward(near, words)
            near.close()
    sys.exit(0)


def forward(near: socket.socket, words: list[str]) -> NoReturn:
    """Nothing is passed on before the far end is there: a session may come to nothing, or come too late."""
    stream = joined(near, words)
    if stream is not None:
        with suppress(OSError):
            exchange(near, stream.fileno(), stream.fileno())
    os._exit(0)


def joined(near: socket.socket, words: list[str]) -> socket.socket | None:
    """A session that has reached the far end; None: nobody is there, or nobody waits here any more.

    An ssh server may end one without a word: dropbear does when another one ends while it begins.
    """
    for _ in range(SESSIONS):
        stream = begun(words)
        watch = select.poll()
        watch.register(near, select.POLLRDHUP)
        watch.register(stream, select.POLLIN)
        if near.fileno() in dict(watch.poll()):
            return None
        if first := stream.recv(1):
            return stream if first == THERE else None
    return None


def begun(words: list[str]) -> socket.socket:
    us, (ours, theirs) = os.getpid(), socket.socketpair()
    if os.fork() == 0:
        os.dup2(theirs.fileno(), 0)
        os.dup2(theirs.fileno(), 1)
        become(words, us)
    theirs.close()
    return ours


# ---- Files ----


def have(key: str, pairs: list[str]) -> None:
    """What was cut short or changed is as good as not there."""
    for name, wanted in zip(pairs[::2], pairs[1::2]):  # noqa: B905 - Python 3.9 has no strict=
        path = home() / key / name
        if not path.is_file() or hash_of(path) != wanted:
            print(name)


def put(key: str, name: str, wanted: str, mode: str) -> None:
    folder = home() / key
    folder.mkdir(mode=0o755, exist_ok=True)
    draft = folder / f".{name}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, BLOCK)
        if hash_of(draft) != wanted:
            sys.exit(f"{name}: was changed on its way")
        draft.chmod(int(mode, 8))
        draft.replace(folder / name)
    except OSError as error:
        sys.exit(f"{folder / name}: {error.strerror}")
    finally:
        draft.unlink(missing_ok=True)


def hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def main(words: list[str], source: str = "") -> int:
    verb, rest = words[0], words[1:]
    if verb == "lease":
        lease(rest[0], rest[1], source)
    elif verb == "run":
        return run(rest[0], rest[1:])
    elif verb == "join":
        join(rest[0])
    elif verb == "listen":
        listen(rest[0], rest[1:])
    elif verb == "have":
        have(rest[0], rest[1:])
    elif verb == "put":
        put(rest[0], rest[1], rest[2], rest[3])
    return 0


# The first one comes through ssh's standard input, as SOURCE; the others from the file that it wrote.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], globals().get("SOURCE", "")))
