"""Whether a page of minute bars can be believed: the checks that keep a broken or truncated one from passing as whole.

Pure functions over response bodies; calling and retrying belong to `massive_http`.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from dxy_pipeline.sources.protocol import SourceBroken, SourceRateLimited, SourceRefused

AGAIN = "run it again; nothing of this piece was stored"


class Asked(NamedTuple):
    """What a chain of pages was asked for: minute bars of `ticker` with first_ms ≤ t ≤ last_ms."""

    ticker: str
    first_ms: int
    last_ms: int


class Page(NamedTuple):
    """A believed page: its items as they came, whether the data is delayed, and path and query of the next page."""

    items: list[Any]
    delayed: bool
    next_path: str | None


def read_page(body: bytes, asked: Asked) -> Page:
    """Return the page in `body`. Raises SourceBroken, SourceRefused, SourceRateLimited when it cannot be believed."""
    try:
        envelope = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise SourceBroken(f"Massive sent no JSON for {asked.ticker} ({len(body)} bytes)", hint=AGAIN) from None
    if not isinstance(envelope, dict):
        raise SourceBroken(f"Massive sent JSON without an envelope for {asked.ticker}", hint=AGAIN)
    delayed = _check_status(envelope, asked)
    items = _items(envelope, asked)
    _check_order(items, asked)
    return Page(items, delayed, _next_path(envelope, asked))


def _check_status(envelope: Mapping[str, Any], asked: Asked) -> bool:
    status = envelope.get("status")
    if status in ("OK", "DELAYED"):
        if envelope.get("ticker", asked.ticker) != asked.ticker:
            raise SourceBroken(f"Massive answered for another ticker than {asked.ticker}", hint=AGAIN)
        return status == "DELAYED"
    if status == "NOT_AUTHORIZED":
        raise SourceRefused(f"the Massive plan does not include {asked.ticker} or these days", hint="change the plan")
    if status == "ERROR" and "maximum requests" in str(envelope.get("error", "")):
        raise SourceRateLimited(f"Massive says too many calls for {asked.ticker}", hint="the next run goes on")
    raise SourceBroken(f"Massive answered for {asked.ticker} with neither OK nor DELAYED", hint=AGAIN)


def _items(envelope: Mapping[str, Any], asked: Asked) -> list[Any]:
    """Return the results, having compared them with every count that the envelope states."""
    counts = [envelope[name] for name in ("resultsCount", "queryCount", "count") if name in envelope]
    items = envelope.get("results")
    if items is None and counts and set(counts) == {0}:
        items = []
    if not isinstance(items, list):
        raise SourceBroken(f"Massive sent no results and no count for {asked.ticker}", hint=AGAIN)
    if any(stated != len(items) for stated in counts):
        raise SourceBroken(
            f"Massive announced {counts[0]} bars for {asked.ticker} and sent {len(items)}: truncated", hint=AGAIN
        )
    return items


def time_of(item: Any) -> int | None:
    """Return an item's time in Unix ms, None when it has none that could be one."""
    t = item.get("t") if isinstance(item, dict) else None
    return t if isinstance(t, int) and not isinstance(t, bool) else None


def _check_order(items: list[Any], asked: Asked) -> None:
    times = [t for item in items if (t := time_of(item)) is not None]
    if any(not asked.first_ms <= t <= asked.last_ms for t in times):
        raise SourceBroken(f"Massive sent bars of {asked.ticker} from outside the asked range", hint=AGAIN)
    if times != sorted(times):
        raise SourceBroken(f"Massive sent bars of {asked.ticker} out of order", hint=AGAIN)


def _next_path(envelope: Mapping[str, Any], asked: Asked) -> str | None:
    """Return path and query of `next_url`, its host and any key in it dropped: only our base is ever called."""
    url = envelope.get("next_url")
    if url in (None, ""):
        return None
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or not parts.path.startswith(f"/v2/aggs/ticker/{asked.ticker}/range/1/minute/"):
        raise SourceBroken(f"Massive sent a next page for {asked.ticker} that leads elsewhere", hint=AGAIN)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name.lower() not in ("apikey", "api_key")]
    return f"{parts.path}?{urlencode(query)}" if query else parts.path
