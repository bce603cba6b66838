"""A server on this machine that serves one file as well or badly as a test wants."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves the same bytes under every name, and notes what it was asked."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.status = content, 200
        self.break_off: int | None = None  # after this many bytes
        self.requests: list[tuple[str | None, int]] = []  # Range, and bytes sent
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def close(self, *_) -> None:
        self.shutdown()
        self.server_close()

    __exit__ = close


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        total = len(server.content)
        status = server.status if not start else 206 if start < total else 416
        body = server.content[start:] if status in (200, 206) else b"sorry"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        body = body[: server.break_off]
        server.requests.append((wanted, len(body)))  # before the headers go out
        self.end_headers()
        self.wfile.write(body)
