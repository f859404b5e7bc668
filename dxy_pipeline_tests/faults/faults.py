"""The faults: how each is put into a live database, which checks it must fail, and the root cause it must be given.

Each breaks real rows the way it happens: the feed stops, a bar is revised, somebody writes by hand, a run is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import psycopg

from dxy_pipeline import bar_store, live_state
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline_tests.faults.conftest import NOW, derive

MINUTE = timedelta(minutes=1)
YESTERDAY = datetime(2025, 3, 11, 13, 0, tzinfo=NOW.tzinfo)
LAST_WEEK = datetime(2025, 3, 6, 13, 0, tzinfo=NOW.tzinfo)  # far before what the minute's checks see
SILENT_PAIR = {"fx_1m.freshness", "fx_1m.components_present", "fx_1m.staleness"}
SILENT_DXY = {"dxy_1m.freshness", "dxy_1m.recent_bars", "dxy_5m.freshness"}
ROLLED = {"dxy_5m.reconciliation", "dxy_1h.reconciliation"}


@dataclass(frozen=True)
class Fault:
    """One way to break it. `rhythm` is the checks' rhythm that must notice."""

    name: str
    inject: Callable[[psycopg.Connection], None]
    checks: frozenset[str]
    cause: str
    rhythm: str = "minute"


FAULTS: list[Fault] = []


def fault(name: str, cause: str, *checks: str, rhythm: str = "minute") -> Callable:
    """Register a function that breaks a database."""

    def register(inject: Callable[[psycopg.Connection], None]) -> Callable[[psycopg.Connection], None]:
        FAULTS.append(Fault(name, inject, frozenset(checks), cause, rhythm))
        return inject

    return register


def fault_at_any_age(name: str, cause: str, *checks: str, older: str = "") -> Callable:
    """Register a function that breaks a database around a given hour: yesterday's, and last week's for the daily look.

    `older`: last week's cause where it is another one.
    """

    def register(
        inject: Callable[[psycopg.Connection, datetime], None],
    ) -> Callable[[psycopg.Connection, datetime], None]:
        fault(name, cause, *checks)(partial(inject, at=YESTERDAY))
        fault(f"{name}, a week old", older or cause, *checks, rhythm="daily")(partial(inject, at=LAST_WEEK))
        return inject

    return register


def aged(conn: psycopg.Connection, minutes: float) -> None:
    """Say that the changes just made were made so many minutes before NOW."""
    conn.execute("UPDATE dxy.touched_range SET touched_at = %s", (NOW - minutes * MINUTE,))


def drop_fx(conn: psycopg.Connection, symbols: tuple[str, ...], start: datetime, end: datetime) -> None:
    """Delete FX minutes."""
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = ANY (%s) AND timeframe = '1m' AND ts_utc >= %s"
        " AND ts_utc < %s",
        (list(symbols), start, end),
    )


def set_fx(conn: psycopg.Connection, symbol: str, start: datetime, end: datetime, price: str) -> None:
    """Give FX minutes the price that the SQL expression says, for all of open, high, low, close."""
    conn.execute(
        f"UPDATE public.data_bars SET open = {price}, high = {price}, low = {price}, close = {price}"
        " WHERE canonical_symbol = %s AND timeframe = '1m' AND ts_utc >= %s AND ts_utc < %s",
        (symbol, start, end),
    )


def set_rollup(conn: psycopg.Connection, timeframe: str, ts: datetime, change: str) -> None:
    """Change one roll-up by hand."""
    conn.execute(
        f"UPDATE public.derived_data_bars SET {change}"
        " WHERE canonical_symbol = 'DXY' AND timeframe = %s AND ts_utc = %s",
        (timeframe, ts),
    )


def silence(conn: psycopg.Connection, symbols: tuple[str, ...], minutes: int) -> None:
    """The feed of these pairs stopped so many minutes ago; the pipeline went on."""
    drop_fx(conn, symbols, NOW - minutes * MINUTE, NOW)
    derive(conn, NOW - timedelta(hours=4), NOW)


