-- Fewer DXY minutes than a loaded history has. It is loaded once the first pair has more minutes than that, with a margin.
SELECT s.dxy AS bars, s.pair AS bars_of_a_pair, %(least_rows)s::bigint AS wanted
FROM (
    SELECT count(*) FILTER (WHERE d.canonical_symbol = 'DXY') AS dxy, count(*) FILTER (WHERE d.canonical_symbol <> 'DXY') AS pair
    FROM public.data_bars AS d
    WHERE d.canonical_symbol IN ('DXY', (%(components)s::text[])[1]) AND d.timeframe = '1m'
) AS s
WHERE s.dxy < %(least_rows)s AND s.pair >= %(loaded_rows)s
