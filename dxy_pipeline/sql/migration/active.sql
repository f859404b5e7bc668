-- What readers use during the move: exactly one table, chosen by the control row in the reader's own snapshot. Its columns do
-- not depend on the desk's types, so that it never has to be dropped: grants and views of the desk hang on it.
CREATE OR REPLACE VIEW dxy.dxy_1m_active AS
SELECT d.ts_utc, d.open::double precision, d.high::double precision, d.low::double precision,
    d.close::double precision, d.vol::double precision, d.vwap::double precision, d.trade_count::bigint, d.is_partial
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
    AND (SELECT c.read_from FROM dxy.migration_control AS c) = 'data_bars'
UNION ALL
SELECT l.ts_utc, l.open::double precision, l.high::double precision, l.low::double precision,
    l.close::double precision, l.vol::double precision, l.vwap::double precision, l.trade_count::bigint, l.is_partial
FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
    AND (SELECT c.read_from FROM dxy.migration_control AS c) = 'legacy';
