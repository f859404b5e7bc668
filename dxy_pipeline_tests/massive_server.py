"""A local HTTP server that answers like the Massive API, and misbehaves on demand.

`MassiveServer` serves bars given to it; `mood` says how: one function for each way to go wrong, by name in `MOODS`.
Every call is logged with its path and headers.
"""

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from dxy_pipeline.core.bars import EPOCH, Bar

PATH = re.compile(r"/v2/aggs/ticker/C:(?P<symbol>[A-Z]+)/range/1/minute/(?P<first>\d+)/(?P<last>\d+)")
ELSEWHERE = "https://api.massive.com"


class Call(NamedTuple):
    """One request as it arrived."""

    path: str
    symbol: str
    page: int
    authorization: str


class Reply(NamedTuple):
    """What goes back: `length` overrides Content-Length, `pace` is seconds between bytes."""

    status: int
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    length: int | None = None
    pace: float = 0.0


def item(bar: Bar) -> dict[str, Any]:
    """Return a bar as the API gives it."""
    t = (bar.ts_utc - EPOCH).total_seconds() * 1000
    figures = {"o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": bar.volume, "vw": bar.vwap}
    return {**figures, "t": int(t), "n": bar.trade_count or 1}


def as_json(payload: object) -> Reply:
    """Return a 200 reply."""
    return Reply(200, json.dumps(payload).encode())


