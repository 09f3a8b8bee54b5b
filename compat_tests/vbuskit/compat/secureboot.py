# SPDX-License-Identifier: MIT
"""What a guest boots with Secure Boot on: Debian's signed shim, GRUB and kernel, and OVMF's variables.

The files are those of the guest's own packages, at the places that shim and Debian's GRUB were built for:
UEFI starts EFI/BOOT/BOOTX64.EFI without being told (UEFI 2.10, 3.5.1.1), shim looks for GRUB beside itself,
and GRUB reads EFI/debian/grub.cfg. MokList is shim's variable (shim, MokVars.txt).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from vbuskit.base.errors import Blocked
from vbuskit.base.places import make
from vbuskit.compat.bench import Bench
from vbuskit.compat.domain import Firmware, command_line
from vbuskit.compat.scenarios.rootdisk import dumped, move

# Of the package ovmf: no program runs that Microsoft has not signed, and shim is one.
CODE, VARIABLES = Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
PACKAGES = ("grub-efi-amd64-signed", "shim-signed")
SHIM, GRUB = "/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
SHIM_GUID = "605dab50-e046-4300-abb6-3dd810dd8b23"  # owner of what shim's MokManager enrols (shim, guid.c)
MENU = """serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --file --set=root /vmlinuz
linux /vmlinuz {command_line}
initrd /initrd
boot
"""


def system_partition(bench: Bench) -> Path:
    """A folder with all that is loaded before the guest's root; the guest is off."""
    moved = move(bench)
    folder = make(bench.places.work("work", "esp"))
    boot, debian = make(folder / "EFI" / "BOOT"), make(folder / "EFI" / "debian")
    shutil.copyfile(dumped(bench, moved.image, SHIM), boot / "BOOTX64.EFI")
    shutil.copyfile(dumped(bench, moved.image, GRUB), boot / "grubx64.efi")
    shutil.copyfile(bench.image.kernel.path, folder / "vmlinuz")
    shutil.copyfile(moved.initrd, folder / "initrd")
    moved.image.unlink()
    menu = MENU.format(command_line=command_line(bench.guest.hardware))
    (debian / "grub.cfg").write_text(menu)
    return folder


def firmware(bench: Bench, system: Path, owner: x509.Certificate | None) -> Firmware:
    """A machine as it is sold; or one whose owner has enrolled a key of his own as MokManager does."""
    if not CODE.exists():
        raise Blocked(f"{CODE}: there is no such firmware", hint="apt-get install ovmf")
    variables = bench.places.work("work", "firmware") / "variables.fd"
    shutil.copyfile(VARIABLES, variables)
    if owner is not None:
        certificate = variables.with_name("owner.pem")
        certificate.write_bytes(owner.public_bytes(serialization.Encoding.PEM))
        tool = [sys.executable, "-P", "-m", "virt.firmware.vars", "--loglevel", "error"]
        bench.run([*tool, "--inplace", variables, "--add-mok", SHIM_GUID, certificate])
    return Firmware(code=CODE, variables=variables, system=system)
