# SPDX-License-Identifier: MIT
"""`vbuskit verify`: accepts what the factory made, refuses what was touched, never breaks down."""

from __future__ import annotations

import io
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pycdlib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vbuskit.base.artifact import Artifact
from vbuskit.base.errors import Exit, Refused, UsageError
from vbuskit.base.places import ROOT, Places
from vbuskit.base.run import Runner
from vbuskit.ci import cli
from vbuskit.ci.manifest import NAME, SIGNATURE, SUMS, Entry, Manifest, sha256sums
from vbuskit.ci.media import read_iso, write_iso
from vbuskit.ci.pipeline import Factory
from vbuskit.ci.verify import verify
from vbuskit.kmp import deb
from vbuskit.kmp.changelog import current_release
from vbuskit.kmp.debfile import read_deb
from vbuskit.kmp.keys import Key, store
from vbuskit.kmp.signing import sign_detached

VERSION = current_release(ROOT).debian_version
SHARED = f"linux/deb/{deb.COMMON}_{VERSION}_all.deb"
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def modules_deb(kernel: str) -> str:
    """Path on the ISO of the package that has modules."""
    return f"linux/deb/{deb.MODULES}-{kernel}_{VERSION}_amd64.deb"


@pytest.fixture(scope="module")
def out(
    dummies: dict[str, Artifact], kernel: str, key: Key, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("factory")
    places = Places(tree=ROOT, out=folder, cache=folder, state=folder)
    Factory(run=Runner(), places=places, key=key, kernel=kernel, build=lambda *_: dummies).iso()
    return folder


@pytest.fixture(scope="module")
def iso(out: Path) -> Path:
    return next(out.glob("*.iso"))


@pytest.fixture
def files(iso: Path) -> Files:
    return read_iso(iso)


def rewritten(files: Files, path: Path) -> Path:
    return write_iso(files, 0, path / "changed.iso").path


def signed_anew(files: Files, key: Key) -> Files:
    """What somebody who has the key could sign: manifest, sums and signature fit the files."""
    old = Manifest.from_json(files[NAME])
    rest = {name: raw for name, raw in files.items() if name not in (NAME, SIGNATURE, SUMS)}
    rest[SUMS] = sha256sums(rest)
    entries = {name: Entry.of(raw) for name, raw in rest.items()}
    manifest = Manifest(vbuskit=old.vbuskit, epoch=old.epoch, files=entries, packages=old.packages).to_json()
    return rest | {NAME: manifest, SIGNATURE: sign_detached(manifest, key)}


def test_what_the_factory_made_is_accepted(out: Path, iso: Path, key: Key, modules_deb: str) -> None:
    assert "none missing, none extra" in verify(iso, key.certificate)[1]
    said = verify(iso, key.certificate)
    assert [line for line in said if f"{SHARED}: has no modules, and is what the manifest says" in line]
    assert "3 modules signed" in verify(out / Path(modules_deb).name, key.certificate)[0]
    for module in (out / "steps/sign").rglob("*.ko"):
        assert "signed by" in verify(module, key.certificate)[0]


def test_another_trusted_key_refuses_all_of_it(
    out: Path, iso: Path, other_key: Key, modules_deb: str
) -> None:
    for path in (iso, out / Path(modules_deb).name, next((out / "steps/sign").rglob("*.ko"))):
        with pytest.raises(Refused, match="signed by another key"):
            verify(path, other_key.certificate)


def test_a_flipped_byte_of_any_file_is_refused_by_its_name(iso: Path, key: Key, tmp_path: Path) -> None:
    raw, touched = iso.read_bytes(), set()
    changed = tmp_path / "changed.iso"
    for name, content in read_iso(iso).items():
        start = raw.index(content)
        for at in {0, len(content) // 2, len(content) - 1}:
            flipped = bytearray(raw)
            flipped[start + at] ^= 0x20
            changed.write_bytes(flipped)
            # A changed manifest shows as a signature that does not belong to it.
            blamed = SIGNATURE if name == NAME else name
            with pytest.raises(Refused) as refused:
                verify(changed, key.certificate)
            assert f"changed.iso: {blamed}: " in str(refused.value)
            touched.add(name)
    assert touched == set(read_iso(iso))


def test_a_missing_file_is_refused_by_its_name(files: Files, key: Key, tmp_path: Path) -> None:
    for name in files:
        rest = {other: raw for other, raw in files.items() if other != name}
        with pytest.raises(Refused, match=rf"{re.escape(name)}: is"):
            verify(rewritten(rest, tmp_path), key.certificate)


def test_an_extra_file_is_refused_by_its_name(files: Files, key: Key, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"linux/extra\.sh: is on the ISO and not in the manifest"):
        verify(rewritten(files | {"linux/extra.sh": b"echo\n"}, tmp_path), key.certificate)


def test_an_iso_that_mount_could_take_for_another_file_system_is_refused(
    iso: Path, key: Key, tmp_path: Path
) -> None:
    """blkid, and so mount, prefers UDF, and ext4 whose superblock is in what ISO 9660 leaves unused."""
    changed, view = tmp_path / "changed.iso", pycdlib.PyCdlib()
    view.new(interchange_level=3, joliet=3, rock_ridge="1.09", udf="2.60")
    view.add_fp(io.BytesIO(b"good"), 4, iso_path="/X.;1", rr_name="x", joliet_path="/x")
    view.add_fp(io.BytesIO(b"evil"), 4, udf_path="/x")
    view.write(str(changed))
    with pytest.raises(Refused, match=r"changed\.iso: is UDF as well"):
        verify(changed, key.certificate)
    raw = bytearray(iso.read_bytes())
    raw[1024 + 56 : 1024 + 58] = b"\x53\xef"
    changed.write_bytes(raw)
    with pytest.raises(Refused, match=r"changed\.iso: has something before the ISO 9660 file system"):
        verify(changed, key.certificate)


def test_a_manifest_signed_with_another_key_is_refused(
    files: Files, key: Key, other_key: Key, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"manifest\.p7s: signed by another key"):
        verify(rewritten(signed_anew(files, other_key), tmp_path), key.certificate)


def test_a_well_signed_iso_with_a_foreign_certificate_is_refused(
    files: Files, key: Key, other_key: Key, tmp_path: Path
) -> None:
    files["linux/certificate.der"] = other_key.certificate_der
    with pytest.raises(Refused, match=r"certificate\.der: is not the trusted certificate"):
        verify(rewritten(signed_anew(files, key), tmp_path), key.certificate)


def test_a_well_signed_iso_with_an_unsigned_module_is_refused(
    files: Files, key: Key, tmp_path: Path, dummies: dict[str, Artifact], kernel: str, modules_deb: str
) -> None:
    packages = deb.build(Runner(), ROOT, current_release(ROOT), kernel, dummies, tmp_path)
    files[modules_deb] = packages[f"{deb.MODULES}-{kernel}"].path.read_bytes()
    with pytest.raises(Refused, match=r"vblk\.ko: is not signed"):
        verify(rewritten(signed_anew(files, key), tmp_path), key.certificate)


def test_a_well_signed_iso_with_a_package_of_a_kernel_without_modules_is_refused(
    files: Files, key: Key, tmp_path: Path, kernel: str, modules_deb: str
) -> None:
    packages = deb.build(Runner(), ROOT, current_release(ROOT), kernel, {}, tmp_path)
    files[modules_deb] = packages[f"{deb.MODULES}-{kernel}"].path.read_bytes()
    with pytest.raises(Refused, match="has no kernel modules"):
        verify(rewritten(signed_anew(files, key), tmp_path), key.certificate)


def test_a_package_of_no_kernel_is_good_by_the_manifest_alone(out: Path, key: Key) -> None:
    with pytest.raises(Refused, match="has no kernel modules, and nothing else in it could be signed"):
        verify(out / Path(SHARED).name, key.certificate)


def test_a_well_signed_iso_whose_sums_leave_a_file_out_is_refused(
    files: Files, key: Key, tmp_path: Path, modules_deb: str
) -> None:
    lines = files[SUMS].splitlines(keepends=True)
    sums = b"".join(line for line in lines if modules_deb.encode() not in line)
    old = Manifest.from_json(files[NAME])
    manifest = replace(old, files={**old.files, SUMS: Entry.of(sums)}).to_json()
    changed = files | {SUMS: sums, NAME: manifest, SIGNATURE: sign_detached(manifest, key)}
    with pytest.raises(Refused, match="SHA256SUMS: does not list the files"):
        verify(rewritten(changed, tmp_path), key.certificate)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"format"', b'"extra": 1, "format"'), (b'"epoch"', b' "epoch"'), (b"\n}", b"\n} ")],
)
def test_a_manifest_in_another_form_is_refused(files: Files, before: bytes, after: bytes) -> None:
    assert before in files[NAME]
    with pytest.raises(Refused, match="not in the form it is written in"):
        Manifest.from_json(files[NAME].replace(before, after))


def test_a_manifest_that_describes_other_packages_is_refused(
    files: Files, key: Key, tmp_path: Path, kernel: str
) -> None:
    files[NAME] = files[NAME].replace(f'"kernel": "{kernel}"'.encode(), b'"kernel": "9.9.0-1-amd64"')
    with pytest.raises(Refused, match="does not describe the packages"):
        verify(rewritten(signed_anew(files, key), tmp_path), key.certificate)


def test_views_that_differ_are_refused(iso: Path, key: Key, tmp_path: Path) -> None:
    raw, name = bytearray(iso.read_bytes()), "README.txt".encode("utf-16-be")
    at = raw.index(name)
    raw[at : at + len(name)] = "README.tyt".encode("utf-16-be")
    changed = tmp_path / "changed.iso"
    changed.write_bytes(raw)
    with pytest.raises(Refused, match="do not show the same file"):
        verify(changed, key.certificate)


def test_what_is_no_iso_no_package_and_no_module_is_refused(key: Key, tmp_path: Path) -> None:
    for suffix in (".iso", ".deb", ".rpm", ".ko"):
        for content in (b"", b"\0" * 70_000, b"!<arch>\n", b"\xed\xab\xee\xdb\x03", b"\x7fELF"):
            path = tmp_path / f"x{suffix}"
            path.write_bytes(content)
            with pytest.raises(Refused, match=f"x{suffix}"):
                verify(path, key.certificate)


def test_another_kind_of_file_is_a_usage_error(key: Key, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of"):
        verify(tmp_path / "x.zip", key.certificate)


def judge(path: Path, key: Key) -> bool:
    """True: accepted. False: refused. Anything else is a defect, and passes through."""
    try:
        verify(path, key.certificate)
    except Refused:
        return False
    return True


def test_a_thousand_random_flips_are_refused_or_harmless(iso: Path, key: Key, tmp_path: Path) -> None:
    raw, numbers, good = iso.read_bytes(), random.Random(1), read_iso(iso)
    changed = tmp_path / "changed.iso"
    for _ in range(1000):
        flipped = bytearray(raw)
        for _ in range(numbers.choice((1, 1, 4, 40))):
            # Half of them where the structures of the ISO lie: the sectors after the system area.
            at = numbers.randrange(32768, numbers.choice((65536, len(raw))))
            flipped[at] ^= 1 << numbers.randrange(8)
        changed.write_bytes(flipped)
        if judge(changed, key):
            assert read_iso(changed) == good


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_package_is_refused_or_holds_the_same_modules(
    out: Path, key: Key, tmp_path: Path, modules_deb: str, data: st.DataObject
) -> None:
    raw = bytearray((out / Path(modules_deb).name).read_bytes())
    good = read_deb(bytes(raw)).modules()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    changed = tmp_path / "changed.deb"
    changed.write_bytes(raw)
    if judge(changed, key):
        assert read_deb(bytes(raw)).modules() == good


@given(st.binary(max_size=300))
def test_any_bytes_as_a_manifest_are_refused(raw: bytes) -> None:
    with pytest.raises(Refused, match=r"manifest\.json"):
        Manifest.from_json(raw)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["format", "files", "packages", "epoch", "vbuskit", "sha256", "size"]), x
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_as_a_manifest_is_refused(body: object) -> None:
    with pytest.raises(Refused, match=r"manifest\.json"):
        Manifest.from_json(json.dumps(body).encode())


def test_the_command_says_it_in_one_line_and_by_its_exit_code(
    iso: Path, key: Key, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(key, tmp_path / "keys")
    trust = ["--trust", str(tmp_path / "keys/module.pem")]
    assert cli.main(["verify", str(iso), *trust]) == Exit.OK
    broken = tmp_path / "broken.iso"
    broken.write_bytes(iso.read_bytes().replace(b"vbuskit driver ISO", b"vbuskit driver OSI"))
    assert cli.main(["verify", str(broken), *trust]) == Exit.REFUSED
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "vbuskit: broken.iso: README.txt: is not what the manifest says"
    assert len(said) == 2 and said[1].startswith("hint: ")
