-- Gaps longer than the symbol's allowance, from the gap ledger; pending ones may still be filled.
SELECT g.symbol AS canonical_symbol, g.first_ts, g.last_ts, g.minutes, g.class, g.confirmed
FROM dxy.gap_ledger(%(symbols)s, %(start)s, %(end)s, %(now)s) AS g
WHERE g.class <> 'pending' AND g.minutes > CASE WHEN g.symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(minutes)s END
ORDER BY g.minutes DESC, g.first_ts
