# SPDX-License-Identifier: MIT
from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vbuskit.base.artifact import Artifact, digest_of, write, written
from vbuskit.base.errors import Blocked, Refused


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A full disk that needs no mount: the kernel refuses to let a file grow beyond `size`."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_what_was_written_is_there_with_its_hash_size_and_mode(tmp_path: Path) -> None:
    made = write(tmp_path / "deep" / "file", "abc", mode=0o600)
    assert made.path.read_text() == "abc"
    assert made.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (made.size, made.path.stat().st_mode & 0o777) == (3, 0o600)


def test_an_exception_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    write(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), written(tmp_path / "file") as draft:
        draft.write_text("new, but only ha")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_ctrl_c_leaves_no_draft(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), written(tmp_path / "file"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_outgrows_the_disk_is_not_there_at_all(tmp_path: Path) -> None:
    write(tmp_path / "file", "old")
    with files_no_larger_than(4096), pytest.raises(Blocked, match="file: the disk is full"):
        write(tmp_path / "file", b"x" * 100_000)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_full_device_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(Blocked, match="the disk is full"), written(tmp_path / "file"):
        Path("/dev/full").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_digest_do_not_run_into_each_other() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("abc") != digest_of("abc", "")
    assert digest_of("abc") == digest_of(b"abc")


def test_verify_accepts_what_was_made_and_refuses_a_flipped_bit(tmp_path: Path) -> None:
    made = write(tmp_path / "file", b"abc")
    made.verify()
    made.path.write_bytes(b"abb")
    with pytest.raises(Refused, match="file: was changed"):
        made.verify()


def test_verify_refuses_what_is_gone(tmp_path: Path) -> None:
    made = write(tmp_path / "file", b"abc")
    made.path.unlink()
    with pytest.raises(Refused, match="file: is gone"):
        made.verify()


def test_an_artifact_of_an_existing_file_equals_the_one_that_was_written(tmp_path: Path) -> None:
    assert write(tmp_path / "file", "abc") == Artifact.of(tmp_path / "file")
