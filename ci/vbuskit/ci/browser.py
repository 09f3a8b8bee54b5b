# SPDX-License-Identifier: MIT
"""Chromium without a window, driven through its own pipe: no port, no other program, no Python package.

Two FIFOs carry the DevTools protocol (https://chromedevtools.github.io/devtools-protocol): JSON, ended by
a zero byte. Only pages that vbuskit wrote itself are opened, so it may do without its sandbox, as root must.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vbuskit.base.errors import Blocked, VbuskitError
from vbuskit.base.run import Runner

PROGRAM = "chromium-headless-shell"
OPTIONS = (
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--font-render-hinting=none",
)
PATIENCE = 60.0  # seconds for one answer, on a busy machine


class BrowserError(VbuskitError):
    """The browser or a script in the page said no, or nothing at all."""


class Browser:
    """A browser; `Browser.started` ends it and all that it started."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    @classmethod
    @contextmanager
    def started(cls, work: Path) -> Iterator[Browser]:
        """`work`: a folder for its profile and its log. Raises Blocked when it is not installed."""
        if shutil.which(PROGRAM) is None:
            raise Blocked(f"{PROGRAM}: not installed", hint="./vbuskit --setup installs what is missing")
        fifos = [work / "commands", work / "answers"]
        for fifo in fifos:
            os.mkfifo(fifo)
        # Both ends of each are held here, so that no open waits; `read` notices a dead browser by time.
        commands, answers = (os.open(fifo, os.O_RDWR | os.O_CLOEXEC) for fifo in fifos)
        script = 'commands=$1 answers=$2; shift 2; exec "$@" 3<"$commands" 4>"$answers"'
        words = [PROGRAM, *OPTIONS, f"--user-data-dir={work / 'profile'}"]
        try:
            with Runner().start(["sh", "-c", script, "sh", *fifos, *words], output=work / "browser.log"):
                yield cls(commands, answers)
        finally:
            os.close(commands)
            os.close(answers)

    def ask(self, method: str, session: str = "", /, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come in between are kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        raw = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while raw:
            raw = raw[os.write(self._commands, raw) :]
        end = time.monotonic() + PATIENCE
        while (answer := self.read(end)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, method: str, session: str) -> dict[str, Any]:
        """The next event of that name; one that came already counts, and none counts twice."""
        end = time.monotonic() + PATIENCE
        while True:
            for place, event in enumerate(self.events):
                if (event.get("method"), event.get("sessionId")) == (method, session):
                    return self.events.pop(place)
            self.events.append(self.read(end))

    def read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise BrowserError(
                    f"{PROGRAM}: no answer within {PATIENCE:g} s", hint="browser.log says why"
                )
            self._rest += os.read(self._answers, 1 << 20)
        raw, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message

    def tab(self, width: int = 1240, height: int = 900) -> Tab:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Network", "Runtime", "Log"):
            tab.ask(f"{domain}.enable")
        tab.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        return tab


class Tab:
    """One page. Keys and clicks go the way that a user's go: through the browser, not through the page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def visit(self, page: Path, fragment: str = "", scripts: bool = True) -> float:
        """Seconds until all was loaded and painted; without `scripts` until it was loaded."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        start = time.monotonic()
        answer = self.ask("Page.navigate", url=page.absolute().as_uri() + fragment)
        if "loaderId" in answer:  # else it is there, and only the fragment is new
            self._browser.wait("Page.loadEventFired", self._session)
        if scripts:
            self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.monotonic() - start

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            said = answer["exceptionDetails"]
            raise BrowserError(str(said.get("exception", said).get("description", said)))
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Each key down and up: a letter, or a name such as `Escape`."""
        for key in keys:
            text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Escape": 27, "Tab": 9, "Space": 32}.get(
                key, ord(key) if len(key) == 1 else 0
            )
            named = {"key": " " if key == "Space" else key, "windowsVirtualKeyCode": code}
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    def click(self, selector: str) -> None:
        """The middle of the first element that is found, scrolled into view."""
        script = (
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.scrollIntoView({ block: 'center' }); const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        x, y = self.run(script)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def prefer(self, theme: str, media: str = "") -> None:
        """What the system prefers: light or dark; `media`: print, or the screen."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def events(self, method: str) -> list[dict[str, Any]]:
        """What came so far, as parameters."""
        self.run("0")
        return [
            event["params"]
            for event in self._browser.events
            if (event.get("method"), event.get("sessionId")) == (method, self._session)
        ]

    def picture(self) -> bytes:
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
