"""The databases the project must run on, built as their desks have them: S (the seed's shape) and P (production-like).

`build_shape_s(conn)` and `build_shape_p(conn)` take an autocommit connection to an empty database and return a `Built`
that says what is in it. Both hold FX minutes of three market days, legacy DXY 1m rows for part of them (derivable
ones, and some whose inputs were never stored), dead legacy rows, native DXY rows in data_bars, and rows of others.
Nothing of ours is installed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from dxy_pipeline.core.index import COMPONENTS
from dxy_pipeline.db.constants import sql_constants

START = datetime(2024, 6, 10, tzinfo=UTC)  # a Monday
DAYS = 3
RATES = {"EURUSD": 1.08, "USDJPY": 150.0, "GBPUSD": 1.27, "USDCAD": 1.36, "USDSEK": 10.5, "USDCHF": 0.9}

_S_TABLES = """
CREATE TABLE public.data_bars (
    canonical_symbol text NOT NULL, timeframe text NOT NULL, ts_utc timestamptz NOT NULL,
    open numeric(20,8), high numeric(20,8), low numeric(20,8), close numeric(20,8),
    vol numeric(28,8), vwap numeric(20,8), trade_count integer, is_partial boolean NOT NULL DEFAULT false,
    source text NOT NULL, ingested_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT {check_name} CHECK (source IN ('massive_api', 'ingest')));
CREATE UNIQUE INDEX data_bars_unique_idx ON public.data_bars (canonical_symbol, timeframe, ts_utc);
CREATE TABLE public.derived_data_bars (
    canonical_symbol text NOT NULL, timeframe text NOT NULL, ts_utc timestamptz NOT NULL,
    open numeric(20,8), high numeric(20,8), low numeric(20,8), close numeric(20,8),
    vol numeric(28,8), vwap numeric(20,8), trade_count integer, is_partial boolean DEFAULT false,
    ingested_at timestamptz DEFAULT now(), raw jsonb DEFAULT '{{}}',
    deleted_at timestamptz, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
CREATE UNIQUE INDEX derived_data_bars_key ON public.derived_data_bars (canonical_symbol, timeframe, ts_utc){where};
CREATE TABLE public.core_asset_registry_all (
    canonical_symbol text PRIMARY KEY, asset_class text NOT NULL, description text, active boolean NOT NULL,
    test_active boolean NOT NULL, metadata jsonb, created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now());
INSERT INTO public.core_asset_registry_all (canonical_symbol, asset_class, active, test_active, metadata)
VALUES ('EURUSD', 'fx', true, true, '{{}}'), ('DXY', 'index', true, false, '{{"desk": "note"}}');
"""

_P_TABLES = """
CREATE TABLE public.core_asset_registry_all (
    canonical_symbol text PRIMARY KEY, provider_ticker text, asset_class text NOT NULL, source text NOT NULL,
    active boolean NOT NULL DEFAULT true, test_active boolean NOT NULL DEFAULT true, base_timeframe text,
    expected_update_seconds integer, notes text, created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now());
INSERT INTO public.core_asset_registry_all (canonical_symbol, provider_ticker, asset_class, source, base_timeframe)
SELECT s, 'C:' || s, 'fx', 'massive_api', '1m'
FROM unnest(ARRAY['EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF', 'XAUUSD']) AS s
UNION ALL SELECT 'DXY', NULL, 'index', 'dxy', '1m';
CREATE TABLE public.data_bars (
    id bigserial PRIMARY KEY,
    canonical_symbol text NOT NULL REFERENCES public.core_asset_registry_all (canonical_symbol),
    provider_ticker text, timeframe text NOT NULL CHECK (timeframe IN ('1m', '5m', '1h', '4h', '1d', '1w')),
    ts_utc timestamptz NOT NULL, open double precision, high double precision, low double precision,
    close double precision, vol double precision, vwap double precision, trade_count integer,
    is_partial boolean NOT NULL DEFAULT false, source text NOT NULL, ingested_at timestamptz NOT NULL DEFAULT now(),
    raw jsonb NOT NULL DEFAULT '{}',
    UNIQUE (canonical_symbol, timeframe, ts_utc),
    CONSTRAINT ticker_of_massive CHECK (source <> 'massive_api' OR provider_ticker IS NOT NULL));
CREATE TABLE public.derived_data_bars (
    id bigserial PRIMARY KEY, canonical_symbol text NOT NULL, timeframe text NOT NULL, ts_utc timestamptz NOT NULL,
    open double precision NOT NULL, high double precision NOT NULL, low double precision NOT NULL,
    close double precision NOT NULL, vol double precision, vwap double precision, trade_count integer,
    is_partial boolean NOT NULL DEFAULT false, source text NOT NULL DEFAULT 'agg',
    ingested_at timestamptz NOT NULL DEFAULT now(), source_timeframe text, source_candles integer,
    expected_candles integer, quality_score integer CHECK (quality_score BETWEEN 0 AND 2),
    derivation_version integer NOT NULL DEFAULT 1, deleted_at timestamptz, raw jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE UNIQUE INDEX derived_active_key ON public.derived_data_bars (canonical_symbol, timeframe, ts_utc)
    WHERE deleted_at IS NULL;
CREATE FUNCTION public.touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
CREATE TRIGGER trg_touch BEFORE UPDATE ON public.derived_data_bars
    FOR EACH ROW EXECUTE FUNCTION public.touch_updated_at();
ALTER TABLE public.derived_data_bars ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.data_bars, public.derived_data_bars, public.core_asset_registry_all FROM PUBLIC;
"""

_P_FUNCTION = """
CREATE FUNCTION public.calc_dxy_range_derived(
    p_from_utc timestamptz, p_to_utc timestamptz, p_tf text DEFAULT '1m', p_derivation_version integer DEFAULT 1)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF p_tf <> '1m' THEN
        RAISE EXCEPTION 'only 1m';
    END IF;
    INSERT INTO public.derived_data_bars AS l (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol,
        trade_count, source, source_timeframe, source_candles, expected_candles, quality_score, derivation_version, raw)
    SELECT 'DXY', '1m', m.ts_utc, m.price, m.price, m.price, m.price, 0, 0, 'dxy', '1m', 6, 6, 2, p_derivation_version,
        '{{"kind": "dxy", "formula": "standard"}}'
    FROM (SELECT b.ts_utc, round(({base} * exp({log_sum}))::numeric, 8) AS price
          FROM (SELECT d.ts_utc, {pivot} FROM public.data_bars AS d
                WHERE d.timeframe = '1m' AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc GROUP BY d.ts_utc) AS b) AS m
    WHERE m.price IS NOT NULL
    ON CONFLICT (canonical_symbol, timeframe, ts_utc) WHERE deleted_at IS NULL DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, raw = excluded.raw;
    RETURN jsonb_build_object('success', true);
END $$
"""

_FX = """
INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source{more})
SELECT r.symbol, '1m', t.ts, x.price, x.price, x.price, x.price, 10, 3, {source}{values}
FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 minute', '1 minute') AS t (ts)
CROSS JOIN (VALUES {rates}) AS r (symbol, rate)
CROSS JOIN LATERAL (SELECT round((r.rate * (1 + 0.01 * sin(extract(epoch FROM t.ts) / 7777 + length(r.symbol) * r.rate)))
    ::numeric, 5) AS price) AS x
WHERE NOT (extract(minute FROM t.ts) = 7 AND r.symbol = 'USDSEK')
"""

# What calc_dxy_range_derived of such a desk wrote; half of the third day was never derived.
_LEGACY = """
INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
    is_partial, ingested_at, raw, created_at, updated_at{more})
