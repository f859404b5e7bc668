-- Gaps longer than the symbol's allowance, from the gap ledger; pending ones may still be filled.
SELECT g.symbol AS canonical_symbol, g.first_ts, g.last_ts, g.minutes, g.class, g.confirmed,
    CASE WHEN g.class = 'component missing' AND g.symbol = 'DXY' THEN array_to_string(ARRAY(
        SELECT y.symbol FROM unnest(%(components)s::text[]) AS y (symbol)
        WHERE NOT EXISTS (SELECT FROM public.data_bars AS d
            WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc = g.first_ts)), ', ') END AS components
FROM dxy.gap_ledger(%(symbols)s, %(start)s, %(end)s, %(now)s,
        make_interval(mins => %(pending_minutes)s), make_interval(hours => %(confirm_hours)s)) AS g
WHERE g.class <> 'pending' AND g.minutes > CASE WHEN g.symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(minutes)s END
ORDER BY g.last_ts DESC, g.symbol
