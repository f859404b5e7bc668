-- How many roll-ups of the minute %(minute)s are not yet what its 1m bars make them; NULL while the minute has no 1m bar.
SELECT CASE WHEN EXISTS (
    SELECT FROM public.data_bars AS m
    WHERE m.canonical_symbol = 'DXY' AND m.timeframe = '1m' AND m.ts_utc = %(minute)s)
THEN (
    SELECT count(*)
    FROM (VALUES ('5m', interval '5 minutes'), ('1h', interval '1 hour')) AS t (timeframe, width)
    CROSS JOIN LATERAL dxy.rollup_bars(t.width, %(minute)s, %(minute)s + interval '1 minute', now()) AS r
    LEFT JOIN public.derived_data_bars AS d
        ON d.canonical_symbol = 'DXY' AND d.timeframe = t.timeframe AND d.ts_utc = r.ts_utc AND d.deleted_at IS NULL
    WHERE (d.source_candles, d.close) IS DISTINCT FROM (r.source_candles, r.close)
) END;
