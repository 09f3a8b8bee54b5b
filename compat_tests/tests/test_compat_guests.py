# SPDX-License-Identifier: MIT
"""guests.toml: what is in it, and that a wrong word is named with its place and what was expected."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuskit.base.errors import Exit, UsageError
from vbuskit.base.places import ROOT
from vbuskit.compat import domain, guests, tomlfile
from vbuskit.compat.guests import DEFAULT, FILE, Level, choose_guests, guest_kinds

TABLE = '[guest]\nkernel = "sid/amd64"\n'
WHOLE = (ROOT / FILE).read_text()


def written(tree: Path, text: str | bytes) -> Path:
    path = tree / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return tree


def test_the_guests_of_the_checkout_are_read_and_the_default_one_counts() -> None:
    kinds = guest_kinds(ROOT)
    assert kinds[DEFAULT].level is Level.GATING and kinds[DEFAULT].suite == "bookworm"
    assert [name for name, kind in kinds.items() if kind.first(ROOT)] == ["debug"]
    assert {kind.suite for kind in kinds.values() if kind.linux} >= {"bullseye", "bookworm", "trixie", "sid"}
    assert {kind.system for kind in kinds.values()} == {"", "windows", "wine"}


def test_each_guest_that_counts_can_be_run() -> None:
    assert not [kind.name for kind in choose_guests(ROOT, None) if kind.excluded]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guest = 1\n", "1:9: guest: is no table; expected [guest] and its words below"),
        ("\n[Guest]\n", "2:2: [Guest]: is no name of a guest; expected a-z, 0-9 and -"),
        ("# x\n[guest]\n", '2:2: [guest]: has no kernel; expected kernel = "SUITE/FLAVOUR", or system ='),
        (
            TABLE + 'colour = "red"\n',
            "3:1: [guest] colour: is no word of a guest; expected kernel or update",
        ),
        (TABLE + "  patence = 6\n", "3:3: [guest] patence: is no word of a guest; expected"),
        (TABLE + "  patence = 6\n", "did you mean patience?"),
        (TABLE + "patience = 0.5\n", "3:12: [guest] patience: 0.5; expected a number from 1 to 60"),
        (TABLE + "patience = true\n", "3:12: [guest] patience: true; expected a number from 1 to 60"),
        (TABLE + "memory = 64\n", "3:10: [guest] memory: 64; expected a number of MiB from 128"),
        (
            TABLE + f"memory = 0x{'f' * 5000}\n",
            "memory: a number with many digits; expected a number of MiB",
        ),
        (TABLE + 'init = "upstart"\n', '3:8: [guest] init: "upstart"; expected systemd or minimal'),
        (TABLE + 'level = "informin"\n', '3:9: [guest] level: "informin"; expected gating or informing or'),
        (TABLE + 'level = "informin"\n', "did you mean informing?"),
        (
            '[guest]\nkernel = "sid/beos"\n',
            '2:10: [guest] kernel: "sid/beos"; expected a kernel that vbuskit',
        ),
        ("[guest]\nkernel = [1]\n", "2:10: [guest] kernel: an array; expected a kernel that vbuskit"),
        ('[guest]\nkernel = "sid/amd46"\n', "did you mean sid/amd64?"),
        (TABLE + 'update = "sid/beos"\n', '3:10: [guest] update: "sid/beos"; expected a kernel'),
        (
            TABLE + 'update = "trixie/amd64"\n',
            "3:10: [guest] update: is of another suite than its kernel; exp",
        ),
        (
            TABLE + "family = [\n['x'],\n['''x'''],\n]\n",
            "3:10: [guest] family: an array; expected deb or rpm or dkms",
        ),
        (TABLE + 'family = "apk"\n', '3:10: [guest] family: "apk"; expected deb or rpm or dkms'),
        (TABLE + 'image = "x"\n', "3:1: [guest] image: is no word of a guest; expected kernel"),
        ('[a]\nsystem = "beos"\n', '2:10: [a] system: "beos"; expected windows or wine'),
        (
            '[a]\nsystem = "wine"\nkernel = "sid/amd64"\n',
            "3:1: [a] kernel: is no word of a guest that is no",
        ),
        ('[a]\nsystem = "wine"\nimage = "x"\n', '3:9: [a] image: "x"; expected the path of a disk image'),
        ('[a]\nsystem = "windows"\nimage = 3\n', "3:9: [a] image: 3; expected the path of a disk image"),
        ("[guest\n", "1:7: expected ']' at the end of a table declaration"),
        ('[guest]\nkernel = "sid\n', "2:14: illegal character '\\n'; expected TOML, such as"),
        ("[guest]\nkernel =", "2:9: invalid value; expected TOML"),
        (TABLE + TABLE, "3:7: cannot declare ('guest',) twice; expected TOML"),
        (b'[guest]\nkernel = "\xff"\n', "2:11: is no UTF-8; expected a text in it"),
        ("x = " + "[" * 5000, "1:1: is nested too deeply; expected"),
        (
            "[guest]\nkernel = {" + "a." * 3000 + "a = 1}\n",
            "2:10: [guest] kernel: a table; expected a kernel",
        ),
        (f"[guest]\nmemory = {'9' * 5000}\n", "1:1: exceeds the limit"),
    ],
)
def test_a_wrong_word_is_named_with_its_place_and_with_what_was_expected(
    text: str | bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        guest_kinds(written(tmp_path, text))
    assert re.match(rf"{FILE}:\d+:\d+: ", str(caught.value)) and "\n" not in str(caught.value)
    assert caught.value.exit_code == Exit.USAGE


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"guests.toml: cannot be read: No such file"):
        guest_kinds(tmp_path)


def judged(text: str | bytes) -> None:
    """Guests, or an error of one line with a place in the text."""
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    try:
        file = tomlfile.read_text(raw, "guests.toml")
        for name in file.tables:
            guests.kind(file, name, {})
    except UsageError as error:
        place = re.match(r"guests\.toml:(\d+):(\d+): [^\n]*expected[^\n]*$", str(error))
        assert place is not None, str(error)
        lines = raw.decode(errors="replace").replace("\r\n", "\n").split("\n")
        assert int(place[1]) <= len(lines)
        assert int(place[2]) <= len(lines[int(place[1]) - 1]) + 1


@settings(deadline=None)
@given(st.integers(0, len(WHOLE)), st.integers(0, 60), st.binary(max_size=8))
def test_no_damage_to_the_file_gives_a_traceback(start: int, length: int, instead: bytes) -> None:
    raw = WHOLE.encode()
    judged(raw[:start] + instead + raw[start + length :])


WORDS = st.sampled_from([*guests.LINUX, *guests.DEBIAN, *guests.OPTIONAL, *guests.OTHERS, "colour", '"a b"'])
VALUES = st.one_of(
    st.sampled_from(
        ["1", "-1", "0.5", "nan", "true", "[]", "{}", "{x = 1}", "[[1], 2]", "1979-05-27", "'''a\n[b]'''"]
    ),
    st.sampled_from(
        [
            f'"{word}"'
            for word in ("sid/amd64", "rpm", "windows", "wine", "minimal", "~nobody-here/x", "x" * 300)
        ]
    ),
    st.integers().map(str),
)


@settings(deadline=None)
@given(st.lists(st.tuples(WORDS, VALUES), max_size=6, unique_by=lambda pair: pair[0]))
def test_no_table_gives_a_traceback(pairs: list[tuple[str, str]]) -> None:
    judged("[guest]\n" + "".join(f"{word} = {value}\n" for word, value in pairs))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_gives_a_traceback(text: str) -> None:
    judged(text)


def test_an_error_is_found_behind_strings_that_look_like_tables() -> None:
    text = b'[a]  # [b]\nx = """\n[b]\ny = 1"""\nz = "[b]"\n[b]\n"y" = 2\nc.d = 3\n'
    file = tomlfile.read_text(text, "f")
    assert str(file.wrong("no", "b", "y")) == "f:7:7: no"
    assert str(file.wrong("no", "b", "c", "d")) == "f:8:7: no"
    assert str(file.wrong("no", "b", "c")) == "f:8:1: no"
    assert str(file.wrong("no", "b", "y", "deeper")) == "f:7:7: no"
    assert str(file.unknown("no", ["yy"], "b", "y")) == "f:7:1: no; expected yy; did you mean yy?"


def test_a_guest_of_rpms_has_rpm_in_its_image_and_is_updated_to_the_newest_kernel() -> None:
    kind = guest_kinds(ROOT)["debian-12-rpm"]
    assert "rpm" in kind.packages("6") and kind.update is not None
    assert (kind.kernel.line.before, kind.update.line.before) == (True, False)
    assert kind.kernel.line.releases == kind.update.line.releases


def test_a_guest_that_builds_its_drivers_has_the_headers_of_its_kernel() -> None:
    assert "linux-headers-6.1.0-56-cloud-amd64" in guest_kinds(ROOT)["debian-12-dkms"].packages(
        "6.1.0-56-cloud-amd64"
    )


def test_a_guest_that_is_not_there_is_a_usage_error_that_names_those_that_are(tmp_path: Path) -> None:
    written(tmp_path, TABLE)
    assert [kind.name for kind in choose_guests(tmp_path, None)] == ["guest"]
    with pytest.raises(UsageError, match=r"guets: no such guest; did you mean guest\?") as caught:
        choose_guests(tmp_path, ["guets"])
    assert caught.value.hint == "there are: guest"


def test_an_experimental_guest_is_tried_only_when_it_is_named_and_counts_nothing(tmp_path: Path) -> None:
    slow = '[slow]\nkernel = "bookworm/debug"\npatience = 6\nlevel = "experimental"\n'
    written(tmp_path, TABLE + slow)
    assert [kind.name for kind in choose_guests(tmp_path, None)] == ["guest"]
    (kind,) = choose_guests(tmp_path, ["slow"])
    assert (kind.name, kind.patience, kind.memory, kind.informing) == ("slow", 6, 512, True)


def test_the_level_is_the_guests_and_not_its_kernels(tmp_path: Path) -> None:
    written(tmp_path, '[a]\nkernel = "bullseye/amd64"\n[b]\nkernel = "sid/amd64"\nlevel = "informing"\n')
    assert [kind.informing for kind in choose_guests(tmp_path, None)] == [False, True]


def test_a_guest_that_cannot_be_run_here_says_why_in_one_line(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    written(
        tmp_path,
        f'[a]\nsystem = "windows"\n[b]\nsystem = "windows"\nimage = "{image}"\n[c]\nsystem = "wine"\n',
    )
    bare, lost, wine = guest_kinds(tmp_path).values()
    assert 'no image: image = "PATH" in compat_tests/guests.toml, or --image a=PATH' in bare.excluded
    assert (
        f"{image}: there is no such image" in lost.excluded and wine.excluded == "Wine: comes with issue 9"
    )
    image.touch()
    there = guest_kinds(tmp_path, {"a": image})
    assert [there[name].image for name in "ab"] == [image, image]
    assert there["a"].excluded == there["b"].excluded == "Windows: its drivers come with issue 9"
    with pytest.raises(UsageError, match="a: Windows: its drivers"):
        _ = there["a"].kernel


def test_a_guest_of_another_architecture_says_which_package_has_its_qemu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, '[arm]\nkernel = "sid/arm64"\n[pc]\nkernel = "sid/amd64"\n')
    for emulator, said in (
        (
            tmp_path / "qemu-system-aarch64",
            "qemu-system-aarch64 is not installed: apt-get install qemu-system-arm",
        ),
        (Path("/bin/sh"), ""),
    ):
        machine = replace(domain.MACHINES["arm64"], emulator=emulator)
        monkeypatch.setitem(domain.MACHINES, "arm64", machine)
        arm, pc = guest_kinds(tmp_path).values()
        assert (arm.arch, arm.absent, pc.arch, pc.excluded) == ("arm64", said, "amd64", "")
        assert arm.excluded.startswith(said or "there are no packages of ours for arm64 yet")


def test_an_image_for_a_guest_that_takes_none_is_a_usage_error(tmp_path: Path) -> None:
    written(tmp_path, TABLE + '[windows-11]\nsystem = "windows"\n')
    with pytest.raises(UsageError, match=r"--image guest=...: is no guest whose image a user supplies"):
        guest_kinds(tmp_path, {"guest": tmp_path})
    with pytest.raises(UsageError, match=r"did you mean windows-11\?"):
        guest_kinds(tmp_path, {"windows-1": tmp_path})
