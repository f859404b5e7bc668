-- The mapping, once: a legacy row as data_bars would hold it, and a data_bars row in the same columns and types.
-- Rendered for the column types at hand: both sides in the coarser of the two types, so that equal means equal.
-- minus_zero: neither = nor a hash can tell -0 from 0.
CREATE OR REPLACE VIEW dxy.legacy_mapped AS
SELECT l.ts_utc, l.open::${open} AS open, l.high::${high} AS high, l.low::${low} AS low, l.close::${close} AS close,
    l.vol::${vol} AS vol, l.vwap::${vwap} AS vwap, l.trade_count::bigint AS trade_count,
    coalesce(l.is_partial, false) AS is_partial, 'synthetic'::text AS source,
    coalesce(l.ingested_at, l.ts_utc) AS ingested_at,
    CASE WHEN l.raw ? 'data_bars' THEN l.raw -> 'data_bars'
        ELSE jsonb_build_object('kind', 'dxy', 'derivation_version', l.derivation_version,
            'migrated_from', 'derived_data_bars', 'legacy', l.raw) END AS raw,
    CASE WHEN l.vol = 0 THEN l.vol::text = '-0' END AS minus_zero_vol,
    CASE WHEN l.open = 0 OR l.high = 0 OR l.low = 0 OR l.close = 0 OR l.vwap = 0
        THEN format('%s %s %s %s %s', l.open, l.high, l.low, l.close, l.vwap) END AS zero_prices,
    coalesce(l.created_at, l.ingested_at, now()) AS created_at, l.deleted_at, l.dxy_retired_by
FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m';

CREATE OR REPLACE VIEW dxy.legacy_source AS
SELECT m.ts_utc, m.open, m.high, m.low, m.close, m.vol, m.vwap, m.trade_count, m.is_partial, m.source, m.ingested_at, m.raw,
    m.minus_zero_vol, m.zero_prices, m.created_at
FROM dxy.legacy_mapped AS m
WHERE m.deleted_at IS NULL;

CREATE OR REPLACE VIEW dxy.legacy_image AS
SELECT s.ts_utc, s.open, s.high, s.low, s.close, s.vol, s.vwap, s.trade_count, s.is_partial, s.source, s.ingested_at, s.raw,
    s.minus_zero_vol, s.zero_prices
FROM dxy.legacy_source AS s;

-- While legacy is being retired its rows with the tag count, too: each stands for the minute that it was.
CREATE OR REPLACE VIEW dxy.legacy_held AS
SELECT s.* FROM dxy.legacy_image AS s
UNION ALL
SELECT m.ts_utc, m.open, m.high, m.low, m.close, m.vol, m.vwap, m.trade_count, m.is_partial, m.source, m.ingested_at, m.raw,
    m.minus_zero_vol, m.zero_prices
FROM dxy.legacy_mapped AS m
WHERE m.dxy_retired_by IS NOT NULL AND m.deleted_at IS NOT NULL;

CREATE OR REPLACE VIEW dxy.bars_image AS
SELECT d.ts_utc, d.open::${open} AS open, d.high::${high} AS high, d.low::${low} AS low, d.close::${close} AS close,
    d.vol::${vol} AS vol, d.vwap::${vwap} AS vwap, d.trade_count::bigint AS trade_count,
    coalesce(d.is_partial, false) AS is_partial,
    CASE WHEN d.raw ? 'migrated_from' THEN d.source ELSE 'synthetic' END AS source,
    coalesce(d.ingested_at, d.ts_utc) AS ingested_at, d.raw,
    CASE WHEN d.vol = 0 THEN d.vol::text = '-0' END AS minus_zero_vol,
    CASE WHEN d.open = 0 OR d.high = 0 OR d.low = 0 OR d.close = 0 OR d.vwap = 0
        THEN format('%s %s %s %s %s', d.open, d.high, d.low, d.close, d.vwap) END AS zero_prices
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m';

-- What readers use during the move: exactly one table, chosen by the control row in the reader's own snapshot.
CREATE OR REPLACE VIEW dxy.dxy_1m_active AS
SELECT d.ts_utc, d.open::double precision, d.high::double precision, d.low::double precision,
    d.close::double precision, d.vol::double precision, d.vwap::double precision, d.trade_count::bigint, d.is_partial
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
    AND (SELECT c.read_from FROM dxy.migration_control AS c) = 'data_bars'
UNION ALL
SELECT l.ts_utc, l.open, l.high, l.low, l.close, l.vol, l.vwap, l.trade_count, l.is_partial
FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
    AND (SELECT c.read_from FROM dxy.migration_control AS c) = 'legacy';

-- Before-images of rows of data_bars that the mirror overwrote or deleted; NULL: the key was absent. The row's own
-- composite type, since jsonb loses -0 and digits. A direct write to data_bars deletes the entry.
CREATE TABLE IF NOT EXISTS dxy.migration_undo (ts_utc timestamptz PRIMARY KEY, before public.data_bars);