SELECT 'DXY', '1m', m.ts_utc, m.price, m.price, m.price, m.price, 0, NULL, 0, false, m.ts_utc + interval '63 seconds',
    '{{"kind": "dxy", "formula": "standard"}}', m.ts_utc + interval '64 seconds',
    m.ts_utc + interval '65.123456 seconds'{values}
FROM (
    SELECT b.ts_utc, round(({base} * exp({log_sum}))::numeric, 8) AS price
    FROM (
        SELECT d.ts_utc, {pivot}
        FROM public.data_bars AS d WHERE d.timeframe = '1m' GROUP BY d.ts_utc
    ) AS b
) AS m
WHERE m.price IS NOT NULL AND m.ts_utc < %(until)s AND extract(hour FROM m.ts_utc AT TIME ZONE 'UTC') < %(hours)s
"""


@dataclass(frozen=True)
class Built:
    """What a shape holds: its name, its FX range, and how many legacy rows are alive."""

    shape: str
    start: datetime
    end: datetime
    legacy_active: int


def build_shape_s(
    conn: psycopg.Connection,
    *,
    days: int = DAYS,
    hours: int = 3,
    natives: bool = True,
    partial_index: bool = True,
    check_name: str = "data_bars_source_check",
) -> Built:
    """Build the seed's shape. `hours` of each day have FX bars; `partial_index`: the legacy key is unique only alive.

    Without it the key is unique over dead rows too, so there is at most one dead row where none is alive.
    """
    where = " WHERE deleted_at IS NULL" if partial_index else ""
    conn.execute(_S_TABLES.format(where=where, check_name=check_name))
    return _fill(conn, "S", days, hours, natives=natives, several_dead=partial_index)


def build_shape_p(conn: psycopg.Connection, *, days: int = DAYS, hours: int = 3, natives: bool = True) -> Built:
    """Build the production-like shape: float8 prices, ids, row security, a touch trigger, a foreign key."""
    conn.execute(_P_TABLES)
    conn.execute(_P_FUNCTION.format(**_formula()))
    return _fill(conn, "P", days, hours, natives=natives, several_dead=True)


def _fill(conn: psycopg.Connection, shape: str, days: int, hours: int, *, natives: bool, several_dead: bool) -> Built:
    fill_bars(conn, shape, days=days, hours=hours)
    fill_dead(conn, several=several_dead)
    if natives:
        fill_natives(conn, shape)
    row = conn.execute(
        "SELECT count(*) FROM public.derived_data_bars"
        " WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND deleted_at IS NULL"
    ).fetchone()
    assert row is not None
    return Built(shape, START, START + timedelta(days=days), row[0])


def fill_bars(conn: psycopg.Connection, shape: str, *, days: int = DAYS, hours: int = 3) -> None:
    """Write FX minutes (the first `hours` of each day) and the legacy DXY rows that the desk derived of them.

    USDSEK has no minute 7 of any hour; ten legacy rows of the day before have no inputs at all.
    """
    production = shape == "P"
    fx = _FX.format(
        more=", provider_ticker" if production else "",
        source="'massive_api'" if production else "'ingest'",
        values=", 'C:' || r.symbol" if production else "",
        rates=", ".join(f"('{symbol}', {rate})" for symbol, rate in RATES.items()),
    )
    for day in range(days):
        begin = START + timedelta(days=day)
        conn.execute(fx, {"start": begin, "end": begin + timedelta(hours=hours)})
    full = shape in {"P", "E"}
    legacy = _LEGACY.format(
        more=", source, source_timeframe, source_candles, expected_candles, quality_score, derivation_version"
        if full
        else "",
        values=", 'dxy', '1m', 6, 6, 2, 1" if full else "",
        **_formula(),
    )
    conn.execute(legacy, {"until": START + timedelta(days=days - 1, hours=hours / 2), "hours": 24})
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, raw)"
        " SELECT 'DXY', '1m', %s - g * interval '1 minute', 104.5, 104.5, 104.5, 104.5, 0, '[1.00]'"
        " FROM generate_series(1, 10) AS g",
        (START,),
    )
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
        " SELECT s, '5m', %s + g * interval '5 minutes', 1, 2, 0.5, 1.5, 7"
        " FROM generate_series(0, 5) AS g, unnest(ARRAY['DXY', 'EURUSD']) AS s",
        (START,),
    )


def _formula() -> dict[str, str]:
    """The index formula as a desk spells it."""
    sql = sql_constants()
    pivot = ", ".join(
        f"max(d.close::double precision) FILTER (WHERE d.canonical_symbol = '{c.symbol}') AS {c.symbol.lower()}"
        for c in COMPONENTS
    )
    return {"base": sql["formula_base"], "log_sum": sql["log_sum"], "pivot": pivot}


def fill_dead(conn: psycopg.Connection, *, several: bool = True) -> None:
    """Soft-delete some legacy rows, and (`several`) leave keys with several dead rows beside one that is alive."""
    conn.execute(
        "UPDATE public.derived_data_bars SET deleted_at = '2024-06-11 00:00+00'"
        " WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc >= %s AND ts_utc < %s",
        (START + timedelta(minutes=20), START + timedelta(minutes=25)),
    )
    if several:
        conn.execute(
            "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol,"
            " deleted_at) SELECT 'DXY', '1m', %s + g * interval '1 minute', n, n, n, n, 0, '2024-06-12 00:00+00'"
            " FROM generate_series(30, 34) AS g, generate_series(90, 92) AS n",
            (START,),
        )


def fill_natives(conn: psycopg.Connection, shape: str) -> None:
    """Write native DXY rows to data_bars: 20 minutes that legacy does not have (the desk tried the new writer)."""
    source = "synthetic" if shape in {"P", "E"} else "ingest"
    conn.execute(
        "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
        " SELECT 'DXY', '1m', %s + interval '20 days' + g * interval '1 minute', 104, 104, 104, 104 + g / 100.0, 0, %s"
        " FROM generate_series(1, 20) AS g",
        (START, source),
    )
