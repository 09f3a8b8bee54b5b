# SPDX-License-Identifier: MIT
"""The host that a worker of pytest-xdist tries its cells on: one of its own here, or one of a pool."""

from __future__ import annotations

import shlex
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vbuskit.base.run import Runner
from vbuskit.compat.host import Host, PrivateHost
from vbuskit.compat.lease import Pool
from vbuskit.compat.remote import RemoteHost

WORKER = Path(__file__).with_name("worker.sh")


def worker_spec() -> str:
    """For pytest-xdist's --tx, in the sandbox: a worker with which everything ends that it has started."""
    return f"popen//python={shlex.join(['sh', str(WORKER), sys.executable])}"


@contextmanager
def leased_host(
    run: Runner, hosts: Sequence[str], logs: Path, what: str, workerinput: Mapping[str, Any] | None = None
) -> Iterator[Host]:
    """For `what`, a group of cells. Without `hosts` a private one, else the first of them that is free.

    logs:        of the run; the lease log is in it
    workerinput: xdist's, or None where there are no workers
    """
    worker, run_id = named(workerinput)
    if not hosts:
        with PrivateHost(run, f"host-{worker}", logs / f"host-{worker}") as host:
            yield host
        return
    pool = Pool(run, hosts, logs, run_id, worker)
    with pool.lease(what) as lease, RemoteHost(run, lease, logs / f"host-{worker}") as remote:
        yield remote


def noted(host: Host, cell: str) -> None:
    """A cell starts: the lease log says so. Raises Blocked when the host is ours no more."""
    if isinstance(host, RemoteHost):
        host.lease.cell(cell)


def named(workerinput: Mapping[str, Any] | None) -> tuple[str, str]:
    """The worker's name, and the run's: the same for all of one run's workers."""
    if workerinput is None:
        return "main", uuid.uuid4().hex
    return str(workerinput["workerid"]), str(workerinput["testrunuid"])
