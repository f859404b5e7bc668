"""What must hold at the end of a soak: every stored bar against an independent recomputation in plain Python.

The truth is the simulated feed itself with the desk's edits laid over it; index and roll-ups are made of it here by the
contract's rules, without a line of the SQL under test.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import psycopg

from dxy_pipeline.checks import engine
from dxy_pipeline.core.bars import Bar, RejectReason, Timeframe, floor_to
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.fx_week import open_minutes
from dxy_pipeline.core.index import SYMBOLS, index_price
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.receiver import Receiver
from dxy_pipeline_tests.soak.plan import END, MARKET_DAYS, START
from dxy_pipeline_tests.soak.stack import Stack, graphql

Key = tuple[str, datetime]
Book = Mapping[Key, Bar | None]
# What time going by faster than any pipeline looks like, and what was done to it; nothing of wrong stored values.
EXPECTED_CAUSES = {"scheduler", "source", "feed", "derivation", "late data", "monitoring"}
OUTAGE = "source"
EXPECTED_REFUSALS = {RejectReason.FUTURE.value, RejectReason.DUPLICATE_KEY.value}
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
HALF_A_DECIMAL = 1.01e-8

# A first guess that was put right leaves the old bar as a revision, and what replaced it is what is stored.
REVISIONS = """
    SELECT count(*), count(*) FILTER (WHERE r.new IS NOT NULL AND (r.new ->> 'close')::numeric IS DISTINCT FROM d.close)
    FROM (SELECT DISTINCT ON (v.ts_utc) v.ts_utc, v.new FROM dxy.bar_revision AS v
          WHERE v.timeframe = '1m' AND v.ts_utc >= %(start)s AND v.ts_utc < %(end)s ORDER BY v.ts_utc, v.id DESC) AS r
    LEFT JOIN public.data_bars AS d
        ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = r.ts_utc
"""


@dataclass(frozen=True)
class Row:
    """One line of the verdict."""

    what: str
    found: str
    must: str
    passed: bool


def feed_truth() -> dict[Key, Bar]:
    """Return the bars that the feed has to say about the span, by pair and minute."""
    source = SimulatedSource(FixedClock(END))
    return {(b.symbol, b.ts_utc): b for batch in source.bars(SYMBOLS, START, END) for b in batch.rows}


def compared(what: str, stored: Mapping[Any, tuple], truth: Mapping[Any, tuple]) -> Row:
    """Compare two tables by key and by value."""
    missing, extra = truth.keys() - stored.keys(), stored.keys() - truth.keys()
    wrong = [key for key in truth.keys() & stored.keys() if not _same(stored[key], truth[key])]
    words = f"{len(stored):,} stored, {len(missing)} missing, {len(extra)} extra, {len(wrong)} different"
    if examples := [*sorted(missing)[:1], *sorted(extra)[:1], *sorted(wrong)[:1]]:
        words += f"; such as {examples[0]}: {stored.get(examples[0])} for {truth.get(examples[0])}"
    return Row(what, words, "all, and no other", bool(truth) and not (missing or extra or wrong))


def _same(a: tuple, b: tuple) -> bool:
    return all(abs(x - y) < HALF_A_DECIMAL if isinstance(x, float) else x == y for x, y in zip(a, b, strict=True))


def bars(
    conn: psycopg.Connection, feed: Mapping[Key, Bar], book: Mapping[Key, Bar | None], final_at: datetime
) -> list[Row]:
    """Judge every FX minute, every DXY minute and every roll-up of the span."""
    edited = {**feed, **book}
    truth = {key: bar for key, bar in edited.items() if bar is not None}
    stored = conn.execute(
        "SELECT canonical_symbol, ts_utc, open::float8, high::float8, low::float8, close::float8"
        " FROM public.data_bars WHERE timeframe = '1m' AND ts_utc >= %s AND ts_utc < %s",
        (START, END),
    ).fetchall()
    fx = {row[:2]: row[2:] for row in stored if row[0] != "DXY"}
    dxy = {row[1]: row[2:] for row in stored if row[0] == "DXY"}
    minutes: dict[datetime, dict[str, float]] = defaultdict(dict)
    for (symbol, ts), bar in truth.items():
        minutes[ts][symbol] = bar.close
    price = {ts: index_price(rates) for ts, rates in sorted(minutes.items()) if len(rates) == len(SYMBOLS)}
    days = {ts.date() for ts in price if ts.weekday() < 5}
    return [
        Row("market days", str(len(days)), str(MARKET_DAYS), len(days) == MARKET_DAYS),
        compared("FX 1m = what the feed says", fx, {key: (b.open, b.high, b.low, b.close) for key, b in truth.items()}),
        compared("DXY 1m = recomputed", dxy, {ts: (p,) * 4 for ts, p in price.items()}),
        *(_rolled(conn, timeframe, price, final_at) for timeframe in (Timeframe.M5, Timeframe.H1)),
    ]


def _rolled(conn: psycopg.Connection, timeframe: Timeframe, price: Mapping[datetime, float], at: datetime) -> Row:
    truth = {}
    for start, group in groupby(price.items(), key=lambda item: floor_to(item[0], timeframe)):
        closes = [close for _, close in group]
        expected = open_minutes(start, start + timeframe.delta)
        if 10 * len(closes) >= 6 * expected:
            partial = start + timeframe.delta + timedelta(seconds=90) > at
            truth[start] = (closes[0], max(closes), min(closes), closes[-1], len(closes), expected, partial)
    rows = conn.execute(
        "SELECT ts_utc, open::float8, high::float8, low::float8, close::float8, source_candles, expected_candles,"
        " is_partial FROM public.derived_data_bars WHERE canonical_symbol = 'DXY' AND timeframe = %s"
        " AND deleted_at IS NULL AND ts_utc >= %s AND ts_utc < %s",
        (timeframe.value, START, END),
    ).fetchall()
    return compared(f"DXY {timeframe} = recomputed", {row[0]: row[1:] for row in rows}, truth)


def records(conn: psycopg.Connection, now: datetime) -> list[Row]:
    """Judge what stands beside the bars: refusals, the log of touched minutes, the checks over the whole span.

    Market time may have gone on behind the span, up to `now`: which bars lie in the future is asked of that.
    """
    reasons = Counter(dict(conn.execute("SELECT reason, count(*) FROM dxy.rejected_bar GROUP BY 1").fetchall()))
    waiting = conn.execute("SELECT count(*) FROM dxy.touched_range WHERE last_ts < %s", (END,)).fetchone()
    revised, astray = conn.execute(REVISIONS, {"start": START, "end": END}).fetchone() or (0, 0)
    results = [r for r in engine.run_checks(conn, END, rhythm="daily") if r.name != "well_formed"]
    results += engine.run_checks(conn, now, only={"well_formed"}, rhythm="daily")
    failed = [f"{r.key}: {r.description}" for r in results if not r.passed]
    said = f"{len(results)} checks, {len(failed)} failed {'; '.join(failed)}"
    return [
        Row("refused rows", ", ".join(f"{n} {r}" for r, n in reasons.items()), "duplicates and bars of the future",
            set(reasons) == EXPECTED_REFUSALS),
        Row("revised DXY minutes", f"{revised}, {astray} with another bar than the newest revision", "some, each as stored",
            revised > 0 and astray == 0),
        Row("touched minutes that wait", str(waiting and waiting[0]), "0", waiting == (0,)),
        Row("checks over the whole span", said, "none fails", bool(results) and not failed),
    ]  # fmt: skip


def runs(stack: Stack) -> list[Row]:
    """Judge Dagster's runs: none that does not end, no planned check row left behind by a run that ended."""
    with stack.connect("dagster") as conn:
        states = Counter(dict(conn.execute("SELECT status, count(*) FROM runs GROUP BY 1").fetchall()))
        planned = conn.execute(
            "SELECT count(*) FROM asset_check_executions AS c JOIN runs AS r USING (run_id)"
            " WHERE c.execution_status = 'PLANNED' AND r.status IN ('SUCCESS', 'FAILURE', 'CANCELED')"
        ).fetchone()
    stuck = sum(count for state, count in states.items() if state not in ENDED)
    shown = ", ".join(f"{count} {state.lower()}" for state, count in states.most_common())
    return [
        Row("stuck runs", f"{stuck} of {shown}", "0", bool(states) and stuck == 0),
        Row("check rows left planned", str(planned and planned[0]), "0", planned == (0,)),
    ]


