"""The live-load oracle: writers that never stop, all phases forward and back, and what must be true of each write.

Each writer notes every acknowledged write with the time it began and the time it was acknowledged. At the end a minute
must hold one of the values that no later write can have superseded: a write is superseded by one that began after it was
acknowledged. A missing or extra minute, or an older value, is a violation.
"""

import multiprocessing as mp
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Any

import psycopg

from dxy_pipeline.migration import steps
from dxy_pipeline.migration.engine import Migration

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m'"
_NEW = "INSERT INTO public.{} AS t (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source{}) VALUES"
UPSERT_LEGACY = (
    _NEW.format("derived_data_bars", "") + " ('DXY', '1m', %(k)s, %(v)s, %(v)s, %(v)s, %(v)s, 0, 'dxy')"
    " ON CONFLICT (canonical_symbol, timeframe, ts_utc) WHERE deleted_at IS NULL DO UPDATE SET close = excluded.close"
    " RETURNING close::float8"
)
UPSERT_BARS = (
    _NEW.format("data_bars", "") + " ('DXY', '1m', %(k)s, %(v)s, %(v)s, %(v)s, %(v)s, 0, 'synthetic')"
    " ON CONFLICT (canonical_symbol, timeframe, ts_utc) DO UPDATE SET close = excluded.close RETURNING close::float8"
)
SOFT_DELETE = (
    f"UPDATE public.derived_data_bars SET deleted_at = now() WHERE {KEY} AND deleted_at IS NULL AND ts_utc = %(k)s"
    " RETURNING NULL::float8"
)
UN_DELETE = (
    "UPDATE public.derived_data_bars SET deleted_at = NULL, close = %(v)s WHERE id = (SELECT max(id)"
    f" FROM public.derived_data_bars WHERE {KEY} AND deleted_at IS NOT NULL AND ts_utc = %(k)s) AND NOT EXISTS"
    f" (SELECT FROM public.derived_data_bars WHERE {KEY} AND deleted_at IS NULL AND ts_utc = %(k)s)"
    " AND deleted_at IS NOT NULL RETURNING close::float8"
)
HARD_DELETE = f"DELETE FROM public.data_bars WHERE {KEY} AND ts_utc = %(k)s RETURNING NULL::float8"
HARD_DELETE_LEGACY = (
    f"DELETE FROM public.derived_data_bars WHERE {KEY} AND deleted_at IS NULL AND ts_utc = %(k)s RETURNING NULL::float8"
)
TOUCH_FX = (
    "UPDATE public.data_bars SET close = 1 + mod(%(v)s::bigint, 1000000) / 10000000.0 WHERE canonical_symbol = 'EURUSD'"
    " AND timeframe = '1m' AND ts_utc = %(k)s"
)
OLD_FUNCTION = "SELECT public.calc_dxy_range_derived(%(k)s, %(k)s::timestamptz + interval '1 minute')"
NEW_FUNCTION = "SELECT public.calc_dxy_range_1m(%(k)s, %(k)s::timestamptz + interval '1 minute') ->> 'success'"
RETRIED = {"40P01", "40001"}
DERIVED = 60  # from this minute on the two functions write
# name -> (is a legacy writer, the share of each operation)
WRITERS: dict[str, tuple[bool, list[str]]] = {
    "old function": (True, ["old"]),
    "new function": (False, ["new"]),
    "legacy upserts and soft deletes": (True, [UPSERT_LEGACY, UPSERT_LEGACY, SOFT_DELETE, UN_DELETE]),
    "data_bars upserts and hard deletes": (False, [UPSERT_BARS, UPSERT_BARS, HARD_DELETE]),
    "legacy upserts again": (True, [UPSERT_LEGACY, SOFT_DELETE, UN_DELETE, HARD_DELETE_LEGACY]),
}
EVERY_S = 0.15  # each of five writers; production writes one bar every three seconds at most: twenty times and more


@dataclass
class Write:
    """One acknowledged write: the value (None: deleted), when it began, when it was acknowledged."""

    legacy: bool
    minute: int
    value: float | None
    began: float
    acknowledged: float


@dataclass
class Result:
    """What the run showed."""

    writes: list[Write] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    retried: int = 0
    latencies: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    violations: list[str] = field(default_factory=list)
    longest_exclusive_ms: float = 0.0

    def p99_ms(self, baseline: bool) -> float:
        """The 99th percentile of a writer's transaction, before the migration (baseline) or during it."""
        return quantiles(self.latencies[baseline], n=100)[98] * 1000


