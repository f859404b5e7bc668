-- Fewer DXY minutes than a loaded history has. It is loaded once the first pair has more minutes than that, with a margin.
-- No more rows are counted than the thresholds ask for, so that it can be asked each minute of any history.
SELECT s.dxy AS bars, s.pair AS bars_of_a_pair_at_least, %(least_rows)s::bigint AS wanted
FROM (
    SELECT (SELECT count(*) FROM (
            SELECT FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' LIMIT %(least_rows)s) AS x) AS dxy,
        (SELECT count(*) FROM (
            SELECT FROM public.data_bars AS d
            WHERE d.canonical_symbol = (%(components)s::text[])[1] AND d.timeframe = '1m' LIMIT %(loaded_rows)s) AS x) AS pair
) AS s
WHERE s.dxy < %(least_rows)s AND s.pair >= %(loaded_rows)s
