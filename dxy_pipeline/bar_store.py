"""Writes of bars, and the days that wait for one. What is stored is read by `bar_reads`.

Writes are one transaction per unit (a batch of FX bars; a calendar month of a derivation) and idempotent, so that a
killed run is repeated, never repaired. Every connection is psycopg 3; times are aware UTC, ranges half-open.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from dxy_pipeline.core.bars import Rejected
from dxy_pipeline.errors import DxyError, UserError
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline.sql import load, trusted

ROLLUP_TIMEFRAMES = ("5m", "1h")
SETTLE = timedelta(seconds=90)
_RETRYABLE = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)


class ContractViolation(DxyError):
    """A post-condition of a write failed (hard limits, count-match, double counting): nothing was committed."""


class _Counts:
    """Row counts that add up field by field, so that chunks of one job can be summed."""

    def __add__(self, other: Self) -> Self:
        """Return the field-wise sum."""
        mine: Any = self
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(mine)))


@dataclass(frozen=True)
class WriteResult(_Counts):
    """What became of a batch: rows per outcome. `outranked` rows kept the value of a better source."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    outranked: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class DeriveResult(_Counts):
    """What a derivation changed, in minutes; `skipped_incomplete` minutes lack a pair, `deleted` ones lost one."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    skipped_incomplete: int = 0


@dataclass(frozen=True)
class RollUpResult(_Counts):
    """What a roll-up changed, in bars; `deleted` are soft-deleted, `revived` came back."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    revived: int = 0


@dataclass(frozen=True)
class TouchedDay:
    """A UTC day with changed inputs: the newest log row, how many minutes, and which timeframes wait."""

    day: date
    high_water: int
    minutes: int
    first_ts: datetime
    last_ts: datetime
    targets: list[str]


def write_fx(conn: psycopg.Connection, source_name: str, feed: str, batch: Batch) -> WriteResult:
    """Store one batch of checked FX bars and its refused rows, in one transaction.

    `source_name` goes to data_bars.source, `feed` to raw.feed; a better-ranked stored row is kept. Raises UserError for
    simulated bars on a database that this project's demo did not create. Deadlocks with other writers of the same bars,
    whose order is their own, and lost races are tried again.
    """
    if feed == "simulated":
        require_simulation_allowed(conn)
    bars = batch.rows
    values: dict[str, object] = {
        "symbol": [b.symbol for b in bars],
        "ts_utc": [b.ts_utc for b in bars],
        "open": [b.open for b in bars],
        "high": [b.high for b in bars],
        "low": [b.low for b in bars],
        "close": [b.close for b in bars],
        "vol": [b.volume for b in bars],
        "vwap": [b.vwap for b in bars],
        "trade_count": [b.trade_count for b in bars],
        "source": source_name,
        "raw": Jsonb({"feed": feed}),
    }
    for attempt in _retrying():
        with attempt, conn.transaction():
            _write_rejected(conn, source_name, batch.rejected)
            row = conn.execute(_write_statement(conn), values).fetchone() if bars else None
            inserted, updated, unchanged, outranked, _ = row or (0, 0, 0, 0, 0)
            return WriteResult(inserted, updated, unchanged, outranked, len(batch.rejected))
    raise AssertionError("unreachable: Retrying re-raises")


def require_simulation_allowed(conn: psycopg.Connection) -> None:
    """Raise UserError unless this database was created for simulated bars (by `dxy demo` or `dxy up`)."""
    row = conn.execute("SELECT s.value ->> 'created_by' FROM dxy.setting AS s WHERE s.key = 'origin'").fetchone()
    if row is None or row[0] not in {"demo", "up"}:
        raise UserError(
            "simulated bars are only written to a database that the demo created itself",
            hint="unset DATABASE_URL to use the embedded server, or choose another source",
        )


def mark_created_by(conn: psycopg.Connection, creator: str) -> None:
    """Record that this project made the database itself (`demo`, `up`), which allows simulated bars."""
    conn.execute(
        "INSERT INTO dxy.setting (key, value) VALUES ('origin', %s) ON CONFLICT (key) DO NOTHING",
        (Jsonb({"created_by": creator}),),
    )