def origin() -> datetime:
    """Where the live minutes begin: six hours ago, since the new function may only write the last two days."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=6)


def writer(url: str, name: str, start: datetime, flags: Any, queue: Any) -> None:
    """Write until told to stop. `flags`: [stop, data_bars open, legacy open, migration has begun]."""
    legacy, operations = WRITERS[name]
    seed = list(WRITERS).index(name)
    rng, writes, failed, retried = random.Random(seed), [], {}, 0
    times: dict[bool, list[float]] = {True: [], False: []}
    number = 0
    with psycopg.connect(url, application_name=f"writer:{name}") as conn:
        while not flags[0]:
            time.sleep(EVERY_S * rng.uniform(0.5, 1.5))
            if not flags[2 if legacy else 1]:
                continue
            number += 1
            minute, operation = rng.randrange(40), rng.choice(operations)
            if operation in {"old", "new"}:
                minute += DERIVED  # minutes of their own: their value comes from the FX bars
            values = {"k": start + timedelta(minutes=minute), "v": float(seed * 1_000_000 + number)}
            baseline = not flags[3]
            for _attempt in range(20):
                began = time.monotonic()
                try:
                    got = perform(conn, operation, values)
                    conn.commit()
                    acknowledged = time.monotonic()
                    times[baseline].append(acknowledged - began)
                    writes += [Write(legacy, minute, value, began, acknowledged) for (value,) in got]
                    break
                except psycopg.Error as error:
                    conn.rollback()
                    if operation == UN_DELETE and error.sqlstate == "23505":
                        break  # another legacy writer gave the minute a live row first: so it would without any mirror
                    if error.sqlstate not in RETRIED:
                        key = f"{name}: {error}"
                        failed[key] = failed.get(key, 0) + 1
                        break
                    retried += 1
    queue.put((writes, failed, retried, times))


def perform(conn: psycopg.Connection, operation: str, values: dict[str, Any]) -> list[Any]:
    """One transaction's statements; returns the values that are there afterwards, none when it did nothing."""
    if operation not in {"old", "new"}:
        return conn.execute(operation, values).fetchall()
    conn.execute(TOUCH_FX, values)
    if operation == "old":
        conn.execute(OLD_FUNCTION, values)
        query = (
            f"SELECT close::float8 FROM public.derived_data_bars WHERE {KEY} AND deleted_at IS NULL AND ts_utc = %(k)s"
        )
        return conn.execute(query, values).fetchall()
    done = conn.execute(NEW_FUNCTION, values).fetchone()
    if done is None or done[0] != "true":  # the gate: refused where the state does not allow it, nothing acknowledged
        conn.rollback()
        return []
    query = f"SELECT close::float8 FROM public.data_bars WHERE {KEY} AND ts_utc = %(k)s"
    return conn.execute(query, values).fetchall()


def watch_locks(url: str, flags: Any, queue: Any) -> None:
    """The longest time that one ACCESS EXCLUSIVE lock on a table of the desk was seen held."""
    seen: dict[tuple[Any, ...], float] = {}
    longest = 0.0
    with psycopg.connect(url, autocommit=True, application_name="watch") as conn:
        while not flags[0]:
            now = time.monotonic()
            held = {
                tuple(row)
                for row in conn.execute(
                    "SELECT pid, relation, virtualtransaction FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
                    " AND relation IN ('public.data_bars'::regclass, 'public.derived_data_bars'::regclass)"
                ).fetchall()
            }
            seen = {key: seen.get(key, now) for key in held}
            longest = max([longest, *(now - first for first in seen.values())])
            time.sleep(0.005)
    queue.put(longest * 1000)


