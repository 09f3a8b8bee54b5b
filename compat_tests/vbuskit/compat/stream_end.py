# SPDX-License-Identifier: MIT
"""One end of a TCP connection, checksummed; a file of its own, for a host that has nothing of ours.

`stream_end.py sink|source|both ADDRESS PORT BYTES` listens, says `listening` on standard output, serves one
connection and says `done COUNT SHA256`. A sink reads to the end, a source sends BYTES random bytes, and who
does both reads BYTES, says `got COUNT SHA256`, and sends as many; each counts what really passed. One quiet
minute ends it with exit code 1.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

QUIET = 60.0  # seconds
BLOCK = 1 << 16


def main(kind: str, address: str, port: int, count: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        print("listening", flush=True)
        listener.settimeout(QUIET)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(QUIET)
            if kind == "both":
                print("got", *sink(connection, count), flush=True)
            passed, digest = sink(connection) if kind == "sink" else source(connection, count)
    print("done", passed, digest, flush=True)


def sink(connection: socket.socket, most: int = 1 << 62) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    while block := connection.recv(min(BLOCK, most - count)):
        digest.update(block)
        count += len(block)
    return count, digest.hexdigest()


def source(connection: socket.socket, count: int) -> tuple[int, str]:
    digest, left = hashlib.sha256(), count
    while left:
        block = os.urandom(min(BLOCK, left))
        connection.sendall(block)
        digest.update(block)
        left -= len(block)
    return count, digest.hexdigest()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except OSError as error:
        sys.exit(f"stream: {error}")
