# SPDX-License-Identifier: MIT
"""The kernel's own checkpatch.pl has nothing to say of the modules; what it must not say, and why."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner

KERNEL = ("linux", "linux/probe", "ports/linux")
SHARED = ("core", "include")

# Not for us, and why.
EVERYWHERE = {
    "LONG_LINE_STRING": "a message is one line, so that grep finds it",
    "LINE_SPACING": "an assertion about a structure, or who reads with it, stands right behind it",
}
IGNORED = {
    KERNEL: {
        "UNCOMMENTED_DEFINITION": "what a lock protects is said once, above the structure",
        "EXPORT_SYMBOL": "vbus exports the core's functions, which know no kernel",
    },
    SHARED: {
        "PREFER_KERNEL_TYPES": "programs of the host and Windows compile it too, and have no u32",
        "BIT_MACRO": "as above: there is no BIT()",
        "CAMELCASE": "as above: _Static_assert",
    },
}


def checkpatch() -> Path | None:
    """The newest that the debug kernel's headers have brought; Debian's packages of headers leave it out."""
    cached = Places.from_environment().cache.glob(
        "kernels/*/*/tree/usr/src/linux-headers-*/scripts/checkpatch.pl"
    )
    return max(cached, key=lambda path: path.stat().st_mtime, default=None)


def complaints(files: list[Path], ignored: list[str]) -> list[str]:
    """One line each: file, line, what. Raises CommandFailed for nothing: its exit code says the same."""
    program = checkpatch()
    if program is None:
        pytest.skip("no checkpatch.pl: `./vbuskit build --kernel bookworm/debug` brings it")
    words = ["--no-tree", "--strict", "--terse", "--show-types", "--no-summary", "--max-line-length=100"]
    words += [f"--ignore={','.join(ignored)}", "--file"]
    with tempfile.TemporaryDirectory() as folder:  # it leaves what it has learnt of a git tree there
        done = Runner().attempt(["perl", program, *words, *files], cwd=Path(folder))
    return [line for line in done.out.splitlines() if line.strip()]


@pytest.mark.parametrize("folders", [KERNEL, SHARED])
def test_checkpatch_has_nothing_to_say(folders: tuple[str, ...]) -> None:
    files = [file for name in folders for file in sorted((ROOT / "drivers" / name).glob("*.[ch]"))]
    assert len(files) > 5
    assert complaints(files, [*EVERYWHERE, *IGNORED[folders]]) == []


def test_a_file_in_another_style_is_complained_about(tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.c"
    spoilt.write_text("// SPDX-License-Identifier: GPL-2.0-only\nint f(void){\n    return(0);\n}\n")
    assert len(complaints([spoilt], [*EVERYWHERE, *IGNORED[KERNEL]])) >= 3
