"""Headless Chromium, spoken to through a pipe: open a page, press keys, take a photograph. It needs nothing else.

>>> with Browser() as browser:
...     page = browser.open(Path("book/_build/html/intro.html"), width=420, dark=True)
...     page.evaluate("document.title")
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars"]
BOX = """selector => {
  const b = document.querySelector(selector).getBoundingClientRect();
  return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1};
}"""


def chromium() -> str | None:
    """Where the browser is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser process for any number of pages; messages are JSON between zero bytes (the DevTools protocol).

    It has `patience` seconds for one answer.
    """

    def __init__(self, patience: float = 30) -> None:
        self._patience = patience
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (read_by_it, self._write), (self._read, written_by_it) = os.pipe(), os.pipe()
        wires = f'exec 3<&{read_by_it} 4>&{written_by_it}; exec "$0" "$@"'  # it reads 3 and writes 4
        command = [str(chromium()), *QUIET, f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            ["bash", "-c", wires, *command], pass_fds=(read_by_it, written_by_it), stderr=subprocess.DEVNULL
        )
        os.close(read_by_it)
        os.close(written_by_it)
        os.set_blocking(self._read, False)
        self._numbers, self._rest = itertools.count(1), b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, page: Path | str, width: int = 1280, height: int = 1600, dark: bool = False) -> "Page":
        """A file or an address, loaded, in a window so wide, for a reader who prefers light or dark."""
        tab = Page(self, self._call("Target.createTarget", {"url": "about:blank"})["targetId"])
        tab.load(page if isinstance(page, str) else page.resolve().as_uri(), width, height, dark)
        return tab

    def _call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda heard: heard.get("id") == number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that is wanted; events that come before it are kept."""
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            message, found, rest = self._rest.partition(b"\0")
            if not found:
                try:
                    self._rest += os.read(self._read, 1 << 20)
                except BlockingIOError:
                    time.sleep(0.005)
                continue
            self._rest, heard = rest, json.loads(message)
            if "method" in heard:
                self.events.append(heard)
            if wanted(heard):
                return dict(heard)
        raise TimeoutError(f"Chromium did not answer within {self._patience:g} s")


class Page:
    """A tab."""

    def __init__(self, browser: Browser, target: str) -> None:
        self._browser = browser
        attached = browser._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser._call(method, parameters, self._session)

    def load(self, url: str, width: int, height: int, dark: bool) -> None:
        self._browser.events.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        self._browser.wait(lambda heard: heard.get("method") == "Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """What a line of JavaScript is worth, as JSON; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", script))
        return found["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """A key as a reader presses it: `ArrowRight`, `Tab`, `Enter`, ` `."""
        code = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Tab": 9, " ": 32}[key]
        text = {"Enter": "\r", " ": " "}.get(key)
        for _ in range(times):
            pressed = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def complaints(self) -> list[str]:
        """Errors of the page since it was loaded."""
        self.evaluate("new Promise(done => setTimeout(done))")
        heard = []
        for event in self._browser.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                heard.append(told["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
                heard.append(str([argument.get("value") for argument in told["args"]]))
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
                heard.append(told["entry"]["text"] + " " + told["entry"].get("url", ""))
        return heard

    def requests(self) -> list[str]:
        """Addresses the page asked for since it was loaded."""
        sent = (event for event in self._browser.events if event["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def photograph(self, target: Path, selector: str | None = None) -> None:
        """A PNG of what the window shows, or of the first element that the selector names."""
        options: dict[str, Any] = {}
        if selector is not None:
            box = self.evaluate(f"(({BOX})({json.dumps(selector)}))")
            options = {"clip": box, "captureBeyondViewport": True}
        target.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **options)["data"]))
