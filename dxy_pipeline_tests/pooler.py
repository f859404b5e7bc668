"""A transaction pooler for tests: the strictest reading of what PgBouncer and its like promise, and nothing more.

Each transaction gets the next server connection in turn, so whatever relies on a session (a SET, a prepared statement,
a session lock, a temporary table) meets another session at once. A start packet with `options` is refused, as PgBouncer
refuses it. Nothing is reset between clients: a leak stays and can be looked for.
"""

import contextlib
import queue
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from psycopg import conninfo

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
PROTOCOL: Final = 196608  # 3.0
READY_IDLE: Final = b"Z" + struct.pack("!ic", 5, b"I")


class Pooler:
    """Listens on loopback, keeps `size` sessions of the database at `url`."""

    def __init__(self, url: str, size: int = 2) -> None:
        self._target = conninfo.conninfo_to_dict(url)
        self._idle: queue.SimpleQueue[_Session] = queue.SimpleQueue()
        for _ in range(size):
            self._idle.put(_Session(self._target))
        self.transactions = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address for clients."""
        port = self._listener.getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}/{quote(str(self._target['dbname']))}"

    def close(self) -> None:
        """Stop listening and end the idle server sessions."""
        self._listener.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(ConnectionError):
            if not self._greet(client):
                return
            incoming = _Messages(client)
            while (message := incoming.next()) is not None and message[:1] != b"X":
                session = self._idle.get(timeout=60)  # the one that was idle longest: never the last one's again
                self.transactions += 1
                if not _Exchange(client, incoming, session).run(message):
                    session.socket.close()  # the client left in mid-transaction
                    session = _Session(self._target)
                self._idle.put(session)

    def _greet(self, client: socket.socket) -> bool:
        while True:
            size, code = struct.unpack("!ii", _exactly(client, 8))
            body = _exactly(client, size - 8)
            if code == CANCEL_REQUEST:
                return False
            if code not in {SSL_REQUEST, GSS_REQUEST}:
                break
            client.sendall(b"N")
        if b"options" in body.split(b"\0")[::2]:
            reason = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(b"E" + struct.pack("!i", len(reason) + 4) + reason)
            return False
        session = self._idle.get(timeout=60)
        self._idle.put(session)
        client.sendall(session.greeting + READY_IDLE)
        return True


class _Session:
    """One server connection; `greeting` is what the server said up to its first ReadyForQuery."""

    def __init__(self, target: dict) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(f"{target['host']}/.s.PGSQL.{target['port']}")
        parameters = b"user\0postgres\0database\0" + str(target["dbname"]).encode() + b"\0\0"
        self.socket.sendall(struct.pack("!ii", len(parameters) + 8, PROTOCOL) + parameters)
        self.messages = _Messages(self.socket)
        self.greeting = b""
        while (message := self.messages.next()) is not None and message[:1] != b"Z":
            self.greeting += message


class _Exchange:
    """One transaction: messages both ways until the server is ready, idle, and owes no answer."""

    def __init__(self, client: socket.socket, incoming: "_Messages", session: _Session) -> None:
        self.client, self.incoming, self.session = client, incoming, session
        self.owed: list[bytes] = []

    def run(self, first: bytes) -> bool:
        """Return False when the client went away before its transaction was over."""
        self._to_server(first)
        with selectors.DefaultSelector() as ready:
            ready.register(self.client, selectors.EVENT_READ)
            ready.register(self.session.socket, selectors.EVENT_READ)
            while True:
                for message in self.session.messages.buffered():
                    if self._to_client(message):
                        return True
                for message in self.incoming.buffered():
                    if message[:1] == b"X":
                        return False
                    self._to_server(message)
                for key, _ in ready.select():
                    source = self.incoming if key.fileobj is self.client else self.session.messages
                    if not source.read():
                        return False

    def _to_server(self, message: bytes) -> None:
        if message[:1] in b"QSF":
            self.owed.append(message[:1])
        self.session.socket.sendall(message)

    def _to_client(self, message: bytes) -> bool:
        self.client.sendall(message)
        if message[:1] == b"G" and self.owed[:1] == [b"S"]:
            self.owed.pop(0)  # a Sync sent before COPY data is ignored by the server; the one after it counts
        if message[:1] == b"Z":
            self.owed.pop(0)
        return message == READY_IDLE and not self.owed


class _Messages:
    """The stream of protocol messages of a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source, self._bytes = source, b""

    def read(self) -> bool:
        chunk = self._source.recv(1 << 16)
        self._bytes += chunk
        return bool(chunk)

    def buffered(self) -> Iterator[bytes]:
        while len(self._bytes) >= 5 and len(self._bytes) > (size := struct.unpack("!i", self._bytes[1:5])[0]):
            message, self._bytes = self._bytes[: size + 1], self._bytes[size + 1 :]
            yield message

    def next(self) -> bytes | None:
        while True:
            for message in self.buffered():
                return message
            if not self.read():
                return None


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = source.recv(count - len(data))
        if not chunk:
            raise ConnectionError
        data += chunk
    return data
