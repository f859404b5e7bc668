"""Massive (formerly Polygon.io) as a source: minute bars of the six pairs over REST, live and by range.

A batch is one pair over at most thirty days with all its pages, or nothing. Calls and their failures are in
`massive_http`, the checks of a page in `massive_pages`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dxy_pipeline.core.bars import EPOCH, Bar, Rejected, RejectReason, ceil_to, floor_to, screen
from dxy_pipeline.core.clock import Clock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.massive_http import PAGE_LIMIT, CallBudget, MassiveCalls
from dxy_pipeline.sources.massive_pages import AGAIN, Asked, Page, read_page, time_of
from dxy_pipeline.sources.protocol import Batch, SourceBroken, SourceRefused
from dxy_pipeline.sources.reading import count, number

# Thirty days of minutes fit one page, so that a page limit never cuts a piece in the middle.
PIECE = timedelta(days=30)
MOST_PAGES = 200
MILLISECOND = timedelta(milliseconds=1)
assert PIECE / timedelta(minutes=1) < PAGE_LIMIT  # noqa: S101 - a rule between two constants


def ticker_of(symbol: str) -> str:
    """Return Massive's ticker of a pair: `C:EURUSD`."""
    return f"C:{symbol}"


class MassiveSource:
    """Minute bars over REST. The key is taken when the source is made, and shows in no message.

    `calls_per_minute` is what the plan allows, None or 0 without limit. `tell` gets a line before each wait.
    """

    name = "massive_api"
    feed = "massive"

    def __init__(
        self,
        api_key: str,
        clock: Clock,
        *,
        base_url: str = "https://api.massive.com",
        calls_per_minute: int | None = None,
        patience: float = 120.0,
        read_seconds: float = 15.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._budget = CallBudget(calls_per_minute, monotonic=monotonic, sleep=sleep, tell=tell)
        self._calls = MassiveCalls(
            api_key, base_url, self._budget, patience=patience, read_seconds=read_seconds, sleep=sleep
        )

    def check_live(self, symbols: Sequence[str] = SYMBOLS) -> None:
        """Raise SourceRefused when the plan's rate cannot serve one call for each pair every minute."""
        allowed = self._budget.calls
        if allowed is not None and allowed < len(symbols):
            raise SourceRefused(
                f"live needs {len(symbols)} calls a minute and the Massive plan allows {allowed}",
                hint="live needs a plan without that limit; history works with it: dxy load massive --from … --to …",
            )

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the bars of `symbols` in [start, end), aware UTC: one batch for each pair and piece of thirty days.

        A minute that is not over by the clock is left out. Raises SourceError; what was yielded before is complete.
        """
        begin, end = ceil_to(start), min(end, floor_to(self._clock.now()))
        while begin < end:
            stop = min(begin + PIECE, end)
            for symbol in symbols:
                yield self._piece(symbol, begin, stop)
            begin = stop

    def _piece(self, symbol: str, start: datetime, end: datetime) -> Batch:
        asked = Asked(ticker_of(symbol), (start - EPOCH) // MILLISECOND, (end - EPOCH) // MILLISECOND - 1)
        located: list[tuple[str, Bar]] = []
        unread: list[Rejected] = []
        delayed = False
        for page_number, page in enumerate(self._pages(asked), 1):
            delayed |= page.delayed
            for place, item in enumerate(page.items, 1):
                location = f"{asked.ticker} page {page_number} item {place}"
                row = read_item(symbol, item, location)
                if isinstance(row, Bar):
                    located.append((location, row))
                else:
                    unread.append(row)
        good, refused = screen(located, self._clock.now())
        notes = (f"{symbol} is DELAYED by the plan",) if delayed else ()
        return Batch(good, unread + refused, progress=f"{symbol} {start:%Y-%m-%d %H:%M} to {end:%H:%M}", notes=notes)

    def _pages(self, asked: Asked) -> Iterator[Page]:
        """Yield every page of a piece, in order. Raises SourceBroken for a loop, or a page repeated or out of order."""
        page = read_page(self._calls.first_page(*asked), asked)
        followed: set[str] = set()
        latest = -1
        while True:
            times = [t for item in page.items if (t := time_of(item)) is not None]
            if times and times[0] <= latest:
                raise SourceBroken(f"Massive sent a page of {asked.ticker} twice or out of order", hint=AGAIN)
            latest = max(latest, *times) if times else latest
            yield page
            path = page.next_path
            if path is None:
                return
            if path in followed or len(followed) >= MOST_PAGES:
                raise SourceBroken(f"Massive's pages of {asked.ticker} lead in a circle", hint=AGAIN)
            followed.add(path)
            page = read_page(self._calls.next_page(asked.ticker, path), asked)


def read_item(symbol: str, item: Any, location: str) -> Bar | Rejected:
    """Return the bar of one result (o h l c v vw t n, t in Unix ms), or its refusal when it cannot be read."""
    t = time_of(item)
    try:
        if t is None:
            raise ValueError("no time")
        prices = [number(item.get(name)) for name in "ohlc"]
        volume, vwap = number(item.get("v")), number(item.get("vw"))
        when = datetime.fromtimestamp(t // 1000, UTC) + timedelta(milliseconds=t % 1000)
        opened, high, low, close = cast("list[float]", prices)  # an absent one is None until the contract refuses it
        return Bar(symbol, when, opened, high, low, close, volume or 0.0, vwap, count(item.get("n")))
    except (ValueError, TypeError, OverflowError, OSError):
        payload = {"item": str(item)[:500]}
        return Rejected(location, symbol, "" if t is None else str(t), payload, RejectReason.UNPARSEABLE)