def _write_rejected(conn: psycopg.Connection, source_name: str, rejected: Sequence[Rejected]) -> None:
    if rejected:
        conn.cursor().executemany(
            load("queries/reject"),
            [
                {
                    "source_name": source_name,
                    "location": r.location,
                    "symbol": r.symbol,
                    "ts": r.ts,
                    "reason": str(r.reason),
                    "payload": Jsonb(dict(r.payload)),
                }
                for r in rejected
            ],
        )


def _write_statement(conn: psycopg.Connection) -> sql.Composed:
    """The upsert, with provider_ticker where the desk's table has that column (it demands it for massive_api)."""
    has_ticker = conn.execute(
        "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = 'public.data_bars'::regclass"
        " AND attname = 'provider_ticker' AND NOT attisdropped"
    ).fetchone()
    columns, ticker = (", provider_ticker", ", 'C:' || j.symbol") if has_ticker else ("", "")
    return sql.SQL(load("queries/write_fx")).format(extra_columns=sql.SQL(columns), extra_values=sql.SQL(ticker))


def derive(conn: psycopg.Connection, start: datetime, end: datetime, derivation_version: int = 1) -> DeriveResult:
    """Make data_bars hold exactly the DXY 1m bars of [start, end); one transaction per calendar month.

    Forgets the touched minutes it covers in the same transaction. Raises ContractViolation when the function refuses
    (bad range, hard limits, migration state); deadlocks and lost races are tried again.
    """
    total = DeriveResult()
    for chunk_start, chunk_end in _months(start, end):
        envelope = _write_range(
            conn,
            "1m",
            "SELECT public.calc_dxy_range_1m(%(start)s, %(end)s, %(version)s)",
            {"start": chunk_start, "end": chunk_end, "version": derivation_version},
        )
        total += DeriveResult(**{f.name: envelope[f.name] for f in fields(DeriveResult)})
    return total


def roll_up(
    conn: psycopg.Connection, timeframe: str, start: datetime, end: datetime, now: datetime, derivation_version: int = 1
) -> RollUpResult:
    """Make derived_data_bars hold exactly the DXY bars of `timeframe` ('5m', '1h') over [start, end).

    `now` decides which buckets are still partial. Transactions, touched minutes and errors as in `derive`.
    """
    if timeframe not in ROLLUP_TIMEFRAMES:
        raise UserError(f"DXY is not rolled up to {timeframe!r}", hint=f"choose one of {', '.join(ROLLUP_TIMEFRAMES)}")
    total = RollUpResult()
    for chunk_start, chunk_end in _months(start, end):
        envelope = _write_range(
            conn,
            timeframe,
            "SELECT public.calc_dxy_rollup_range(%(target)s, %(start)s, %(end)s, %(version)s, %(now)s)",
            {"start": chunk_start, "end": chunk_end, "version": derivation_version, "now": now},
        )
        total += RollUpResult(**{f.name: envelope[f.name] for f in fields(RollUpResult)})
    return total


def _write_range(conn: psycopg.Connection, target: str, call: str, values: dict[str, object]) -> dict:
    values = {**values, "target": target}
    for attempt in _retrying():
        with attempt, conn.transaction():
            conn.execute("SELECT dxy.lock_days(%(start)s, %(end)s)", values)
            conn.execute(load("queries/consume_touched"), values)
            row = conn.execute(trusted(call), values).fetchone()
            envelope = row[0] if row else {}
            if not envelope.get("success"):
                raise ContractViolation(str(envelope.get("error", "no answer")))
            return envelope
    raise AssertionError("unreachable: Retrying re-raises")


def _retrying() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(_RETRYABLE),
        stop=stop_after_attempt(6),
        wait=wait_random_exponential(0.05, 2),
        reraise=True,
    )


def _months(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut [start, end) at the turns of the month; an empty or reversed range comes back whole, for SQL to refuse.

    What a month needs stays in the server's buffers, which makes four years cost four times one.
    """
    while (turn := datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)) < end:
        yield start, turn
        start = turn
    yield start, end


def touched_days(
    conn: psycopg.Connection, now: datetime, *, settle: timedelta = SETTLE, limit: int = 100
) -> list[TouchedDay]:
    """Return days whose inputs changed more than `settle` ago and wait for a run, newest first."""
    with conn.cursor(row_factory=class_row(TouchedDay)) as cur:
        return cur.execute(load("queries/touched_days"), {"before": now - settle, "limit": limit}).fetchall()
