# SPDX-License-Identifier: MIT
"""The one door to libvirt: domains, devices, the guest agent's channel; its errors in our words."""

from __future__ import annotations

import struct
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import libvirt
import libvirt_qemu

from vbuskit.base.errors import Blocked, Refused, VbuskitError

LIVE: int = libvirt.VIR_DOMAIN_AFFECT_LIVE

# libvirt prints every error on stderr by itself unless it is told not to.
libvirt.registerErrorHandler(lambda context, error: None, None)


class VirtError(VbuskitError):
    """libvirt said no; `code` is its error number (virErrorNumber)."""

    def __init__(self, message: str, code: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class NoAgent(VirtError):
    """The guest agent did not answer, this time."""


class AgentAway(NoAgent):
    """Nobody in the guest has the agent's channel open; nothing was waited for."""


HINTS = {
    libvirt.VIR_ERR_OPERATION_FAILED: "the host's libvirtd log and the guest's QEMU log say more",
    libvirt.VIR_ERR_INTERNAL_ERROR: "the host's libvirtd log and the guest's QEMU log say more",
    libvirt.VIR_ERR_XML_ERROR: "the domain's XML is refused by this libvirt",
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: "this libvirt or QEMU cannot do that",
    libvirt.VIR_ERR_SYSTEM_ERROR: "is libvirtd running there?",
}
UNKNOWN = "in a state that libvirt does not tell"
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "asleep",
}
AGENT_CODES = frozenset({libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED})


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn libvirt's exception into VirtError: one line that says what was being done."""
    try:
        yield
    except libvirt.libvirtError as error:
        code = int(error.get_error_code() or 0)
        words = " ".join(str(error.get_error_message() or error).split())
        kind = NoAgent if code in AGENT_CODES else VirtError
        raise kind(f"{doing}: {words}", code, hint=HINTS.get(code)) from error


