# SPDX-License-Identifier: MIT
from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from vbuskit.base.places import ROOT
from vbuskit.base.run import Runner
from vbuskit.drivers import host_abi as abi


def assertions(tag: str, mirror: type[ctypes.Structure]) -> list[str]:
    """What must hold in C for the Python structure to be right."""
    offsets = [
        f'_Static_assert(offsetof(struct {tag}, {name}) == {getattr(mirror, name).offset}, "{name}");'
        for name, *_ in mirror._fields_
    ]
    return [*offsets, f'_Static_assert(sizeof(struct {tag}) == {ctypes.sizeof(mirror)}, "size");']


def compile_c(source: str, folder: Path) -> int:
    file = folder / "mirror.c"
    file.write_text(source)
    include = [f"-I{ROOT / 'drivers' / name}" for name in ("include", "host")]
    return Runner().attempt(["gcc", "-std=gnu11", "-fsyntax-only", "-Werror", *include, file]).code


@pytest.mark.parametrize("tag", abi.MIRRORED)
def test_the_compiler_agrees_with_every_offset_of_the_mirror(tag: str, tmp_path: Path) -> None:
    lines = ['#include "vbusd_abi.h"', *assertions(tag, abi.MIRRORED[tag])]
    assert compile_c("\n".join(lines) + "\n", tmp_path) == 0


def test_the_compiler_would_notice_a_field_that_moved(tmp_path: Path) -> None:
    class Moved(ctypes.Structure):
        _fields_ = [("op", ctypes.c_uint32), ("version", ctypes.c_uint32)]

    lines = ['#include "vbusd_abi.h"', *assertions("vbusd_request", Moved)]
    assert compile_c("\n".join(lines) + "\n", tmp_path) != 0


def test_the_enums_have_the_numbers_of_the_header(tmp_path: Path) -> None:
    lines = ['#include "vbusd_abi.h"', f'_Static_assert(VBUSD_VERSION == {abi.VERSION}, "version");']
    for member in [*abi.Op, *abi.Result, *abi.Connector, *abi.EventKind]:
        lines.append(f'_Static_assert(VBUSD_{member.name} == {member.value}, "{member.name}");')
    lines.append('#include "classes/class_info.h"')
    for backend in abi.Backend:
        lines.append(f'_Static_assert(VBUS_BACKEND_{backend.name} == {backend.value}, "{backend.name}");')
    lines.append(f'_Static_assert(VBUSD_ALL_DEVICES == {abi.ALL_DEVICES}, "all");')
    lines.append(f'_Static_assert(VBUSD_LINK_DOWN == {abi.LINK_DOWN}, "down");')
    lines.append(f'_Static_assert(VBUSD_READ_ONLY == {abi.READ_ONLY}, "read only");')
    lines.append(f'_Static_assert(VBUSD_HELD == {abi.HELD} && VBUSD_FENCED == {abi.FENCED}, "moves");')
    lines.append('#include "venet_abi.h"')
    window = f"VBUS_WINDOW_MIN == {abi.WINDOW_MIB[0] << 20} && VBUS_WINDOW_MAX == {abi.WINDOW_MIB[1] << 20}"
    vectors = f"VBUS_VECTORS_MIN == {abi.VECTORS[0]} && VBUS_VECTORS_MAX == {abi.VECTORS[1]}"
    bridge = f"VBUS_VERSION == {abi.BUS_VERSION} && VBUS_QUEUES == {abi.QUEUES}"
    for equal in (window, vectors, bridge, f"VENET_MTU_DEFAULT == {abi.MTU_USUAL}"):
        lines.append(f'_Static_assert({equal}, "limits");')
    assert compile_c("\n".join(lines) + "\n", tmp_path) == 0
