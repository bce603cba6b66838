"""The page on which a person labels a heap, served to this computer alone."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from images.decode import thumbnail
from labelling.answers import Heap
from labelling.session import Session
from reporting.page import Page
from running.errors import FlowersError, ImageError, InputError

SCRIPT = Path(__file__).with_name("label.js")
SIDE = 320  # pixels of a thumbnail's short side
LARGEST_BODY = 100_000  # bytes of an answer
POLICY = (
    "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@contextmanager
def serve(heap: Heap, session: Session) -> Iterator[tuple[str, Event]]:
    """Serve the page during the block; give its address, and an event that ends the work.

    Only this computer can reach it, and only who knows the address: it holds a secret.
    """
    secret, is_done = secrets.token_urlsafe(16), Event()
    handler = _make_handler(f"/{secret}/", heap, session, is_done)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{secret}/", is_done
        finally:
            server.shutdown()


def wait(is_done: Event) -> None:
    """Wait for the end of the work; Ctrl-C interrupts it on Windows, too."""
    while not is_done.wait(0.5):
        pass
    time.sleep(0.5)  # until the last reply has gone out


def make_page() -> bytes:
    """Make the page; what it shows comes from the session."""
    page = Page("What do these photographs show?")
    page.text(
        "Name the photograph with the frame, and click away the others that do not show the same. "
        "Each answer is kept in labels.csv at once; you can close this page and go on later."
    )
    page.script(SCRIPT, None)
    return page.render()


def _make_handler(
    base: str, heap: Heap, session: Session, is_done: Event
) -> type[BaseHTTPRequestHandler]:
    page = make_page()

    @lru_cache(256)
    def small(index: int) -> bytes:
        return thumbnail(heap.path(session.files[index]), SIDE)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            what, _, number = self.path.removeprefix(base).partition("/")
            if self.path == "/favicon.ico":  # which browsers ask for
                self._reply(HTTPStatus.NO_CONTENT, "image/x-icon", b"")
            elif not self.path.startswith(base):
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page")
            elif what == "":
                self._reply(HTTPStatus.OK, "text/html; charset=utf-8", page)
            elif what == "state":
                self._try(session.state)
            elif what == "photo" and number.isdecimal() and int(number) < len(session.files):
                try:
                    self._reply(HTTPStatus.OK, "image/jpeg", small(int(number)), "max-age=86400")
                except ImageError as error:
                    self._reply(HTTPStatus.NOT_FOUND, "text/plain", str(error).encode())
            else:
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page")

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if not self.path.startswith(base) or size > LARGEST_BODY:
                self.close_connection = True
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page")
                return
            body = self.rfile.read(size)
            what = self.path.removeprefix(base)
            if what == "answer":
                self._try(lambda: session.answer(*_read_answer(body)))
            elif what == "undo":
                self._try(session.undo)
            elif what == "stop":
                self._try(is_done.set)
            else:
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page")

        def _try(self, action: Any) -> None:
            """Reply with what an action returns, or with the sentence of what went wrong."""
            try:
                status, reply = HTTPStatus.OK, action()
            except FlowersError as error:
                status, reply = HTTPStatus.CONFLICT, str(error)
            self._reply(status, "application/json", json.dumps(reply).encode())

        def _reply(self, status: int, kind: str, body: bytes, cache: str = "no-store") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", cache)
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the terminal is for what a person should read

    return Handler


def _read_answer(body: bytes) -> tuple[int, str, list[int], bool]:
    """Return what the page says of a question, or raise InputError where it is no such thing."""
    try:
        said = json.loads(body)
        return int(said["first"]), str(said["name"]), [*map(int, said["away"])], bool(said["alone"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("this is not an answer from the page") from error
