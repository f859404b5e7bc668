"""A real local HTTP receiver of notifications, which can be told to fail."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "s3cret-token-never-shown"


@dataclass
class Receiver:
    """What arrived, in order; `failing` answers that many requests with 503."""

    port: int = 0
    failing: int = 0
    requests: int = 0
    titles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The apprise URL of this receiver, with a secret in it."""
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/{SECRET}"


@contextmanager
def receiving() -> Generator[Receiver]:
    """Run a receiver."""
    seen = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.requests += 1
            fails = seen.failing > 0
            if fails:
                seen.failing -= 1
            else:
                seen.titles.append(message["title"])
                seen.bodies.append(message["message"])
            self.send_response(503 if fails else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