@fault_at_any_age("gap", "feed:EURUSD", "fx_1m.gaps", older="gaps")
def _gap(conn: psycopg.Connection, at: datetime) -> None:
    drop_fx(conn, ("EURUSD",), at, at + 30 * MINUTE)
    derive(conn, at - timedelta(hours=2), at + timedelta(hours=4))


@fault_at_any_age("long gap", "feed:USDJPY", "fx_1m.gaps", "dxy_1m.gaps", older="gaps")
def _long_gap(conn: psycopg.Connection, at: datetime) -> None:
    drop_fx(conn, ("USDJPY",), at, at + 90 * MINUTE)
    derive(conn, at - timedelta(hours=2), at + timedelta(hours=4))


@fault("thin pair away for 40 minutes is no fault", "")
def _thin(conn: psycopg.Connection) -> None:
    drop_fx(conn, ("USDSEK",), YESTERDAY, YESTERDAY + 40 * MINUTE)
    derive(conn, YESTERDAY - timedelta(hours=2), NOW)


@fault("missing component", "feed:EURUSD", *SILENT_PAIR, *SILENT_DXY)
def _missing_component(conn: psycopg.Connection) -> None:
    silence(conn, ("EURUSD",), 13)


@fault("feed down", "feed", *SILENT_PAIR, *SILENT_DXY)
def _feed_down(conn: psycopg.Connection) -> None:
    silence(conn, SYMBOLS, 17)


@fault("two hours without feed", "feed", *SILENT_PAIR, *SILENT_DXY, "dxy_1h.freshness", "fx_1m.gaps", "dxy_1m.gaps")
def _feed_down_long(conn: psycopg.Connection) -> None:
    silence(conn, SYMBOLS, 180)


@fault("source refuses", "source", *SILENT_PAIR, *SILENT_DXY, "fx_1m.source_state")
def _source_refuses(conn: psycopg.Connection) -> None:
    silence(conn, SYMBOLS, 17)
    conn.execute(
        "UPDATE dxy.feed_progress SET state = 'refused', detail = 'the plan is too slow', fetched_until = %s",
        (NOW - 17 * MINUTE,),
    )


@fault("source refuses after another one was used", "source", *SILENT_PAIR, *SILENT_DXY, "fx_1m.source_state")
def _other_source_refuses(conn: psycopg.Connection) -> None:
    silence(conn, SYMBOLS, 17)
    conn.execute("UPDATE dxy.feed_progress SET fetched_until = %s", (NOW - 17 * MINUTE,))  # ok until it was replaced
    live_state.note(conn, "massive", NOW - timedelta(days=3), "refused", "the plan is too slow")


@fault("daily checks dead", "daily checks", "fx_1m.scheduler")
def _no_daily_checks(conn: psycopg.Connection) -> None:
    conn.execute("UPDATE dxy.heartbeat SET beat_at = %s WHERE name = 'daily checks'", (NOW - timedelta(hours=37),))


@fault("dead scheduler", "scheduler", *SILENT_PAIR, *SILENT_DXY, "fx_1m.scheduler")
def _dead_scheduler(conn: psycopg.Connection) -> None:
    silence(conn, SYMBOLS, 17)
    conn.execute("UPDATE dxy.feed_progress SET fetched_until = %s", (NOW - 17 * MINUTE,))
    conn.execute("UPDATE dxy.heartbeat SET beat_at = %s WHERE name = 'monitoring'", (NOW - 17 * MINUTE,))


@fault("dead derivation", "derivation", *SILENT_DXY, "dxy_1m.count_match", "dxy_1m.late_data")
def _dead_derivation(conn: psycopg.Connection) -> None:
    since = NOW - 17 * MINUTE
    conn.execute("DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc >= %s", (since,))
    for timeframe in bar_store.ROLLUP_TIMEFRAMES:
        bar_store.roll_up(conn, timeframe, NOW - timedelta(hours=4), NOW, NOW)
    conn.execute(
        "INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes, touched_at)"
        " VALUES ('1m', %s, %s, %s, 17, %s)",
        (NOW.date(), since, NOW, since),
    )


