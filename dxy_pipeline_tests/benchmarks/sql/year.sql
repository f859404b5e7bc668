-- Minutes of [%(start)s, %(end)s) for six pairs while the FX market is open, written in time order as a feed writes them,
-- pair after pair of each minute; one in two hundred is missing.
INSERT INTO public.data_bars (
    canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, source, raw)
SELECT q.symbol, '1m', m.ts_utc, p.close, p.close * 1.0001, p.close * 0.9999, p.close, 100, p.close, 10, 'ingest', '{"feed": "file"}'
FROM (
    SELECT generate_series(
        greatest(s.opens_at, %(start)s), least(s.closes_at, %(end)s) - interval '1 minute', interval '1 minute') AS ts_utc
    FROM dxy.fx_session AS s
    WHERE s.closes_at > %(start)s AND s.opens_at < %(end)s
) AS m
CROSS JOIN (VALUES
    ('EURUSD', 1.08, 1.0e6, 1), ('USDJPY', 140, 1.1e6, 2), ('GBPUSD', 1.25, 1.2e6, 3),
    ('USDCAD', 1.35, 1.3e6, 4), ('USDSEK', 10.5, 1.4e6, 5), ('USDCHF', 0.9, 1.5e6, 6)
) AS q (symbol, base, period, number)
CROSS JOIN LATERAL (
    SELECT (q.base * (1 + 0.02 * sin(extract(epoch FROM m.ts_utc)::float8 / q.period)
        + 0.0000001 * (hashint8extended(extract(epoch FROM m.ts_utc)::bigint, q.number) %% 1000)))::numeric(20, 8) AS close
) AS p
WHERE hashint8extended(extract(epoch FROM m.ts_utc)::bigint, -q.number) %% 200 <> 0;
