-- The legacy writer, for a database that the project creates itself: DXY 1m into derived_data_bars, as the desk had it.
-- A database that brings its own keeps its own.
CREATE OR REPLACE FUNCTION public.calc_dxy_range_derived(
    p_from_utc timestamptz,
    p_to_utc timestamptz,
    p_tf text DEFAULT '1m',
    p_derivation_version integer DEFAULT 1
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_written integer;
BEGIN
    IF p_tf IS DISTINCT FROM '1m' THEN
        RAISE EXCEPTION 'calc_dxy_range_derived derives 1m only, not %', p_tf;
    END IF;
    PERFORM dxy.check_range(p_from_utc, p_to_utc);
    INSERT INTO public.derived_data_bars AS l (
        canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
        source_timeframe, source_candles, expected_candles, quality_score, derivation_version, raw)
    SELECT 'DXY', '1m', m.ts_utc, m.price, m.price, m.price, m.price, 0, NULL, 0, false, 'dxy', '1m', 6, 6, 2,
        p_derivation_version, '{"kind": "dxy", "formula": "standard"}'
    FROM (
        SELECT d.ts_utc, round(dxy.index_price(
                ${recomputed_closes})::numeric, 8) AS price
        FROM public.data_bars AS d
        WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.close > 0 AND d.close < 'Infinity'
            AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc
        GROUP BY d.ts_utc
    ) AS m
    WHERE m.price IS NOT NULL
    ORDER BY m.ts_utc
    ON CONFLICT (canonical_symbol, timeframe, ts_utc) WHERE deleted_at IS NULL DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, raw = excluded.raw,
        derivation_version = excluded.derivation_version, updated_at = now();
    GET DIAGNOSTICS v_written = ROW_COUNT;
    RETURN jsonb_build_object('success', true, 'written', v_written, 'derivation_version', p_derivation_version,
        'timestamp_range', jsonb_build_object('from', p_from_utc, 'to', p_to_utc));
END;
$$;