@fault_at_any_age("flat line", "flat:EURUSD", "fx_1m.flat_line")
def _flat_line(conn: psycopg.Connection, at: datetime) -> None:
    frozen = (
        "(SELECT x.close FROM public.data_bars AS x WHERE x.canonical_symbol = 'EURUSD' AND x.timeframe = '1m'"
        f" AND x.ts_utc = '{at:%Y-%m-%d %H:%M}Z')"
    )
    set_fx(conn, "EURUSD", at, at + 60 * MINUTE, frozen)
    derive(conn, at - timedelta(hours=2), at + timedelta(hours=4))


@fault_at_any_age("spike", "spike:EURUSD", "fx_1m.outliers", "dxy_1m.outliers")
def _spike(conn: psycopg.Connection, at: datetime) -> None:
    set_fx(conn, "EURUSD", at, at + MINUTE, "close * 1.02")
    derive(conn, at - timedelta(hours=2), at + timedelta(hours=4))


@fault_at_any_age("spike out of the band", "spike:EURUSD", "fx_1m.outliers", "dxy_1m.outliers", "dxy_1m.price_band",
       "dxy_5m.price_band", "dxy_1h.price_band")  # fmt: skip
def _big_spike(conn: psycopg.Connection, at: datetime) -> None:
    last = at + 59 * MINUTE  # the close of its 5m and its 1h too
    set_fx(conn, "EURUSD", last, last + MINUTE, "close / 1.5")
    derive(conn, at - timedelta(hours=2), at + timedelta(hours=4))


@fault_at_any_age("broken FX bar", "bad bar:GBPUSD", "fx_1m.prices_valid", "dxy_1m.count_match")
def _broken_bar(conn: psycopg.Connection, at: datetime) -> None:
    set_fx(conn, "GBPUSD", at, at + MINUTE, "NULL")
    aged(conn, 6)


@fault("external writer off the minute", "malformed bars", "fx_1m.well_formed")
def _off_the_minute(conn: psycopg.Connection) -> None:
    conn.execute(
        "UPDATE public.data_bars SET ts_utc = ts_utc + interval '30 seconds' WHERE canonical_symbol = 'EURUSD'"
        " AND ts_utc = %s",
        (YESTERDAY,),
    )
    derive(conn, YESTERDAY - timedelta(hours=2), NOW)


@fault("external writer ahead of time", "malformed bars", "fx_1m.well_formed")
def _ahead(conn: psycopg.Connection) -> None:
    _stored(conn, "EURUSD", NOW.replace(second=0) + timedelta(days=3))


@fault("external writer in another case", "malformed bars", "fx_1m.well_formed")
def _other_case(conn: psycopg.Connection) -> None:
    for symbol in ("eurusd", "C:EURUSD", "USD/JPY"):
        _stored(conn, symbol, YESTERDAY)


def _stored(conn: psycopg.Connection, symbol: str, ts: datetime) -> None:
    """Another writer's bar."""
    conn.execute(
        "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " VALUES (%s, '1m', %s, 1.1, 1.1, 1.1, 1.1, 'ingest')",
        (symbol, ts),
    )


@fault("revision not derived", "late data", "dxy_1m.drift", "dxy_1m.late_data")
def _revision(conn: psycopg.Connection) -> None:
    set_fx(conn, "EURUSD", YESTERDAY, YESTERDAY + MINUTE, "close + 0.0002")
    aged(conn, 20)


@fault("deleted bar not derived", "late data", "dxy_1m.count_match", "dxy_1m.late_data")
def _deletion(conn: psycopg.Connection) -> None:
    drop_fx(conn, ("USDCAD",), YESTERDAY, YESTERDAY + MINUTE)
    aged(conn, 20)


@fault_at_any_age("DXY minute edited by hand", "dxy minutes", "dxy_1m.drift", *ROLLED)
def _edited(conn: psycopg.Connection, at: datetime) -> None:
    set_fx(conn, "DXY", at + 2 * MINUTE, at + 3 * MINUTE, "close + 0.06")
    set_fx(conn, "DXY", at + 57 * MINUTE, at + 58 * MINUTE, "close - 0.06")
    conn.execute(  # an hour whose extremes those minutes are
        "UPDATE public.data_bars SET open = close, high = close, low = close WHERE canonical_symbol = 'DXY' AND"
        " ts_utc = %s",
        (at,),
    )
    aged(conn, 6)


