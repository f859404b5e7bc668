-- The mapping, once, in both directions: a legacy row as data_bars would hold it (legacy_source), a data_bars row as legacy
-- would (bars_source), and what is compared of them (the images). Rendered for the columns at hand (migration/mapping.py): both
-- sides in one normal form, so that equal means equal. The two directions undo each other: what an application wrote to data_bars
-- lies in legacy's raw as {"data_bars": {"raw", "source", "absent": what is NULL there and legacy cannot hold as NULL}}.
-- minus_zero_vol, zero_prices: neither = nor a hash can tell -0 from 0.
CREATE OR REPLACE VIEW dxy.legacy_mapped AS
SELECT l.ts_utc, ${legacy_open} AS open, ${legacy_high} AS high, ${legacy_low} AS low, ${legacy_close} AS close,
    ${legacy_vol} AS vol, ${legacy_vwap} AS vwap, ${legacy_trade_count} AS trade_count,
    coalesce(l.is_partial, false) AS is_partial,
    CASE WHEN l.raw -> 'data_bars' ?& '{raw,source}' THEN l.raw #>> '{data_bars,source}' ELSE 'synthetic' END AS source,
    coalesce(l.ingested_at, l.ts_utc) AS ingested_at,
    CASE WHEN l.raw #> '{data_bars,absent}' ? 'raw' THEN NULL
        WHEN l.raw -> 'data_bars' ?& '{raw,source}' THEN l.raw #> '{data_bars,raw}'
        ELSE jsonb_build_object('kind', 'dxy', 'derivation_version', l.derivation_version,
            'migrated_from', 'derived_data_bars', 'legacy', l.raw) END AS raw,
    CASE WHEN ${legacy_vol} = 0 THEN (${legacy_vol})::text = '-0' END AS minus_zero_vol,
    CASE WHEN ${legacy_open} = 0 OR ${legacy_high} = 0 OR ${legacy_low} = 0 OR ${legacy_close} = 0 OR ${legacy_vwap} = 0
        THEN format('%s %s %s %s %s', ${legacy_open}, ${legacy_high}, ${legacy_low}, ${legacy_close}, ${legacy_vwap})
        END AS zero_prices,
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
    coalesce(d.is_partial, false) AS is_partial, d.source, coalesce(d.ingested_at, d.ts_utc) AS ingested_at, d.raw,
    CASE WHEN d.vol::${vol} = 0 THEN (d.vol::${vol})::text = '-0' END AS minus_zero_vol,
    CASE WHEN d.open::${open} = 0 OR d.high::${high} = 0 OR d.low::${low} = 0 OR d.close::${close} = 0 OR d.vwap::${vwap} = 0
        THEN format('%s %s %s %s %s', d.open::${open}, d.high::${high}, d.low::${low}, d.close::${close}, d.vwap::${vwap})
        END AS zero_prices
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m';

-- A row is legacy's own only while it is in every part what legacy_source made of it.
CREATE OR REPLACE VIEW dxy.bars_source AS
SELECT d.ts_utc, ${bars_open} AS open, ${bars_high} AS high, ${bars_low} AS low, ${bars_close} AS close, ${bars_vol} AS vol,
    ${bars_vwap} AS vwap, ${bars_trade_count} AS trade_count, coalesce(d.is_partial, false) AS is_partial,
    coalesce(d.ingested_at, d.ts_utc) AS ingested_at,
    CASE WHEN d.raw ->> 'derivation_version' ~ '^-?[0-9]{1,9}$' THEN (d.raw ->> 'derivation_version')::integer ELSE 1 END
        AS derivation_version,
    CASE WHEN d.raw = jsonb_build_object('kind', 'dxy', 'derivation_version', d.raw -> 'derivation_version',
                'migrated_from', 'derived_data_bars', 'legacy', d.raw -> 'legacy')
            AND jsonb_typeof(d.raw -> 'derivation_version') = 'number' AND d.raw ->> 'derivation_version' ~ '^-?[0-9]{1,9}$'
            AND d.raw ? 'legacy' AND NOT coalesce(d.raw #> '{legacy,data_bars}' ?& '{raw,source}', false)
            AND d.source = 'synthetic' AND cardinality(${absent}) = 0
        THEN d.raw -> 'legacy'
        ELSE jsonb_build_object('kind', 'dxy', 'formula', 'standard', 'data_bars',
            jsonb_build_object('raw', d.raw, 'source', d.source)
            || CASE WHEN cardinality(${absent}) = 0 THEN '{}' ELSE jsonb_build_object('absent', ${absent}) END)
        END AS raw
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m';

-- Before-images of rows of data_bars that the mirror overwrote or deleted; NULL: the key was absent. The row's own
-- composite type, since jsonb loses -0 and digits. A direct write to data_bars deletes the entry.
CREATE TABLE IF NOT EXISTS dxy.migration_undo (ts_utc timestamptz PRIMARY KEY, before public.data_bars);
