"""Calls to the Massive API: the official client for addresses and authentication, our own verdict on every answer.

The client alone cannot be trusted with completeness: it drops the status code, ends silently on broken JSON, and its
retries put the address into the message. So its connection pool is wrapped: one deadline for each call, one clear
outcome for each status, waits between calls, and no API key in any message. What a page must contain is in
`massive_pages`.
"""

import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import urllib3
from massive import RESTClient
from massive.exceptions import BadResponse
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay

from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.protocol import (
    SourceBroken,
    SourceError,
    SourceNotFound,
    SourceRateLimited,
    SourceRefused,
    SourceUnavailable,
)

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
CALL_SECONDS = 60.0
BODY_BYTES = 64 * 2**20
RETRY_STATUSES = frozenset({408, 413, 425, 499})
PAGE_LIMIT = 50_000


class Answer(NamedTuple):
    """What the official client needs of a response."""

    status: int
    data: bytes
    retry_after: float | None


class CallBudget:
    """At most `calls` in any 60 seconds; waits until the next one is allowed. None or 0 is no limit."""

    def __init__(
        self,
        calls: int | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.calls = calls or None
        self._monotonic, self._sleep, self._tell = monotonic, sleep, tell
        self._made: deque[float] = deque(maxlen=self.calls)

    def spend(self) -> None:
        """Wait for the next call to be within the plan, then note it."""
        if self.calls is None:
            return
        if len(self._made) == self.calls and (wait := self._made[0] + 60 - self._monotonic()) > 0:
            self._tell(f"waiting {wait:.0f} s: the plan allows {self.calls} calls a minute")
            self._sleep(wait)
        self._made.append(self._monotonic())


class _Transport:
    """Stands in for the client's connection pool: no hidden retries, no redirects, a deadline, a size limit."""

    def __init__(self, pool: urllib3.PoolManager) -> None:
        self._pool = pool
        self.last = Answer(0, b"", None)

    def request(self, method: str, url: str, fields: Any = None, headers: Any = None) -> Answer:
        deadline = time.monotonic() + CALL_SECONDS
        response = self._pool.request(
            method, url, fields=fields, headers=headers, retries=False, redirect=False, preload_content=False
        )
        try:
            data = bytearray()
            # read1 gives what has arrived; the other reads would wait for a full block past any deadline
            while piece := response.read1(2**16, decode_content=True):
                data += piece
                if time.monotonic() > deadline or len(data) > BODY_BYTES:
                    raise urllib3.exceptions.ReadTimeoutError(
                        cast("Any", None), "", "the answer took too long or grew too large"
                    )
        finally:
            response.close()
        self.last = Answer(response.status, bytes(data), _retry_after(response.headers.get("Retry-After")))
        return self.last


def _retry_after(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()) else None


def usable_key(api_key: str) -> str:
    """Return the key when it can stand in a header. Raises UserError, which never shows it."""
    if not api_key:
        raise UserError("no API key for Massive", hint="set MASSIVE_API_KEY, or choose another DXY_FX_SOURCE")
    if not re.fullmatch(r"[!-~]+", api_key):
        raise UserError("the API key for Massive has blanks or characters that no key has", hint="copy it once more")
    return api_key


class MassiveCalls:
    """GET with the official client, within the plan's rate, retried within `patience` seconds, errors named."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        budget: CallBudget,
        *,
        patience: float = 120.0,
        attempts: int = 5,
        read_seconds: float = READ_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key = usable_key(api_key)
        if not re.match(r"https?://[^/\s]", base_url):
            raise UserError(
                f"the address of Massive is not a URL: {self.safe(base_url)!r}", hint="check DXY_MASSIVE_BASE_URL"
            )
        self._budget = budget
        self._client = RESTClient(
            api_key=self._key,
            base=base_url.rstrip("/"),
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_seconds,
            retries=0,
        )
        self._transport = _Transport(self._client.client)
        self._client.client = cast("Any", self._transport)
        self._retrying = Retrying(
            sleep=sleep,
            reraise=True,
            wait=self._wait,
            stop=stop_after_attempt(attempts) | stop_before_delay(patience),
            retry=retry_if_exception(lambda error: isinstance(error, SourceError) and error.retryable),
        )

    def first_page(self, ticker: str, start_ms: int, last_ms: int) -> bytes:
        """Return the body of the first page of minute bars with start_ms ≤ t ≤ last_ms."""
        return self._get(
            ticker,
            lambda: self._client.list_aggs(
                ticker, 1, "minute", start_ms, last_ms, sort="asc", limit=PAGE_LIMIT, raw=True
            ),
        )

    def next_page(self, ticker: str, path: str) -> bytes:
        """Return the body of a following page; `path` is the path and query of its `next_url`."""
        return self._get(ticker, lambda: self._client._get(path, raw=True))

    def safe(self, text: str) -> str:
        """Return server text fit for a message: short, printable, without the API key."""
        text = re.sub(r"(?i)(api_?key=)[^&\s\"']+", r"\1***", text.replace(self._key, "***"))
        return "".join(c if c.isprintable() else " " for c in text)[:200].strip()

    def _get(self, ticker: str, call: Callable[[], Any]) -> bytes:
        return self._retrying(self._attempt, ticker, call)

    def _wait(self, state: RetryCallState) -> float:
        told = self._transport.last.retry_after if isinstance(_error(state), SourceRateLimited) else None
        return told if told is not None else min(0.5 * 4 ** (state.attempt_number - 1), 30.0)

    def _attempt(self, ticker: str, call: Callable[[], Any]) -> bytes:
        self._budget.spend()
        self._transport.last = Answer(0, b"", None)
        try:
            return call().data
        except (BadResponse, UnicodeDecodeError):
            pass  # the verdict is below, outside the handler: the client's exception may quote the server
        except urllib3.exceptions.HTTPError as error:
            failure = self._network_error(ticker, error)
            raise failure from None
        raise self._status_error(ticker, self._transport.last)

    def _network_error(self, ticker: str, error: urllib3.exceptions.HTTPError) -> SourceError:
        kinds = urllib3.exceptions
        if isinstance(error, kinds.SSLError):
            return SourceBroken(
                f"no trusted connection to Massive for {ticker}: {self.safe(str(error))}",
                hint="check DXY_MASSIVE_BASE_URL and the machine's certificates",
            )
        if isinstance(error, kinds.DecodeError):
            return SourceBroken(
                f"Massive sent a damaged answer for {ticker}", hint="run it again; nothing of it was stored"
            )
        slow = isinstance(error, kinds.TimeoutError) and not isinstance(error, kinds.NewConnectionError)
        what = "did not answer in time" if slow else "could not be reached or cut the connection"
        return SourceUnavailable(
            f"Massive {what} for {ticker} ({type(error).__name__})",
            hint="check the network; the next run fetches what is missing",
        )

    def _status_error(self, ticker: str, answer: Answer) -> SourceError:
        said = self.safe(_message_of(answer.data))
        status = f"HTTP {answer.status}" + (f": {said}" if said else "")
        if answer.status == 401:
            return SourceRefused(f"Massive does not accept the API key ({status})", hint="check MASSIVE_API_KEY")
        if answer.status == 403:
            return SourceRefused(
                f"the Massive plan does not include {ticker} or these days ({status})",
                hint="ask for a shorter or later range, or change the plan",
            )
        if answer.status == 404:
            return SourceNotFound(f"Massive does not know {ticker} ({status})", hint="check DXY_MASSIVE_BASE_URL")
        if answer.status == 429:
            return SourceRateLimited(
                f"Massive says too many calls for {ticker} ({status})",
                hint="set DXY_MASSIVE_CALLS_PER_MINUTE to what the plan allows; the next run goes on",
            )
        if answer.status in RETRY_STATUSES or answer.status >= 500:
            return SourceUnavailable(
                f"Massive failed for {ticker} ({status})", hint="the next run fetches what is missing"
            )
        return SourceBroken(f"Massive gave no usable answer for {ticker} ({status})", hint="check DXY_MASSIVE_BASE_URL")


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _message_of(data: bytes) -> str:
    """Return the human part of an error body: its `error` or `message` when it is JSON, else its beginning."""
    text = data[:4096].decode("utf-8", errors="replace")
    match = re.search(r'"(?:error|message)"\s*:\s*"((?:[^"\\]|\\.)*)"', text)
    return match[1] if match else text