MIGRATING = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
# (event, detail) of a domain -> what a migration waits for.
HEARD = {
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED): "moving",
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED): "paused",
}
LISTENING = threading.Event()


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a migration: bytes done and left, bytes dirtied a second, ms that the guest would stand."""

    done: int
    left: int
    dirtied: int
    downtime: int


def listed(ask: Callable[[int], list[Any]], flags: int) -> list[Any]:
    """Nothing where libvirt lacks the driver, which is a package of its own."""
    try:
        return ask(flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return []


class Domain:
    """One guest as libvirt knows it."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.name = str(raw.name())

    def is_running(self) -> bool:
        try:
            with translated(f"{self.name}: state"):
                return bool(self._raw.isActive())
        except VirtError as error:
            if error.code == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise

    def lacks_room(self) -> bool:
        """Whether QEMU has stopped it since its disk cannot grow; no other write error stops a guest."""
        try:
            with translated(f"{self.name}: state"):
                state, reason = self._raw.state(0)
        except VirtError:
            return False
        return (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)

    def state(self) -> str:
        """`running`, or another state and its reason, in words; `off` when libvirt knows it no longer."""
        try:
            with translated(f"{self.name}: state"):
                state, reason = self._raw.state(0)
        except VirtError as error:
            return "off" if error.code == libvirt.VIR_ERR_NO_DOMAIN else UNKNOWN
        if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
            return "paused: its disk cannot grow"
        return STATES.get(state, f"in state {state}, reason {reason}")

    @property
    def uuid(self) -> str:
        return str(self._raw.UUIDString())

    def is_asleep(self) -> bool:
        """Whether the guest has suspended itself to memory (S3)."""
        with translated(f"{self.name}: state"):
            return bool(self._raw.state(0)[0] == libvirt.VIR_DOMAIN_PMSUSPENDED)

    def press(self) -> None:
        """The power button; a guest that sleeps lightly wakes up."""
        with translated(f"{self.name}: power button"):
            self._raw.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def wake(self) -> None:
        """End a sleep to memory."""
        with translated(f"{self.name}: wake up"):
            self._raw.pMWakeup(0)

    def destroy(self) -> None:
        """Pull the plug; a guest that is off already stays off."""
        if self.is_running():
            with translated(f"{self.name}: destroy"):
                self._raw.destroy()

    def update(self, device: ET.Element) -> None:
        """Change a device of the running guest, such as the medium of a drive."""
        with translated(f"{self.name}: change {device.tag}"):
            self._raw.updateDeviceFlags(ET.tostring(device, encoding="unicode"), LIVE)

    def attach(self, device: ET.Element) -> None:
        """Plug a device in; its driver may bind after this has returned."""
        with translated(f"{self.name}: plug {device.tag} in"):
            self._raw.attachDeviceFlags(ET.tostring(device, encoding="unicode"), LIVE)

    def detach(self, device: ET.Element) -> None:
        """Ask the guest to let a device go; it has gone once `devices` no longer has it."""
        with translated(f"{self.name}: unplug {device.tag}"):
            self._raw.detachDeviceFlags(ET.tostring(device, encoding="unicode"), LIVE)

    def save(self, file: Path) -> None:
        """Write memory and devices to a file and end the guest; its disks are then as they were."""
        with translated(f"{self.name}: save"):
            self._raw.saveFlags(str(file), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)

    def resume(self) -> None:
        """Let a paused guest go on; one that runs already does."""
        if self.whereabouts() != "running":
            with translated(f"{self.name}: resume"):
                self._raw.resume()

    def whereabouts(self) -> str:
        """`gone`, `running`, `paused`, or `moving`: stopped by a migration that has not ended."""
        try:
            with translated(f"{self.name}: state"):
                state, reason = self._raw.state(0)
        except VirtError as error:
            if error.code == libvirt.VIR_ERR_NO_DOMAIN:
                return "gone"
            raise
        if state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED):
            return "gone"
        if state != libvirt.VIR_DOMAIN_PAUSED:
            return "running"
        return "moving" if reason in MIGRATING else "paused"

    def migrate(self, uri: str, bandwidth: int = 0, downtime: int = 0) -> None:
        """Live, from libvirtd to libvirtd; it is left paused there. MiB/s and ms; 0: libvirt's own.

        Returns when it is there, or raises when it has stayed; never postcopy, which has no way back.
        """
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_PAUSED
        with translated(f"{self.name}: migrate to {uri}"):
            if self._raw.isPersistent():
                flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
            if downtime:
                self._raw.migrateSetMaxDowntime(downtime, 0)
            limits = {libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: bandwidth} if bandwidth else {}
            self._raw.migrateToURI3(uri, limits, flags)

    def progress(self) -> Progress | None:
        """Of the job that it is in, or None."""
        with translated(f"{self.name}: its job"):
            if self._raw.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
                return None
            said = self._raw.jobStats()
        page = said.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, 4096)
        return Progress(
            done=said.get(libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED, 0),
            left=said.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING, 0),
            dirtied=said.get(libvirt.VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, 0) * page,
            downtime=said.get(libvirt.VIR_DOMAIN_JOB_DOWNTIME, 0),
        )

    def abort_job(self) -> None:
        """A job that has just ended by itself is fine."""
        try:
            with translated(f"{self.name}: end its job"):
                self._raw.abortJob()
        except VirtError as error:
            if error.code not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                raise

    def set_vcpus(self, count: int) -> None:
        """Plug CPUs in, up to what the guest has room for, or out; a guest need not bring them online."""
        with translated(f"{self.name}: {count} CPUs"):
            self._raw.setVcpusFlags(count, LIVE)

    def devices(self, tag: str) -> list[ET.Element]:
        """The live devices with that XML tag, as libvirt sees them now."""
        return self.xml().findall(f"./devices/{tag}")

    def xml(self) -> ET.Element:
        """What it is now; libvirt leaves passwords out."""
        with translated(f"{self.name}: its XML"):
            return ET.fromstring(self._raw.XMLDesc(0))

    def agent(self, command: str, seconds: int) -> str:
        """One guest-agent command as JSON text, and its answer; NoAgent when none came in time."""
        # libvirt would say so itself, but log every refusal as an error while the guest boots.
        if not any(is_connected(channel) for channel in self.devices("channel")):
            raise AgentAway(
                f"{self.name}: guest agent: is not connected", libvirt.VIR_ERR_AGENT_UNRESPONSIVE
            )
        with translated(f"{self.name}: guest agent"):
            return str(libvirt_qemu.qemuAgentCommand(self._raw, command, seconds, 0))


