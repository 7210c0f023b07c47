"""A web server that writes down what it is asked for: the place where notifications and pings arrive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Bell:
    """What rang: (path, body), in order. answers: the status of every answer."""

    port: int = 0
    answers: int = 200
    rung: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def hanging_bell() -> Iterator[Bell]:
    """Serve a bell on a port of its own."""
    bell = Bell()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            bell.rung.append((self.path, self.rfile.read(length).decode()))
            self.send_response(bell.answers)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815  the server looks it up by this name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the server's own name
            """Say nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        bell.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield bell
        server.shutdown()
        thread.join()
