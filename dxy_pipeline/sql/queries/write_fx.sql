-- Stores a batch of FX bars: new keys inserted, own or lower-ranked rows that differ updated, higher-ranked rows kept.
-- {extra_columns} and {extra_values} are composed for columns that only some databases have (provider_ticker).
WITH batch AS (
    SELECT DISTINCT ON (u.symbol, u.ts_utc) u.*
    FROM unnest(
        %(symbol)s::text[], %(ts_utc)s::timestamptz[], %(open)s::float8[], %(high)s::float8[], %(low)s::float8[],
        %(close)s::float8[], %(vol)s::float8[], %(vwap)s::float8[], %(trade_count)s::integer[]
    ) WITH ORDINALITY AS u (symbol, ts_utc, open, high, low, close, vol, vwap, trade_count, position)
    ORDER BY u.symbol, u.ts_utc, u.position DESC
),
judged AS MATERIALIZED (
    SELECT b.*,
        CASE
            WHEN d.ts_utc IS NULL THEN 'insert'
            WHEN dxy.feed_rank(d.source, d.raw) > dxy.feed_rank(%(source)s, %(raw)s) THEN 'outranked'
            WHEN (round(b.open::numeric, 8), round(b.high::numeric, 8), round(b.low::numeric, 8), round(b.close::numeric, 8),
                    round(b.vol::numeric, 8), round(b.vwap::numeric, 8), b.trade_count, %(source)s)
                IS NOT DISTINCT FROM (round(d.open::numeric, 8), round(d.high::numeric, 8), round(d.low::numeric, 8),
                    round(d.close::numeric, 8), round(d.vol::numeric, 8), round(d.vwap::numeric, 8), d.trade_count, d.source)
                AND d.raw @> %(raw)s THEN 'unchanged'
            ELSE 'update'
        END AS verdict
    FROM batch AS b
    LEFT JOIN public.data_bars AS d ON d.canonical_symbol = b.symbol AND d.timeframe = '1m' AND d.ts_utc = b.ts_utc
),
written AS (
    INSERT INTO public.data_bars AS d (
        canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
        ingested_at, raw {extra_columns})
    SELECT j.symbol, '1m', j.ts_utc, j.open, j.high, j.low, j.close, j.vol, j.vwap, j.trade_count, false, %(source)s,
        now(), %(raw)s {extra_values}
    FROM judged AS j
    WHERE j.verdict IN ('insert', 'update')
    ORDER BY j.symbol, j.ts_utc
    ON CONFLICT (canonical_symbol, timeframe, ts_utc) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
        vwap = excluded.vwap, trade_count = excluded.trade_count, is_partial = false, source = excluded.source,
        ingested_at = excluded.ingested_at, raw = coalesce(d.raw, '{{}}') || excluded.raw, updated_at = now()
    WHERE dxy.feed_rank(d.source, d.raw) <= dxy.feed_rank(excluded.source, excluded.raw)
    RETURNING 1
)
SELECT count(*) FILTER (WHERE j.verdict = 'insert'), count(*) FILTER (WHERE j.verdict = 'update'),
    count(*) FILTER (WHERE j.verdict = 'unchanged'), count(*) FILTER (WHERE j.verdict = 'outranked'),
    (SELECT count(*) FROM written)
FROM judged AS j;
