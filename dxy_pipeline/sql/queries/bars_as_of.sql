-- DXY bars as they were known at a moment: current images known by then, and replaced images that were current then.
SELECT k.ts_utc, k.open, k.high, k.low, k.close
FROM (
    SELECT r.ts_utc, r.known_from, r.known_until, (r.old ->> 'open')::numeric AS open, (r.old ->> 'high')::numeric AS high,
        (r.old ->> 'low')::numeric AS low, (r.old ->> 'close')::numeric AS close
    FROM dxy.bar_revision AS r
    WHERE r.canonical_symbol = 'DXY' AND r.timeframe = %(timeframe)s AND r.ts_utc >= %(start)s AND r.ts_utc < %(end)s
        AND r.old ->> 'deleted_at' IS NULL
    UNION ALL
    SELECT d.ts_utc, coalesce(d.updated_at, d.created_at, d.ingested_at, '-infinity'), 'infinity', d.open, d.high, d.low, d.close
    FROM public.data_bars AS d
    WHERE %(timeframe)s = '1m' AND d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
        AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
    UNION ALL
    SELECT d.ts_utc, coalesce(d.updated_at, d.created_at, d.ingested_at, '-infinity'), 'infinity', d.open, d.high, d.low, d.close
    FROM public.derived_data_bars AS d
    WHERE %(timeframe)s <> '1m' AND d.canonical_symbol = 'DXY' AND d.timeframe = %(timeframe)s AND d.deleted_at IS NULL
        AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
) AS k
WHERE k.known_from <= %(known_at)s AND k.known_until > %(known_at)s
ORDER BY k.ts_utc;
