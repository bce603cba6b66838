"""A browser without a window, driven through the DevTools protocol; and a server for its pages.

Chromium reads and writes the protocol's messages, each ended by a zero byte, on two pipes
(https://chromedevtools.github.io/devtools-protocol): no package is needed for it.
"""

import base64
import contextlib
import fcntl
import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

PATIENCE = 240  # seconds that a browser may think


def find_browser() -> str | None:
    """Return the path of a browser, if there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class ProtocolError(Exception):
    """The browser cannot do what it is told, as where a page goes away meanwhile."""


class Browser:
    """One Chromium, with an empty profile of its own."""

    def __init__(self, program: str, *flags: str):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Chromium takes them at the numbers 3 and 4; above 9 no pipe is in the other's way.
        pairs = [os.pipe(), os.pipe()]
        (theirs_in, ours_out), (ours_in, theirs_out) = [
            [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pair] for pair in pairs
        ]
        for end in (*pairs[0], *pairs[1]):
            os.close(end)
        command = [program, "--headless", "--no-sandbox", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={self.profile.name}", "--no-first-run", *flags]
        self.process = subprocess.Popen(
            [*command, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.output, self.input = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb")
        self.number = 0
        self.events: list[dict] = []
        self.timer = threading.Timer(PATIENCE, self.process.kill)  # then reading ends
        self.timer.start()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict:
        """Call a method of the protocol, and wait for what it returns."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.output.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise ProtocolError(answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict:
        text = b""
        while not text.endswith(b"\0"):
            part = self.input.read1(2**20) if not self.input.peek(1) else self._until_zero()
            assert part, "the browser has ended"
            text += part
        return json.loads(text[:-1])

    def _until_zero(self) -> bytes:
        seen = self.input.peek(1)
        end = seen.find(b"\0")
        return self.input.read(len(seen) if end < 0 else end + 1)

    def open(self, url: str, width: int = 360, height: int = 740, dark: bool = False) -> "Page":
        """Open a page in a window of a size, as a phone or a desktop has it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        page.call("Emulation.setDeviceMetricsOverride", **size, mobile=width < 600)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[feature])
        page.go(url)
        return page

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self.process.kill()
        self.process.wait()
        self.output.close()
        self.input.close()
        self.profile.cleanup()


class Page:
    """A page in a browser."""

    def __init__(self, browser: Browser, session: str):
        self.browser, self.session = browser, session

    def call(self, method: str, **parameters: Any) -> dict:
        """Call a method of the protocol on this page."""
        return self.browser.call(method, self.session, **parameters)

    def go(self, url: str) -> None:
        """Load a page, and wait until it is complete."""
        self.run("globalThis.isOld = true")
        self.call("Page.navigate", url=url)
        self.wait("!globalThis.isOld && document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """Run lines of JavaScript, which may await, and return what they return."""
        result = self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {code} }})()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until a condition is true, however often the page is loaded anew meanwhile."""
        end = time.monotonic() + seconds
        flags = {"returnByValue": True, "awaitPromise": True}
        while time.monotonic() < end:
            with contextlib.suppress(ProtocolError):
                result = self.call("Runtime.evaluate", expression=condition, **flags)
                if result["result"].get("value") and "exceptionDetails" not in result:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{condition} never came true")

    def shoot(self, path: Path) -> None:
        """Write what can be seen into a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """Return what the browser found wrong with its pages."""
        found = []
        for event in self.browser.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(json.dumps(parameters["exceptionDetails"]))
            if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(json.dumps(parameters["entry"]))
            if method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
                found.append(json.dumps(parameters["args"]))
        return found


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder as `python -m http.server` does, and notes what it was asked for."""

    server: "FolderServer"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source: Any, target: Any) -> None:
        """Send a file, no quicker than the server's network."""
        while part := source.read(2**14):
            if self.server.mbit:
                with self.server.network:  # all requests share it
                    time.sleep(8e-6 * len(part) / self.server.mbit)
            target.write(part)
            self.server.sent += len(part)


class FolderServer(ThreadingHTTPServer):
    """A web server on this machine; `mbit` a second slow its network down to."""

    def __init__(self, folder: Path, mbit: float = 0):
        self.mbit, self.network, self.sent = mbit, threading.Lock(), 0
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str = "") -> str:
        """Return the address of a file of the folder."""
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def close(self) -> None:
        """Answer nobody any more."""
        self.shutdown()
        self.server_close()

    def __exit__(self, *_: object) -> None:
        self.close()
