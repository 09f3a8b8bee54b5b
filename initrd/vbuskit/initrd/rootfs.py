# SPDX-License-Identifier: MIT
"""What the kernel makes of the entries: a tree, with its links, and with what was lost on the way."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from vbuskit.base.unpack import Budget
from vbuskit.initrd.archive import Entry

FOLLOWED = 40  # symbolic links in one path; the kernel's MAXSYMLINKS
STEPS = 20_000_000  # names looked up in one image, whose 200000 entries need a tenth
LOST = 100  # that are remembered by name


@dataclass(slots=True)
class File:
    """A regular file, or a device; `body` is None where nobody wanted it."""

    size: int = 0
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Link:
    target: str


@dataclass(slots=True)
class Folder:
    children: dict[str, File | Link | Folder] = field(default_factory=dict)


Node = File | Link | Folder


class Rootfs:
    """Later entries replace earlier ones, and one whose folder is not there is lost: init/initramfs.c."""

    def __init__(self) -> None:
        self.root = Folder()
        self.lost: list[str] = []
        self._linked: dict[tuple[int, ...], File] = {}
        self._steps = Budget(STEPS, "is a maze of folders and links")

    def add(self, entry: Entry) -> None:
        *parents, name = parts(entry.name) or [""]
        folder = self._walk(parents, FOLLOWED)
        if not name:
            return  # the root itself, "."
        if not isinstance(folder, Folder):
            self.lost = [*self.lost, entry.name][:LOST]
            return
        there = folder.children.get(name)
        if stat.S_ISDIR(entry.mode):
            if not isinstance(there, Folder):
                folder.children[name] = Folder()
        elif isinstance(there, Folder) and there.children:
            self.lost = [*self.lost, entry.name][:LOST]
        elif stat.S_ISLNK(entry.mode):
            folder.children[name] = Link(
                (entry.body or b"").split(b"\0", 1)[0].decode(errors="backslashreplace")
            )
        else:
            folder.children[name] = self._file(entry)

    def find(self, path: str) -> Node | None:
        """What `path` leads to, symbolic links followed."""
        return self._walk(parts(path), FOLLOWED)

    def content(self, path: str) -> bytes | None:
        node = self.find(path)
        return node.body if isinstance(node, File) else None

    def names(self, path: str) -> list[str]:
        """What is in the folder that `path` leads to, sorted; nothing when there is none."""
        node = self.find(path)
        return self._sorted(node) if isinstance(node, Folder) else []

    def below(self, path: str) -> Iterator[str]:
        """Paths of all that is no folder below `path`; links to folders are not followed."""
        top = self.find(path)
        stack = [(top, iter(self._sorted(top)))] if isinstance(top, Folder) else []
        way = [path]
        while stack:
            folder, left = stack[-1]
            name = next(left, None)
            if name is None:
                stack.pop()
                way.pop()
                continue
            node = folder.children[name]
            if isinstance(node, Folder):
                stack.append((node, iter(self._sorted(node))))
                way.append(name)
            else:
                yield "/".join([*way, name])

    def _sorted(self, folder: Folder) -> list[str]:
        self._steps.spend(len(folder.children))
        return sorted(folder.children)

    def _file(self, entry: Entry) -> File:
        if entry.link is None:
            return File(entry.size, entry.body)
        file = self._linked.setdefault(entry.link, File())
        if entry.size:
            file.size, file.body = entry.size, entry.body
        return file

    def _walk(self, names: list[str], links: int) -> Node | None:
        """From the root; a tree has no way up, so the way down is remembered."""
        self._steps.spend(len(names))
        way: list[Folder] = [self.root]
        left = list(reversed(names))
        while left:
            name = left.pop()
            if name == "..":
                way = way[:-1] or way
                continue
            node = way[-1].children.get(name)
            if isinstance(node, Link):
                links -= 1
                if links < 0:
                    return None
                way_on = parts(node.target)
                self._steps.spend(len(way_on))
                left += reversed(way_on)
                way = way[:1] if node.target.startswith("/") else way
            elif isinstance(node, Folder):
                way.append(node)
            else:
                return None if left else node
        return way[-1]


def parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