@fault_at_any_age(
    "DXY minute far off by hand", "dxy minutes", "dxy_1m.drift", "dxy_1m.price_band", "dxy_1m.outliers", *ROLLED
)
def _far_off(conn: psycopg.Connection, at: datetime) -> None:
    set_fx(conn, "DXY", at + 2 * MINUTE, at + 3 * MINUTE, "130")
    aged(conn, 6)


@fault_at_any_age("DXY minute deleted by hand", "dxy minutes", "dxy_1m.count_match", *ROLLED)
def _lost(conn: psycopg.Connection, at: datetime) -> None:
    conn.execute("DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (at,))
    aged(conn, 6)


@fault_at_any_age("DXY minute with broken OHLC", "dxy minutes", "dxy_1m.prices_valid", "dxy_1m.drift", *ROLLED)
def _broken_dxy(conn: psycopg.Connection, at: datetime) -> None:
    conn.execute(
        "UPDATE public.data_bars SET low = high + 1 WHERE canonical_symbol = 'DXY' AND ts_utc = %s"
        , (at + MINUTE,),
    )  # fmt: skip
    conn.execute(
        "UPDATE public.data_bars SET high = high + 2 WHERE canonical_symbol = 'DXY' AND ts_utc = %s"
        , (at + 2 * MINUTE,),
    )  # fmt: skip
    aged(conn, 6)


@fault_at_any_age("another writer's DXY minute", "dxy minutes", "dxy_1m.source_synthetic")
def _foreign(conn: psycopg.Connection, at: datetime) -> None:
    conn.execute("UPDATE public.data_bars SET source = 'ingest' WHERE canonical_symbol = 'DXY' AND ts_utc = %s",
                 (at,))  # fmt: skip


@fault_at_any_age("duplicate minutes in 5m", "double counting", "dxy_5m.double_counting", "dxy_5m.reconciliation")
def _duplicate_5m(conn: psycopg.Connection, at: datetime) -> None:
    set_rollup(conn, "5m", at, "source_candles = 2 * source_candles")


@fault_at_any_age("duplicate minutes in 1h", "double counting", "dxy_1h.double_counting", "dxy_1h.reconciliation")
def _duplicate_1h(conn: psycopg.Connection, at: datetime) -> None:
    set_rollup(conn, "1h", at, "source_candles = 2 * source_candles")


@fault_at_any_age("5m edited by hand", "roll-ups", "dxy_5m.reconciliation")
def _wrong_5m(conn: psycopg.Connection, at: datetime) -> None:
    set_rollup(conn, "5m", at, "high = high + 0.01")


@fault_at_any_age("5m with broken OHLC", "roll-ups", "dxy_5m.reconciliation", "dxy_5m.prices_valid")
def _broken_5m(conn: psycopg.Connection, at: datetime) -> None:
    set_rollup(conn, "5m", at, "low = high + 1")


@fault_at_any_age("1h with broken OHLC", "roll-ups", "dxy_1h.reconciliation", "dxy_1h.prices_valid")
def _broken_1h(conn: psycopg.Connection, at: datetime) -> None:
    set_rollup(conn, "1h", at, "low = high + 1")


@fault("orphan", "orphans", "dxy_1m.orphans_in_derived")
def _orphan(conn: psycopg.Connection) -> None:
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " VALUES ('DXY', '1m', %s, 104, 104, 104, 104, 'dxy')",
        (YESTERDAY,),
    )


@fault("orphan written and soft-deleted", "orphans", "dxy_1m.orphans_in_derived")
def _dead_orphan(conn: psycopg.Connection) -> None:
    _orphan(conn)
    conn.execute("UPDATE public.derived_data_bars SET deleted_at = now() WHERE timeframe = '1m'")


