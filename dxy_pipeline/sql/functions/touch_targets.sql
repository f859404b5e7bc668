-- Which timeframes depend on a bar of this symbol and timeframe.
CREATE OR REPLACE FUNCTION dxy.touch_targets(p_symbol text, p_timeframe text)
RETURNS SETOF text
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2
AS $$
    SELECT t.target FROM (VALUES ('1m'), ('5m'), ('1h')) AS t (target)
    WHERE p_timeframe = '1m'
        AND ((t.target = '1m' AND p_symbol IN (${component_list})) OR (t.target <> '1m' AND p_symbol = 'DXY'));
$$;
