# SPDX-License-Identifier: MIT
"""What each rule means, why it is so, what to do: docs/gate.md and `gate explain` are made of this."""

from __future__ import annotations

from dataclasses import dataclass

from vbuskit.migration.judgement import Verdict

YES, IF, NO = (Verdict.YES,), (Verdict.IF,), (Verdict.NO,)
CONSEQUENCE = (Verdict.IF, Verdict.NO)

FEATURES = "docs/protocol.md, Features"
VERSIONS = "docs/protocol.md, Versions"
BRIDGE = "docs/protocol.md, The window"
HOST = "docs/host.md"
GATE = "docs/gate.md, Decisions"
TRIED = "docs/gate.md, What was tried"


@dataclass(frozen=True, slots=True)
class Explanation:
    """verdicts: that the rule may give; says: in a table; why: how it comes; source: where that stands;
    act: what turns it into a yes.
    """

    verdicts: tuple[Verdict, ...]
    says: str
    why: str
    source: str
    act: str


UPDATE = "Update vbuskit at the destination to the release that the finding names."
REOPEN = (
    "Or mask the bit at the source and have the guest open the device again, so that it does without: "
    "reload its "
    "driver, or remove the device and add it again."
)
RESTART = "Or shut the guest down and start it there."

EXPLANATIONS: dict[str, Explanation] = {
    "arch": Explanation(
        NO,
        "the destination has another architecture",
        "The guest's memory holds code of its architecture.",
        GATE,
        "Move it to a host of its architecture.",
    ),
    "machine-unknown": Explanation(
        NO,
        "QEMU at the destination has no such machine type",
        "A machine type fixes the devices and the layout of their state. Distributions have types of "
        "their own, and newer "
        "releases drop old ones.",
        TRIED,
        f"Move it to a host that has the type. {RESTART}",
    ),
    "qemu-old": Explanation(
        NO,
        "QEMU at the destination is older than the machine type",
        "pc-q35-10.0 is in no QEMU before 10.0, and libvirt refuses to start it there.",
        TRIED,
        f"Update QEMU there. {RESTART}",
    ),
    "machine-alias": Explanation(
        NO,
        "the machine type is an alias, such as q35",
        "q35 is the newest type of each QEMU: two releases start two machines, and loading fails.",
        TRIED,
        "Write the type out in the domain and start the guest again.",
    ),
    "cpu-missing": Explanation(
        NO,
        "the destination cannot run the guest's CPU model",
        "A guest's kernel has looked at its CPU once, and uses what it found.",
        TRIED,
        "Move it to a host that runs the model, or give the guest a model that all hosts have and start "
        "it again.",
    ),
    "cpu-unpinned": Explanation(
        NO,
        "the guest's CPU is host-passthrough, host-model or maximum",
        "These mean another CPU on another host. libvirt refuses some moves of host-model between "
        "versions; QEMU compares no "
        "CPUID, so that maximum and host-passthrough change under the running guest and nobody says a word.",
        TRIED,
        "Name a model in the domain (mode custom) and start the guest again.",
    ),
    "libvirt-old": Explanation(
        IF,
        "libvirt at the destination does not know <qemu:override>",
        "libvirt gives an ivshmem-doorbell no master=on, and QEMU refuses to migrate a device without. "
        "<qemu:override> says it "
        "from libvirt 8.2 on; older ones pass over the element without a word.",
        TRIED,
        "Say -global ivshmem-doorbell.master=on in <qemu:commandline> of the domain that goes there, or "
        "update libvirt.",
    ),
    "bus-version": Explanation(
        NO,
        "the bridge has another version",
        "The version of the wire does not move: to a guest of this one another is no bus at all.",
        VERSIONS,
        UPDATE,
    ),
    "bus-feature": Explanation(
        NO,
        "a bit of the bridge that the guest picked is not offered",
        "The bits of NEGOTIATE are for the whole bus, and a guest that recovers asks for those that it had.",
        VERSIONS,
        UPDATE,
    ),
    "connector": Explanation(
        NO,
        "the connector cannot move, or is not there",
        "With `file` a process has the window open: there is no QEMU that could hand it over.",
        HOST,
        "End the process and start it at the destination.",
    ),
    "window-size": Explanation(
        NO,
        "the window is larger or smaller than any there",
        "The window is a PCI bar: QEMU refuses to load one of another size.",
        BRIDGE,
        UPDATE,
    ),
    "vectors": Explanation(
        NO,
        "the bridge has more or fewer vectors than any there",
        "Vectors are MSI-X entries of the PCI device, which do not change under a running guest.",
        BRIDGE,
        UPDATE,
    ),
    "queues": Explanation(
        NO,
        "the guest has more event queues than the destination takes",
        "QREG of so many queues would be refused when the guest registers again.",
        "docs/protocol.md, Calls",
        UPDATE,
    ),
    "rom-missing": Explanation(
        IF,
        "the destination has no option ROM",
        "An option ROM is a block of memory that moves along: without one there QEMU cannot load it.",
        GATE,
        "Copy the file that the domain names as romfile, and pin romsize.",
    ),
    "rom-size": Explanation(
        IF,
        "the option ROM there gets another size",
        "Without romsize the bar is as large as the ROM's file, which differs between releases.",
        GATE,
        "Copy the file that the domain names as romfile, and pin romsize.",
    ),
    "class-missing": Explanation(
        NO,
        "the destination has no such device class",
        "vbusd could not make the device, and the guest would see it removed.",
        "docs/classes.md",
        f"{UPDATE} A module: add it with `vbuskit host classes --add`.",
    ),
    "class-type": Explanation(
        NO,
        "the class of this name is of another type there",
        "The guest's driver is for a type; a class is a name at the host.",
        "docs/classes.md",
        "Add the module that the guest's host has.",
    ),
    "class-version": Explanation(
        NO,
        "the class has another version of its type there",
        "DEVOPEN names the version that the driver speaks, and is refused for another.",
        VERSIONS,
        UPDATE,
    ),
    "feature-masked": Explanation(
        IF,
        "a bit that the guest uses is masked at the destination",
        "A guest that comes to another host opens its devices again and asks for the very bits that it had.",
        FEATURES,
        f"Take the bit out of the mask there: `vbuskit host mask BUS GROUP BITS`. {REOPEN}",
    ),
    "feature-missing": Explanation(
        NO,
        "the class at the destination does not have a bit that the guest uses",
        "A guest that comes to another host opens its devices again and asks for the very bits that it had.",
        FEATURES,
        f"{UPDATE} {REOPEN}",
    ),
    "feature-depends": Explanation(
        CONSEQUENCE,
        "a bit falls because one that it needs is lost",
        "Segmentation needs checksums, and ECN needs segmentation of TCP: a bit is not active without "
        "those that it needs.",
        "docs/protocol.md, venet",
        "Do what the finding of the bit that it needs says.",
    ),
    "limit-low": Explanation(
        NO,
        "the destination has less of something than the guest counts on",
        "After a move the guest compares its MTU, pairs, rings and segments with what it is told, and "
        "its device fails when "
        "that is less.",
        FEATURES,
        f"{UPDATE} Or have the guest use less: a smaller MTU, or one pair or ring with the bit for more "
        "masked.",
    ),
    "limit-unknown": Explanation(
        IF,
        "the destination does not tell a limit",
        "Modules and older vbusds tell none. Every class has an MTU of 1500, a pair and a ring; more is "
        "not known.",
        GATE,
        "Capture the destination again, with a vbusd that tells it.",
    ),
    "network-missing": Explanation(
        IF,
        "the tap or socket that a card stands on is not there, or another device has it",
        "vbusd adds no device whose socket does not answer, or whose tap another one has. A tap that is "
        "not there it makes, but down and in no bridge: the guest would run on without a network.",
        HOST,
        "Make it there under the same name, and free.",
    ),
    "backend-unknown": Explanation(
        IF,
        "what a device of a module stands on is not known there",
        "Only the module knows what its argument names; the profile lists interfaces, sockets and images.",
        "docs/classes.md, Back ends",
        "Make it there, and capture the destination again.",
    ),
    "disk-missing": Explanation(
        IF,
        "the destination does not reach an image",
        "vbusd opens the image at the same path.",
        HOST,
        "Mount the storage that it lies on at the same path.",
    ),
    "disk-local": Explanation(
        IF,
        "what is there at an image's path is not known to be the same image",
        "The guest would go on with another disk. It is an if, because to share storage is the "
        "administrator's act and touches no "
        "guest; a copy is none, while the guest writes.",
        GATE,
        f"Have both hosts mount one storage. {RESTART}",
    ),
    "disk-read-only": Explanation(
        IF,
        "the guest writes an image that the destination can only read",
        "vbusd opens the image for writing, or not at all.",
        HOST,
        "Let vbusd's user write it there.",
    ),
    "disk-unlocked": Explanation(
        IF,
        "a written image lies on storage without locks",
        "Never two writers: a worker holds a lock for as long as its descriptor lives, and the next one "
        "waits for it.",
        "docs/model.md, Fence",
        "Mount the storage with locks.",
    ),
    "disk-lock-local": Explanation(
        IF,
        "a lock on a written image is not seen by the other host",
        "On a block device a lock holds within one host: nothing but the source's word would keep two "
        "writers apart.",
        "docs/model.md, Fence",
        "Use storage whose locks both hosts see, or activate it on one host at a time.",
    ),
    "disk-small": Explanation(
        IF,
        "the image there is smaller than the guest's disk",
        "The guest has been told a capacity, and what lies behind the image's end would fail.",
        "docs/protocol.md, vblk",
        "Make it as large, or see why it is not the same image.",
    ),
    "disk-block-size": Explanation(
        IF,
        "the image there has another block size",
        "A disk has the block size of the device below it. After a move the guest compares, and its disk "
        "fails when it is another one: a partition table does not survive that.",
        "docs/protocol.md, vblk",
        "Put a loop device with the guest's block size over it.",
    ),
    "unknown-field": Explanation(
        NO,
        "the guest's profile has a field that this release does not know",
        "It may be a need. An unknown field of a host is an offer, and counts as not offered.",
        "docs/gate.md, Profiles",
        "Judge with the release that captured the guest; the hosts may stay as they are.",
    ),
    "same-host": Explanation(
        (Verdict.YES, Verdict.NO),
        "the guest runs there already; no, when a host of another name has that one's identity",
        "The identity of the destination is that of the guest's host. Some makers give all machines "
        "one, which libvirt takes for a "
        "move to the same host.",
        GATE,
        "Two hosts need two identities: host_uuid in libvirtd.conf.",
    ),
    "driver-version": Explanation(
        YES,
        "the guest's drivers are of another release",
        "It is said and decides nothing: what both sides have was agreed on by bits.",
        VERSIONS,
        "Nothing.",
    ),
}
