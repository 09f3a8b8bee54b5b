# SPDX-License-Identifier: MIT
"""What is in an image, a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vbuskit.base.errors import Refused
from vbuskit.initrd import kmod
from vbuskit.initrd.archive import Segment
from vbuskit.initrd.image import RULES, Image


def lines(image: Image, signer: Callable[[bytes], str]) -> Iterator[str]:
    """Segments, who made it, kernels, our modules, our udev rules, and what the kernel will not unpack."""
    yield from map(segment_line, image.segments)
    yield f"made by {image.generator or 'neither dracut nor initramfs-tools'}"
    releases = image.releases()
    for release in releases:
        count = sum(kmod.suffix(path) is not None for path in image.files(release))
        yield f"kernel {release}: {count} module{'s' * (count != 1)}"
        for path in image.ours(release):
            yield f"  {path}: {module_line(image, path, signer)}"
    if not releases:
        yield "no kernel modules"
    for rules in RULES:
        if place := image.rule(rules):
            yield f"rule {place}"
    for lost in image.tree.lost:
        yield f"lost {lost}: its folder is not in the image, or it is where a folder is"


def segment_line(segment: Segment) -> str:
    size = f"{segment.size} bytes"
    if segment.compression != "none":
        size = f"{segment.compression}, {size}, unpacked {segment.unpacked}"
    entries = f"{segment.entries} entr{'y' if segment.entries == 1 else 'ies'}"
    return f"byte {segment.offset}: {entries}, {size}{'' if segment.has_trailer else ', no trailer'}"


def module_line(image: Image, path: str, signer: Callable[[bytes], str]) -> str:
    try:
        module = image.module(path)
        vermagic = kmod.modinfo(module).get("vermagic", ["no kernel"])[0].partition(" ")[0]
        return f"for {vermagic}, {(kmod.suffix(path) or '')[1:]}, {signer(module)}"
    except Refused as error:
        return str(error)
