"""Delivery of alerts through apprise (Slack, mail, webhooks … by URL), with retries that survive a restart.

A URL holds secrets: it stays in the environment, the database knows its target by a digest, and of a failure only a
few known words are kept. Nothing here raises for a service that is down or hangs; the message waits and is shown as
waiting. A message is claimed, then sent, then recorded: no transaction is open and no lock held meanwhile.
Sent at least once: a crash between the service's answer and our record, or an answer after the deadline, sends it again.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg.rows import dict_row

from dxy_pipeline.sql import load

BUDGET_S = 15.0  # of one look; the message under way may take its own deadline beyond it, and a sensor's limit is 60 s
DEADLINE_S = 15.0  # of one message, retries included; far below the minute after which another sender may take it


@dataclass(frozen=True)
class Target:
    """Where messages go: `label` may be shown and stored, `url` never is."""

    label: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class Sent:
    """How many messages arrived at this look, were tried and must wait, or were given up with their target."""

    delivered: int = 0
    failed: int = 0
    expired: int = 0


def targets(urls: Sequence[str]) -> list[Target]:
    """Return the targets of `DXY_ALERT_URLS`; a URL that apprise cannot read is one too, and says so when tried."""
    return [Target(f"{_kind(url)} {hashlib.sha256(url.encode()).hexdigest()[:8]}", url) for url in dict.fromkeys(urls)]


def deliver(conn: psycopg.Connection, to: Sequence[Target], now: datetime, *, budget_s: float = BUDGET_S) -> Sent:
    """Send what is due to `to` until `budget_s` seconds are over; a target that fails holds up no other.

    On an autocommit connection. Messages for targets of the past expire when nobody has tried them for a day.
    """
    urls = {target.label: target.url for target in to}
    started = time.monotonic()
    delivered = failed = 0
    with conn.cursor(row_factory=dict_row) as cur:
        gone = cur.execute(load("alerts/expire_deliveries"), {"labels": list(urls), "now": now}).fetchall()
        while urls and time.monotonic() - started < budget_s:
            row = cur.execute(load("alerts/claim_delivery"), {"labels": list(urls), "now": now}).fetchone()
            if row is None:
                break
            kind = "success" if row["event"] == "resolved" else "failure" if row["severity"] == "ERROR" else "warning"
            error = send(urls[row["target"]], row["title"], row["body"], kind, deadline_s=DEADLINE_S)
            cur.execute(load("alerts/record_attempt"), {**row, "error": error, "now": now})
            if error is None:
                delivered += 1
            else:
                failed += 1
                del urls[row["target"]]  # its other messages would fail as slowly
    return Sent(delivered, failed, len(gone))


def send(url: str, title: str, body: str, kind: str = "info", *, deadline_s: float = DEADLINE_S) -> str | None:
    """Send one message within `deadline_s` seconds, whatever the service does.

    Returns None, or in a few words why not; never raises, never quotes the URL.
    """
    command = [sys.executable, "-m", "dxy_pipeline.alerts.messenger"]
    message = json.dumps({"url": url, "title": title, "body": body, "kind": kind})
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
        ) as messenger:  # fmt: skip
            try:
                answer, _ = messenger.communicate(message, timeout=deadline_s)
            except BaseException as error:  # with a Ctrl-C it must not stay behind either
                with suppress(ProcessLookupError):
                    os.killpg(messenger.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    return f"not accepted within {deadline_s:.0f} seconds"
                raise
        return json.loads(answer.rstrip().rpartition("\n")[2])
    except (OSError, ValueError) as error:
        return f"failed: {type(error).__name__}"


def _kind(url: str) -> str:
    scheme = url.partition("://")[0].lower()
    return scheme if re.fullmatch(r"[a-z0-9]{2,12}", scheme) and "://" in url else "unreadable"
