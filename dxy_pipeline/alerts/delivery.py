"""Delivery of alerts through apprise (Slack, mail, webhooks … by URL), with retries that survive a restart.

A URL holds secrets: it stays in the environment, the database knows its target by a digest, and of a failure only a
few known words are kept. Nothing here raises for a service that is down; the message waits and is shown as waiting.
Sent at least once: a crash between the service's answer and our record sends it again.
"""

import hashlib
import logging
import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

from dxy_pipeline.sql import load

BUDGET_S = 15.0  # of one look: the sensor's limit is 60 s
QUICK_ATTEMPTS, QUICK_WAIT_S = 2, 0.5
_STATUS = re.compile(r"error[= ](\d{3})\b")


@dataclass(frozen=True)
class Target:
    """Where messages go: `label` may be shown and stored, `url` never is."""

    label: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class Sent:
    """How many messages arrived at this look, and how many were tried and must wait."""

    delivered: int = 0
    failed: int = 0


def targets(urls: Sequence[str]) -> list[Target]:
    """Return the targets of `DXY_ALERT_URLS`; a URL that apprise cannot read is one too, and says so when tried."""
    return [Target(f"{_kind(url)} {hashlib.sha256(url.encode()).hexdigest()[:8]}", url) for url in dict.fromkeys(urls)]


def deliver(conn: psycopg.Connection, to: Sequence[Target], now: datetime, *, budget_s: float = BUDGET_S) -> Sent:
    """Send what is due to `to`, each message in a transaction of its own, until `budget_s` seconds are over."""
    urls = {target.label: target.url for target in to}
    started = time.monotonic()
    delivered = failed = 0
    while urls and time.monotonic() - started < budget_s:
        with conn.transaction(), conn.cursor(row_factory=dict_row) as cur:
            row = cur.execute(load("alerts/next_delivery"), {"labels": list(urls), "now": now}).fetchone()
            if row is None:
                break
            kind = "success" if row["event"] == "resolved" else "failure" if row["severity"] == "ERROR" else "warning"
            error = send(urls[row["target"]], row["title"], row["body"], kind)
            cur.execute(load("alerts/record_attempt"), {**row, "error": error, "now": now})
            delivered, failed = delivered + (error is None), failed + (error is not None)
    return Sent(delivered, failed)


def send(url: str, title: str, body: str, kind: str = "info") -> str | None:
    """Send one message, tried twice. Returns None, or in a few words why not; never raises, never quotes the URL."""
    retrying = Retrying(
        retry=retry_if_result(lambda error: error is not None),
        stop=stop_after_attempt(QUICK_ATTEMPTS),
        wait=wait_fixed(QUICK_WAIT_S),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    return retrying(_send_once, url, title, body, kind)


def _send_once(url: str, title: str, body: str, kind: str) -> str | None:
    import apprise  # noqa: PLC0415 - 0.4 s, and only when there is something to say

    with _overheard() as said:
        try:
            service = apprise.Apprise()
            if not service.add(url):
                return "not a URL that apprise can read"
            if service.notify(body=body, title=title, notify_type=apprise.NotifyType(kind)):
                return None
        except Exception as error:  # whatever a plug-in does, alerts must not stop the monitoring
            return f"failed: {type(error).__name__}"
    text = " ".join(said)
    if status := _STATUS.search(text):
        return f"refused with HTTP status {status[1]}"
    return "cannot be reached" if "onnection error" in text else "not accepted by the service"


@contextmanager
def _overheard() -> Generator[list[str]]:
    """Collect what apprise logs, and keep it out of our logs: it may quote addresses and keys."""
    lines: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, ear = logging.getLogger("apprise"), Ear(logging.WARNING)
    before: tuple[Any, ...] = (logger.propagate, logger.level)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(ear)
    try:
        yield lines
    finally:
        logger.removeHandler(ear)
        logger.propagate, level = before
        logger.setLevel(level)


def _kind(url: str) -> str:
    scheme = url.partition("://")[0].lower()
    return scheme if re.fullmatch(r"[a-z0-9]{2,12}", scheme) and "://" in url else "unreadable"
