-- The image of one stored bar for dxy.bar_revision. Not inlined on purpose (SET clause): each call is one probe of the
-- key's index, whatever the statistics say about freshly loaded tables.
CREATE OR REPLACE FUNCTION dxy.minute_image(p_ts_utc timestamptz, OUT known_from timestamptz, OUT image jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(d.updated_at, d.created_at, d.ingested_at, '-infinity'),
        jsonb_build_object('open', d.open, 'high', d.high, 'low', d.low, 'close', d.close, 'vol', d.vol, 'vwap', d.vwap,
            'trade_count', d.trade_count, 'is_partial', d.is_partial, 'source', d.source, 'raw', d.raw)
    FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = p_ts_utc;
$$;

CREATE OR REPLACE FUNCTION dxy.rollup_image(p_id_tid tid, OUT known_from timestamptz, OUT image jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(d.updated_at, d.created_at, d.ingested_at, '-infinity'),
        jsonb_build_object('open', d.open, 'high', d.high, 'low', d.low, 'close', d.close, 'vol', d.vol, 'vwap', d.vwap,
            'trade_count', d.trade_count, 'is_partial', d.is_partial, 'source', d.source,
            'source_candles', d.source_candles, 'expected_candles', d.expected_candles,
            'quality_score', d.quality_score, 'raw', d.raw, 'deleted_at', d.deleted_at)
    FROM public.derived_data_bars AS d
    WHERE d.ctid = p_id_tid;
$$;