class Connection:
    """One libvirtd; leaving the `with` block closes the connection, not the guests."""

    def __init__(self, uri: str, *, events: bool = False) -> None:
        """`events`: `watch` will be used; a connection that is silent for 15 s is then given up."""
        self.uri = uri
        if events:
            listen()
        try:
            with translated(uri):
                self._raw = libvirt.open(uri)
                if events:
                    self._raw.setKeepAlive(5, 3)
        except VirtError as error:
            raise Blocked(str(error), hint=error.hint) from error

    def launch(self, xml: ET.Element) -> Domain:
        """Start a guest that libvirt forgets when it is off, and ends when this connection is gone."""
        with translated(f"{xml.findtext('name', 'guest')}: start"):
            text = ET.tostring(xml, encoding="unicode")
            return Domain(self._raw.createXML(text, libvirt.VIR_DOMAIN_START_AUTODESTROY))

    def saved(self, file: Path) -> ET.Element:
        """The XML of the guest that was saved in this file."""
        with translated(f"{file.name}: look into it"):
            return ET.fromstring(self._raw.saveImageGetXMLDesc(str(file), 0))

    def restore(self, file: Path, xml: ET.Element) -> Domain:
        """Go on with a saved guest; `xml` is `saved` with other paths. It outlives this connection."""
        name = xml.findtext("name", "guest")
        with translated(f"{name}: restore"):
            self._raw.restoreFlags(str(file), ET.tostring(xml, encoding="unicode"), 0)
            return Domain(self._raw.lookupByName(name))

    def versions(self) -> str:
        """Of libvirt and of the hypervisor that it drives."""
        libvirt_version, qemu = self.releases()
        return f"libvirt {libvirt_version}, QEMU {qemu}"

    def releases(self) -> tuple[str, str]:
        """Of libvirt, and of the hypervisor that it drives."""
        with translated(f"{self.uri}: versions"):
            return dotted(self._raw.getLibVersion()), dotted(self._raw.getVersion())

    def hostname(self) -> str:
        with translated(f"{self.uri}: its name"):
            return str(self._raw.getHostname())

    def capabilities(self) -> ET.Element:
        """Host and machine types; libvirt asks each QEMU binary once, for seconds, and remembers it."""
        with translated(f"{self.uri}: capabilities"):
            return ET.fromstring(self._raw.getCapabilities())

    def domain_capabilities(self, arch: str, virt: str) -> ET.Element:
        """What guests of that architecture can have; `virt`: `kvm` or `qemu`."""
        with translated(f"{self.uri}: capabilities of {virt} guests"):
            return ET.fromstring(self._raw.getDomainCapabilities(None, arch, None, virt, 0))

    def pools(self) -> list[ET.Element]:
        """The storage pools that are up; none without libvirt's driver of them."""
        with translated(f"{self.uri}: look at its storage pools"):
            found = listed(self._raw.listAllStoragePools, libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
            return [ET.fromstring(raw.XMLDesc(0)) for raw in found]

    def find(self, name: str) -> Domain | None:
        """A guest that is there already, whoever started it."""
        try:
            with translated(f"{self.uri}: {name}"):
                return Domain(self._raw.lookupByName(name))
        except VirtError as error:
            if error.code == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def find_uuid(self, uuid: UUID) -> Domain | None:
        try:
            with translated(f"{self.uri}: {uuid}"):
                return Domain(self._raw.lookupByUUIDString(str(uuid)))
        except VirtError as error:
            if error.code == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    @contextmanager
    def watch(self, uuid: UUID, heard: Callable[[str], None]) -> Iterator[None]:
        """`heard` is called, by another thread, with `moving` and `paused` as that guest comes to it."""

        def tell(connection: Any, domain: Any, event: int, detail: int, opaque: Any) -> None:
            if str(domain.UUIDString()) == str(uuid) and (event, detail) in HEARD:
                heard(HEARD[event, detail])

        kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        with translated(f"{self.uri}: watch"):
            number = self._raw.domainEventRegisterAny(None, kind, tell, None)
        try:
            yield
        finally:
            with suppress(libvirt.libvirtError):
                self._raw.domainEventDeregisterAny(number)

    def running(self) -> list[str]:
        """Names of the guests that run there, whoever started them."""
        with translated(f"{self.uri}: look at its guests"):
            return [
                str(raw.name()) for raw in self._raw.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            ]

    def close(self) -> None:
        with translated(f"{self.uri}: close"):
            self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def listen() -> None:
    """Start libvirt's event loop, once; connections of before never hear anything."""
    if LISTENING.is_set():
        return
    LISTENING.set()
    libvirt.virEventRegisterDefaultImpl()

    def forever() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=forever, name="libvirt events", daemon=True).start()


SAVED = struct.Struct(
    "=16s5I56x"
)  # magic, version, bytes of what follows, was running, compressed, cookie's place
MAGIC = b"LibvirtQemudSave"


def renamed(file: Path, name: str, copy: Path) -> Path:
    """A saved guest under another name and UUID, which libvirt lets nobody change; its memory is copied."""
    import shutil  # who only looks at a guest is faster without

    with file.open("rb") as source, copy.open("wb") as target:
        magic, version, size, *flags, cookie = SAVED.unpack(source.read(SAVED.size).ljust(SAVED.size, b"\0"))
        if (magic, version) != (MAGIC, 2):
            raise Refused(f"{file.name}: is no guest that libvirt has saved")
        said = source.read(size)
        root = ET.fromstring(said[:cookie].rstrip(b"\0"))
        for place, text in (("name", name), ("uuid", str(uuid.uuid4()))):
            for element in root.iterfind(place):
                element.text = text
        xml = ET.tostring(root) + b"\0"
        after = (xml + said[cookie:].rstrip(b"\0")).ljust(size, b"\0") + b"\0"
        target.write(SAVED.pack(magic, version, len(after), *flags, len(xml)) + after)
        shutil.copyfileobj(source, target, 1 << 20)
    return copy


def is_connected(channel: ET.Element) -> bool:
    """Whether a guest's channel device is the agent's, with an agent at its other end."""
    target = channel.find("target[@name='org.qemu.guest_agent.0']")
    return target is not None and target.get("state") == "connected"


def dotted(number: int) -> str:
    """libvirt's 1000000 * major + 1000 * minor + release as text."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
