# SPDX-License-Identifier: MIT
"""Secure Boot: only modules that the machine's owner has enrolled a key for are loaded, and those are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography import x509

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell, CellSkipped
from vbuskit.compat.guest import Guest
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.scenarios.boot import complaints
from vbuskit.compat.scenarios.install import MODULES, loaded
from vbuskit.compat.scenarios.power import works
from vbuskit.compat.secureboot import PACKAGES, firmware, system_partition
from vbuskit.kmp.keyring import chosen_key
from vbuskit.kmp.keys import new_key
from vbuskit.kmp.signing import sign_module, split_signature

STATE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOCKDOWN = "/sys/kernel/security/lockdown"
REFUSED = "Key was rejected by service"  # strerror(EKEYREJECTED)
TRIED = "/dev/shm/tried.ko"


class SecureBoot(Scenario):
    name = "secureboot"
    title = (
        "Secure Boot: signed modules are loaded once the key is enrolled; unsigned, strange, changed: not"
    )
    order = 84
    needs = ("install",)
    packages = PACKAGES
    cold = True
    not_on = (
        ("drivers", "its firmware learns this checkout's key"),
        ("machine=i440fx", "Secure Boot needs the SMM of q35"),
    )
    long = True

    def run(self, bench: Bench, cell: Cell) -> None:
        if bench.image.recipe.kernel is not None:
            raise CellSkipped("needs a kernel that Debian has signed, which the guest's is not")
        bench.guest.shut_down()
        try:
            system = system_partition(bench)
            with booted(bench, cell, system, None) as stranger:
                self.keeps_out(stranger, cell)
            with booted(bench, cell, system, chosen_key(bench.places).certificate) as known:
                self.lets_in(known, cell)
        finally:
            bench.guest.boot()  # as it was before, for those who come after

    def keeps_out(self, bench: Bench, cell: Cell) -> None:
        """Nobody has enrolled the key: the guest runs, without the bus."""
        is_on(bench, cell, "not enrolled")
        cell.compare("not enrolled: loaded", expected="", seen=loaded(bench))
        refused(bench, cell, "not enrolled: signed", bench.guest.read(path_of(bench)))

    def lets_in(self, bench: Bench, cell: Cell) -> None:
        is_on(bench, cell, "enrolled")
        # vblk waits for a disk.
        cell.compare("enrolled: loaded", expected="vbus venet", seen=loaded(bench))
        cell.compare("host", expected="confirmed", seen=bench.bus.confirmed())
        works(bench, cell, "enrolled")
        module = bench.guest.read(path_of(bench))
        bare, _ = split_signature(module)
        middle = len(bare) // 2
        changed = module[:middle] + bytes([module[middle] ^ 1]) + module[middle + 1 :]
        bench.guest("modprobe -r venet vblk vbus")
        refused(bench, cell, "unsigned", bare)
        refused(bench, cell, "signed by a stranger", sign_module(bare, new_key("stranger")))
        refused(bench, cell, "one bit changed", changed)
        bench.guest("modprobe -a vbus venet vblk")
        works(bench, cell, "loaded again")
        cell.compare("kernel log", expected="no complaint", seen=complaints(bench))


@contextmanager
def booted(bench: Bench, cell: Cell, system: Path, owner: x509.Certificate | None) -> Iterator[Bench]:
    """The same guest, started by that firmware."""
    name = f"{bench.guest.name}-{'known' if owner else 'stranger'}"
    serial = bench.guest.serial.with_name(f"{name}-serial.log")
    started_by = firmware(bench, system, owner)
    hardware = replace(bench.guest.hardware, name=name, serial=serial, firmware=started_by)
    cell.logs.append(serial)
    with Guest(bench.host.connection, hardware) as guest:
        guest.boot()
        yield replace(bench, guest=guest)
        guest.shut_down()


def is_on(bench: Bench, cell: Cell, when: str) -> None:
    """Four bytes of attributes, then what the variable says (Documentation/filesystems/efivarfs.rst)."""
    said = bench.guest(f"od -An -tu1 -j4 {STATE}").strip()
    cell.compare(f"{when}: SecureBoot", expected="1", seen=said)
    locked = "[integrity]" in bench.guest(f"cat {LOCKDOWN}")
    cell.compare(f"{when}: the kernel is locked down", expected=True, seen=locked)


def path_of(bench: Bench) -> str:
    """The module that the others need."""
    return bench.guest(["/sbin/modinfo", "-n", MODULES[0]]).strip()


def refused(bench: Bench, cell: Cell, what: str, module: bytes) -> None:
    bench.guest.write(TRIED, module)
    done = bench.guest.execute(f"insmod {TRIED}")
    seen = REFUSED if done.code and REFUSED in done.err else done.err.strip() or "loaded"
    cell.compare(what, expected=REFUSED, seen=seen)
