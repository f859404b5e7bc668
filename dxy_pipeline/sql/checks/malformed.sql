-- Minute bars of the pairs that break the contract whoever wrote them, each with its fault: off the minute, further in
-- the future than a clock may be wrong, or under another spelling of a pair's symbol (found by stepping through the
-- key's index from symbol to symbol, not by reading the table). Past ones from start on, future ones up to until.
WITH RECURSIVE known AS (
    (SELECT d.canonical_symbol FROM public.data_bars AS d ORDER BY d.canonical_symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT d.canonical_symbol FROM public.data_bars AS d WHERE d.canonical_symbol > k.canonical_symbol
            ORDER BY d.canonical_symbol LIMIT 1)
    FROM known AS k WHERE k.canonical_symbol IS NOT NULL
),
spelled AS MATERIALIZED (
    SELECT k.canonical_symbol, k.canonical_symbol = ANY (%(components)s::text[]) AS is_right
    FROM known AS k
    WHERE k.canonical_symbol = ANY (%(components)s::text[])
        OR right(regexp_replace(upper(k.canonical_symbol), '[^A-Z]', '', 'g'), 6) = ANY (%(components)s::text[])
            AND length(regexp_replace(upper(k.canonical_symbol), '[^A-Z]', '', 'g')) <= 7
)
SELECT d.canonical_symbol, d.ts_utc,
    CASE WHEN NOT s.is_right THEN 'misspelled symbol'
        WHEN d.ts_utc > %(now)s::timestamptz + make_interval(mins => %(ahead_minutes)s) THEN 'in the future'
        ELSE 'off the minute' END AS fault
FROM spelled AS s
JOIN public.data_bars AS d ON d.canonical_symbol = s.canonical_symbol AND d.timeframe = '1m'
    AND d.ts_utc >= %(start)s AND d.ts_utc < %(until)s
WHERE NOT s.is_right OR d.ts_utc <> date_bin(interval '1 minute', d.ts_utc, 'epoch')
    OR d.ts_utc > %(now)s::timestamptz + make_interval(mins => %(ahead_minutes)s)