def alerts(stack: Stack, receiver: Receiver) -> list[Row]:
    """Judge the incidents: only causes of what was done, each told when it fired and when it was over, none open."""
    told_by = "SELECT event, count(*), count(delivered_at) FROM dxy.alert_delivery GROUP BY 1"
    with stack.connect() as conn:
        incidents = conn.execute("SELECT cause, state, fired_at IS NOT NULL FROM dxy.incident").fetchall()
        told = {event: (queued, delivered) for event, queued, delivered in conn.execute(told_by).fetchall()}
    fired = Counter(cause for cause, _, was_told in incidents if was_told)
    strange = sorted(c for c in fired if c not in EXPECTED_CAUSES and not c.startswith("feed:"))
    open_now = sorted(cause for cause, state, _ in incidents if state in {"pending", "firing"})
    total = sum(fired.values())
    arrived = Counter(title.split()[1].rstrip(":") for title in receiver.titles)
    complete = (
        told == {"firing": (total, total), "resolved": (total, total)} and min(arrived.values(), default=0) >= total
    )
    return [
        Row(
            "incidents",
            ", ".join(f"{n} {c}" for c, n in fired.items()),
            "the feed's outage, and nothing that was not done",
            OUTAGE in fired and not strange,
        ),
        Row("incidents still open", ", ".join(open_now) or "none", "none", not open_now),
        Row("messages that arrived", str(dict(arrived)), "one firing, one resolved each", complete),
    ]


def memory(stack: Stack, least_life: float) -> list[Row]:
    """Judge the services' memory: what lived long enough must not have grown by more than a fifth and 40 MiB."""
    rows = []
    for role, (early, late) in sorted(stack.growth(least_life).items()):
        flat = late - early <= max(0.2 * early, 40)
        rows.append(
            Row(f"memory of {role}", f"{early:.0f} → {late:.0f} MiB", "flat, under 600 MiB", flat and late < 600)
        )
    return rows or [Row("memory", "no process lived long enough", "measured", False)]


def user_interface(stack: Stack) -> Row:
    """Judge the webserver: it answers a question."""
    said = "no"
    with suppress(OSError, KeyError):
        said = graphql(stack, "{version}")["version"]
    return Row("UI answers", said, "its version", said != "no")