class MassiveServer:
    """The server, its bars, its mood and its log. Use it as a context manager."""

    def __init__(self, bars: Iterable[Bar] = (), *, page_size: int = 50_000) -> None:
        self.bars = list(bars)
        self.page_size = page_size
        self.mood: str = "well"
        self.calls: list[Call] = []
        self.key = ""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

            def do_GET(self) -> None:
                server._handle(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "MassiveServer":
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def page(self, symbol: str, first: int, last: int, page: int) -> dict[str, Any]:
        """Return the true envelope of one page."""
        items = [item(bar) for bar in self.bars if bar.symbol == symbol]
        items = [one for one in items if first <= one["t"] <= last]
        shown = items[page * self.page_size : (page + 1) * self.page_size]
        envelope: dict[str, Any] = {
            "ticker": f"C:{symbol}",
            "queryCount": len(shown),
            "resultsCount": len(shown),
            "adjusted": True,
            "status": "OK",
            "request_id": "x",
            "count": len(shown),
        }
        if shown:
            envelope["results"] = shown
        if (page + 1) * self.page_size < len(items):
            path = f"/v2/aggs/ticker/C:{symbol}/range/1/minute/{first}/{last}"
            envelope["next_url"] = f"{ELSEWHERE}{path}?cursor={page + 1}"
        return envelope

    def _handle(self, http: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(http.path)
        match = PATH.fullmatch(parts.path)
        page = int(parse_qs(parts.query).get("cursor", ["0"])[0])
        symbol = match["symbol"] if match else ""
        call = Call(http.path, symbol, page, http.headers.get("Authorization", ""))
        self.calls.append(call)
        if match is None:
            self._send(http, Reply(404, b"404 page not found"))
            return
        envelope = self.page(symbol, int(match["first"]), int(match["last"]), page)
        reply = MOODS[self.mood](self, call, envelope)
        if reply is None:  # cut: no answer at all
            http.close_connection = True
            http.connection.close()
            return
        self._send(http, reply)

    @staticmethod
    def _send(http: BaseHTTPRequestHandler, reply: Reply) -> None:
        try:
            http.send_response(reply.status)
            http.send_header("Content-Type", "application/json")
            http.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            for name, value in reply.headers.items():
                http.send_header(name, value)
            http.end_headers()
            if reply.pace:
                for byte in reply.body:
                    http.wfile.write(bytes([byte]))
                    time.sleep(reply.pace)
            else:
                http.wfile.write(reply.body)
            if reply.length is not None:
                http.close_connection = True
        except OSError:
            http.close_connection = True


Mood = Callable[[MassiveServer, Call, dict[str, Any]], Reply | None]


def _error(status: int, headers: dict[str, str] | None = None, **payload: str) -> Mood:
    return lambda server, _call, _envelope: Reply(
        status,
        json.dumps({"status": "ERROR", "request_id": "r", **payload}).replace("<KEY>", server.key).encode(),
        headers or {},
    )


def _changed(**changes: object) -> Mood:
    return lambda _server, _call, envelope: as_json({**envelope, **changes})


def _on_page_two(reply: Callable[[dict[str, Any]], Reply | None]) -> Mood:
    return lambda _server, call, envelope: reply(envelope) if call.page == 1 else as_json(envelope)


def _first_times(count: int, bad: Mood) -> Mood:
    return lambda server, call, envelope: (
        bad(server, call, envelope) if len(server.calls) <= count else as_json(envelope)
    )


def _with_items(change: Callable[[list[Any]], list[Any]]) -> Mood:
    def reply(_server: MassiveServer, _call: Call, envelope: dict[str, Any]) -> Reply:
        items = change(list(envelope.get("results", [])))
        counts = {name: len(items) for name in ("queryCount", "resultsCount", "count")}
        return as_json({**envelope, **counts, "results": items})

    return reply


def _swap(items: list[Any]) -> list[Any]:
    return [items[1], items[0], *items[2:]]


def _zipped_badly(_server: MassiveServer, _call: Call, envelope: dict[str, Any]) -> Reply:
    body = gzip.compress(json.dumps(envelope).encode())
    return Reply(200, body[:20] + b"\0\0\0\0" + body[24:], {"Content-Encoding": "gzip"})


def _zipped(_server: MassiveServer, _call: Call, envelope: dict[str, Any]) -> Reply:
    return Reply(200, gzip.compress(json.dumps(envelope).encode()), {"Content-Encoding": "gzip"})


def _repeat_first_page(server: MassiveServer, call: Call, envelope: dict[str, Any]) -> Reply:
    first, last = (int(part) for part in call.path.split("?")[0].split("/")[-2:])
    again = server.page(call.symbol, first, last, 0)
    return as_json({**again, "next_url": envelope.get("next_url", "")} if call.page == 1 else envelope)


def _loop(server: MassiveServer, call: Call, envelope: dict[str, Any]) -> Reply:
    path = call.path.split("?")[0]
    empty = {**envelope, "queryCount": 0, "resultsCount": 0, "count": 0, "results": []}
    return as_json({**(envelope if call.page == 0 else empty), "next_url": f"{ELSEWHERE}{path}?cursor=1"})


def _own_url(_server: MassiveServer, call: Call, envelope: dict[str, Any]) -> Reply:
    url = envelope.get("next_url")
    return as_json({**envelope, "next_url": f"{url}&apiKey=FROM-THE-SERVER"} if url else envelope)


MOODS: dict[str, Mood] = {
    "well": lambda _server, _call, envelope: as_json(envelope),
    "zipped": _zipped,
    "delayed": _changed(status="DELAYED"),
    "key in next url": _own_url,
    # refusals
    "400": _error(400, error="Bad request for key <KEY>"),
    "401": _error(401, error="Unknown API Key <KEY>"),
    "403": _error(403, message="Your plan doesn't include this data timeframe. apiKey=<KEY>"),
    "404": lambda *_: Reply(404, b"404 page not found"),
    "302": lambda server, *_: Reply(302, b"", {"Location": f"{server.url}/elsewhere?apiKey={server.key}"}),
    "not authorized in 200": _changed(status="NOT_AUTHORIZED"),
    # passing or lasting failures
    "429": _error(429, error="You've exceeded the maximum requests per minute"),
    "429 in 200": _changed(status="ERROR", error="You've exceeded the maximum requests per minute"),
    "429 twice": _first_times(2, _error(429, {"Retry-After": "1"})),
    "429 for long": _error(429, {"Retry-After": "86400"}),
    "500": _error(500, error="internal <KEY>"),
    "503 twice": _first_times(2, _error(503)),
    "cut": lambda *_: None,
    "cut once": _first_times(1, lambda *_: None),
    "cut in the body": lambda _s, _c, envelope: Reply(
        200, json.dumps(envelope).encode()[:200], length=len(json.dumps(envelope))
    ),
    "silent": lambda _server, _call, envelope: (time.sleep(1.5), as_json(envelope))[1],
    "500 not text": lambda *_: Reply(500, b"\xff\xfe\x00"),
    # answers that must not be believed
    "html": lambda *_: Reply(200, b"<html>oops</html>"),
    "not text": lambda *_: Reply(200, b"\xff\xfe\x00\x01"),
    "empty body": lambda *_: Reply(200, b""),
    "a list": lambda *_: as_json([1, 2]),
    "204": lambda *_: Reply(204, b""),
    "bad gzip": _zipped_badly,
    "truncated json": lambda _s, _c, envelope: Reply(200, json.dumps(envelope).encode()[:-30]),
    "no status": lambda _s, _c, e: as_json({name: value for name, value in e.items() if name != "status"}),
    "error in 200": _changed(status="ERROR", error="something"),
    "null results": lambda *_: as_json({"status": "OK", "results": None}),
    "null results with a count": _changed(results=None),
    "neither results nor count": lambda *_: as_json({"status": "OK"}),
    "results is a dict": _changed(results={}),
    "fewer than announced": lambda _s, _c, e: as_json({**e, "results": e["results"][:-1]}),
    "queryCount larger": lambda _s, _c, e: as_json({**e, "queryCount": e["queryCount"] + 1}),
    "other ticker": _changed(ticker="C:EURGBP"),
    "out of order": _with_items(_swap),
    "outside the range": _with_items(lambda items: [*items, {**items[-1], "t": items[-1]["t"] + 10**10}]),
    "before the range": _with_items(lambda items: [{**items[0], "t": items[0]["t"] - 10**10}, *items]),
    "page two html": _on_page_two(lambda _: Reply(200, b"<html>oops")),
    "page two null": _on_page_two(lambda e: as_json({**e, "results": None})),
    "page two missing": _on_page_two(lambda _: as_json({"status": "OK"})),
    "page two truncated": _on_page_two(lambda e: as_json({**e, "results": e["results"][:1]})),
    "page two 500": _on_page_two(lambda _: Reply(500, b"{}")),
    "page twice": _repeat_first_page,
    "circle": _loop,
    "next elsewhere": _changed(next_url="https://evil.example/v2/aggs/ticker/C:GBPUSD/range/1/minute/1/2"),
    "next not text": _changed(next_url=7),
    # rows that must be refused one by one
    "bad rows": _with_items(
        lambda items: [
            {**items[0], "c": float("nan")},
            {**items[1], "h": items[1]["l"] / 2},
            {**items[2], "o": "abc"},
            {**items[3], "t": items[3]["t"] + 500},
            items[4],
            items[4],
            {name: value for name, value in items[5].items() if name != "c"},
            "garbage",
            *items[6:],
        ]
    ),
}
