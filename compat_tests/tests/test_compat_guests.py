# SPDX-License-Identifier: MIT
"""guests.toml: what is in it, and that each wrong word is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from vbuskit.base.errors import UsageError
from vbuskit.base.places import ROOT
from vbuskit.compat.guests import DEFAULT, FILE, choose_guests, guest_kinds


def written(tree: Path, text: str) -> Path:
    path = tree / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tree


TABLE = '[guest]\nkernel = "sid/amd64"\n'


def test_the_guests_of_the_checkout_are_read_and_the_default_one_counts() -> None:
    kinds = guest_kinds(ROOT)
    assert not kinds[DEFAULT].informing and kinds[DEFAULT].suite == "bookworm"
    assert [name for name, kind in kinds.items() if kind.first(ROOT)] == ["debug"]
    assert {kind.suite for kind in kinds.values()} >= {"bullseye", "bookworm", "trixie", "sid"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guest = 1\n", "a guest is a table"),
        ("[Guest]\n", "a guest is a table"),
        (TABLE + 'colour = "red"\n', "colour: missing, or not a word"),
        ("[guest]\n", "kernel: missing"),
        (TABLE + "patience = 0.5\n", "patience: is a number from 1 to 60"),
        (TABLE + "patience = true\n", "patience: is a number from 1 to 60"),
        (TABLE + "memory = 64\n", "memory: is a number of MiB"),
        (TABLE + 'init = "upstart"\n', "init: is systemd or minimal"),
        (TABLE + "on_request = 1\n", "on_request: is true or false"),
        ('[guest]\nkernel = "sid/beos"\n', "sid/beos: is no kernel"),
        (TABLE + 'update = "sid/beos"\n', "update: sid/beos: is no kernel"),
        (TABLE + 'update = "trixie/amd64"\n', "update: is of another suite"),
        (TABLE + 'family = "apk"\n', "family: is deb or rpm or dkms"),
        ("[guest\n", "line 1"),
    ],
)
def test_a_wrong_word_is_named_with_its_guest(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        guest_kinds(written(tmp_path, text))


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
    with pytest.raises(UsageError, match="nobody: no such guest"):
        choose_guests(tmp_path, ["nobody"])


def test_a_guest_that_takes_long_is_tried_only_when_it_is_named(tmp_path: Path) -> None:
    slow = '[slow]\nkernel = "bookworm/debug"\npatience = 6\non_request = true\n'
    written(tmp_path, TABLE + slow)
    assert [kind.name for kind in choose_guests(tmp_path, None)] == ["guest"]
    (kind,) = choose_guests(tmp_path, ["slow"])
    assert (kind.name, kind.patience, kind.memory) == ("slow", 6, 512)
