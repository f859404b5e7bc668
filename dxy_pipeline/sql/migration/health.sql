-- The seed's post-deployment health check (6.2), at %(now)s; a shut market is said, not failed.
WITH market AS (
    SELECT EXISTS (SELECT FROM dxy.fx_session AS s WHERE s.opens_at <= %(now)s::timestamptz - interval '10 minutes'
        AND s.closes_at >= %(now)s::timestamptz) AS is_open
),
recent AS (
    SELECT d.canonical_symbol, d.ts_utc, d.close FROM public.data_bars AS d
    WHERE d.canonical_symbol IN ('DXY', ${component_list}) AND d.timeframe = '1m'
        AND d.ts_utc > %(now)s::timestamptz - interval '1 hour' AND d.ts_utc <= %(now)s
)
SELECT 'DXY 1m in last 5m' AS name, CASE WHEN NOT m.is_open OR r.n >= 3 THEN 'PASS' WHEN r.n >= 1 THEN 'WARN' ELSE 'FAIL' END AS status,
    CASE WHEN m.is_open THEN r.n || ' bars' ELSE 'market shut' END AS figure
FROM market AS m, (SELECT count(*) AS n FROM recent AS x WHERE x.canonical_symbol = 'DXY'
    AND x.ts_utc > %(now)s::timestamptz - interval '5 minutes' - interval '1 minute') AS r
UNION ALL
SELECT 'FX components', CASE WHEN NOT m.is_open OR r.n = 6 THEN 'PASS' ELSE 'WARN' END,
    CASE WHEN m.is_open THEN r.n || ' pairs present' ELSE 'market shut' END
FROM market AS m, (SELECT count(DISTINCT x.canonical_symbol) AS n FROM recent AS x WHERE x.canonical_symbol <> 'DXY'
    AND x.ts_utc > %(now)s::timestamptz - interval '6 minutes') AS r
UNION ALL
SELECT 'DXY price range', CASE WHEN r.average IS NULL AND NOT m.is_open OR r.low >= %(low)s AND r.high <= %(high)s AND r.nulls = 0 THEN 'PASS' ELSE 'FAIL' END,
    coalesce(round(r.average::numeric, 2)::text, 'no bars') || CASE WHEN r.nulls > 0 THEN ', ' || r.nulls || ' NULL' ELSE '' END
FROM market AS m, (SELECT avg(x.close) AS average, min(x.close) AS low, max(x.close) AS high,
    count(*) FILTER (WHERE x.close IS NULL) AS nulls FROM recent AS x WHERE x.canonical_symbol = 'DXY') AS r
UNION ALL
SELECT 'DXY 5m aggregation', CASE WHEN NOT m.is_open OR r.latest > %(now)s::timestamptz - interval '11 minutes' THEN 'PASS' ELSE 'WARN' END,
    'latest ' || coalesce(to_char(r.latest AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI"Z"'), 'none')
FROM market AS m, (SELECT max(l.ts_utc) AS latest FROM public.derived_data_bars AS l
    WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '5m' AND l.deleted_at IS NULL AND l.ts_utc <= %(now)s) AS r
UNION ALL
-- Before the retirement legacy still receives: both tables must agree then; after it nothing may be alive there.
SELECT 'Orphaned 1m in derived', CASE WHEN r.n = 0 THEN 'PASS' WHEN c.state = 'retired' THEN 'FAIL' ELSE 'WARN' END,
    r.n || ' active rows' || CASE WHEN c.state = 'retired' THEN '' ELSE ' (expected until the retirement)' END
FROM dxy.migration_control AS c, (SELECT count(*) AS n FROM (SELECT FROM public.derived_data_bars AS l
    WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL LIMIT 1000) AS few) AS r;