def run(url: str, migration: Migration, seconds: float) -> Result:
    """Write for `seconds` while the migration goes forward through all phases and back, then judge."""
    start = origin()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO public.data_bars (canonical_symbol, provider_ticker, timeframe, ts_utc, open, high, low, close,"
            " vol, source) SELECT s, 'C:' || s, '1m', %s + g * interval '1 minute', 1.1, 1.1, 1.1, 1.1, 1, 'massive_api'"
            " FROM generate_series(60, 99) AS g, unnest(ARRAY['EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF'])"
            " AS s",
            (start,),
        )
    context = mp.get_context("fork")
    flags = context.Array("b", [0, 0, 1, 0])
    queue, locks = context.Queue(), context.Queue()
    processes = [context.Process(target=writer, args=(url, name, start, flags, queue)) for name in WRITERS]
    processes.append(context.Process(target=watch_locks, args=(url, flags, locks)))
    for process in processes:
        process.start()
    result = Result()
    try:
        drive(migration, flags, seconds)
    finally:
        flags[0] = 1
        for _ in WRITERS:
            writes, failed, retried, times = queue.get(timeout=60)
            result.writes += writes
            result.failed |= failed
            result.retried += retried
            for baseline, values in times.items():
                result.latencies[baseline] += values
        result.longest_exclusive_ms = locks.get(timeout=60)
        for process in processes:
            process.join(60)
    with psycopg.connect(url) as conn:
        judge(conn, start, result)
    return result


def drive(migration: Migration, flags: Any, seconds: float) -> None:
    """Forward through all phases and back, everybody writing; only what the runbook switches off stands still."""
    pause = seconds / 9

    def step(work: Callable[[], Any]) -> None:
        work()
        time.sleep(pause)

    time.sleep(2 * pause)  # the baseline: legacy writers alone
    flags[3] = 1
    step(lambda: migration.prepare(accept_native=True, options={"health_minutes": 0}))
    migration.dual_write(readers_moved=True)
    flags[1] = 1
    time.sleep(pause)
    step(migration.backfill)
    step(lambda: migration.backfill(again=True))
    assert migration.verify()["ok"]
    step(migration.cutover)
    flags[2] = 0  # the runbook: the legacy writers are switched off before the retirement
    time.sleep(0.5)
    step(migration.retire)
    roll_back(migration, flags, pause)
    time.sleep(pause)


def roll_back(migration: Migration, flags: Any, pause: float) -> None:
    """Back while both sides write: legacy from its opening on, data_bars until its mirror goes."""

    def at(step: str, _: Any) -> None:
        if step == "rollback.unretired":
            flags[2] = 1
            time.sleep(pause / 2)
        if step == "rollback.undone":  # the runbook: the new writers are switched off before the end
            flags[1] = 0
            time.sleep(0.5)

    note, migration.note = migration.note, lambda _: time.sleep(pause / 8)  # said after each batch
    steps.install(at)
    try:
        migration.rollback()
    finally:
        steps.install(None)
        migration.note = note


def judge(conn: psycopg.Connection, start: datetime, result: Result) -> None:
    """Compare with what was acknowledged: legacy, which readers use again, with every write; data_bars with its own."""
    alive = "public.derived_data_bars WHERE deleted_at IS NULL AND"
    result.violations += differing(stored(conn, alive, start), result.writes, start)
    direct = [write for write in result.writes if not write.legacy and write.minute < DERIVED]
    own = {m: v for m, v in stored(conn, "public.data_bars WHERE", start).items() if m < DERIVED}
    result.violations += [f"data_bars: {line}" for line in differing(own, direct, start)]


def stored(conn: psycopg.Connection, source: str, start: datetime) -> dict[int, float]:
    """The value of each minute from `start` on."""
    query = f"SELECT ts_utc, close::float8 FROM {source} {KEY} AND ts_utc >= %s"
    return {round((ts - start).total_seconds() / 60): value for ts, value in conn.execute(query, (start,)).fetchall()}


def differing(found: dict[int, float], writes: list[Write], start: datetime) -> list[str]:
    """Minutes that hold something else than a write which no later one can have superseded, and minutes never written."""
    by_minute: dict[int, list[Write]] = {}
    for write in writes:
        by_minute.setdefault(write.minute, []).append(write)
    lines = [f"minute {minute} was never written" for minute in found.keys() - by_minute.keys()]
    for minute, listed in sorted(by_minute.items()):
        latest_start = max(write.began for write in listed)
        allowed = {write.value for write in listed if write.acknowledged >= latest_start}
        if found.get(minute) not in allowed:
            at = start + timedelta(minutes=minute)
            lines.append(f"minute {minute} ({at:%H:%M}) holds {found.get(minute)}, allowed {sorted(map(str, allowed))}")
    return lines