@fault("function edited by hand", "schema", "dxy_1m.schema_contract")
def _hand_edited(conn: psycopg.Connection) -> None:
    conn.execute(
        "CREATE OR REPLACE FUNCTION dxy.lock_days(p_from_utc timestamptz, p_to_utc timestamptz) RETURNS void"
        " LANGUAGE sql AS 'SELECT NULL::void'"
    )


@fault("touch trigger disabled", "schema", "dxy_1m.schema_contract")
def _no_trigger(conn: psycopg.Connection) -> None:
    conn.execute("ALTER TABLE public.data_bars DISABLE TRIGGER dxy_touch_update")


@fault("key index dropped", "schema", "dxy_1m.schema_contract")
def _no_key(conn: psycopg.Connection) -> None:
    conn.execute("DROP INDEX public.data_bars_unique_idx")
    conn.execute("CREATE INDEX ON public.data_bars (canonical_symbol, timeframe, ts_utc)")


@fault("function open to everybody", "schema", "dxy_1m.schema_contract")
def _granted(conn: psycopg.Connection) -> None:
    conn.execute("GRANT EXECUTE ON FUNCTION public.calc_dxy_range_1m(timestamptz, timestamptz, integer) TO PUBLIC")


@fault("migrated bar with another open, high and low", "dxy minutes", "dxy_1m.migration_count_match", "dxy_1m.drift",
       *ROLLED)  # fmt: skip
def _unequal_prices(conn: psycopg.Connection) -> None:
    conn.execute("UPDATE dxy.migration_control SET state = 'cut_over'")
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " SELECT 'DXY', '1m', ts_utc, open, high, low, close, 'dxy' FROM public.data_bars"
        " WHERE canonical_symbol = 'DXY' AND ts_utc = %s",
        (YESTERDAY,),
    )
    conn.execute(
        """UPDATE public.data_bars SET raw = raw || '{"migrated_from": "derived_data_bars"}', open = open + 0.5,"""
        " high = high + 0.9, low = low - 3 WHERE canonical_symbol = 'DXY' AND ts_utc = %s",
        (YESTERDAY,),
    )
    aged(conn, 6)


@fault("legacy bar with another low", "migration", "dxy_1m.migration_count_match")
def _unequal_legacy(conn: psycopg.Connection) -> None:
    conn.execute("UPDATE dxy.migration_control SET state = 'cut_over'")
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " SELECT 'DXY', '1m', ts_utc, open, high, low - 0.01, close, 'dxy' FROM public.data_bars"
        " WHERE canonical_symbol = 'DXY' AND ts_utc = %s",
        (YESTERDAY,),
    )


@fault("another symbol's minutes in derived after the migration", "orphans", "dxy_1m.orphans_in_derived")
def _foreign_orphan(conn: psycopg.Connection) -> None:
    conn.execute("UPDATE dxy.migration_control SET state = 'retired'")
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " VALUES ('EURUSD', '1m', %s, 1, 1, 1, 1, 'agg')",
        (YESTERDAY,),
    )


@fault("legacy bar without its equal", "migration", "dxy_1m.migration_count_match")
def _unequal(conn: psycopg.Connection) -> None:
    conn.execute("UPDATE dxy.migration_control SET state = 'cut_over'")
    _orphan(conn)


@fault("FX minute of last week revised past the triggers", "dxy minutes", "dxy_1m.drift", rhythm="daily")
def _revised_unseen(conn: psycopg.Connection) -> None:
    set_fx(conn, "EURUSD", LAST_WEEK, LAST_WEEK + MINUTE, "close + 0.0002")
    conn.execute("DELETE FROM dxy.touched_range")


@fault("history lost", "history", "dxy_1m.completeness", "fx_1m.gaps", "dxy_1m.gaps", rhythm="daily")
def _history(conn: psycopg.Connection) -> None:
    # Five pairs went with it: nothing is left that DXY could be recomputed from.
    drop_fx(conn, (*SYMBOLS[1:], "DXY"), NOW - timedelta(days=20), NOW - timedelta(days=5))
    derive(conn, NOW - timedelta(days=20), NOW)
