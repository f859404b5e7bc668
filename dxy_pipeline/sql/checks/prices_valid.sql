-- NULL, non-positive or infinite prices, and bars whose high and low do not enclose open and close.
SELECT b.canonical_symbol, b.ts_utc, b.open::float8 AS open, b.high::float8 AS high, b.low::float8 AS low, b.close::float8 AS close
FROM ({bars}) AS b
WHERE (b.open > 0 AND b.low > 0 AND b.close > 0 AND b.high < 'Infinity' AND b.high >= greatest(b.open, b.close)
    AND b.low <= least(b.open, b.close)) IS NOT TRUE
ORDER BY b.ts_utc
