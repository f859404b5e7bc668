-- Legacy values that do not survive data_bars' column types and back.
SELECT count(*) FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
    AND (l.open::${open}::${legacy_open} IS DISTINCT FROM l.open OR l.high::${high}::${legacy_high} IS DISTINCT FROM l.high
        OR l.low::${low}::${legacy_low} IS DISTINCT FROM l.low OR l.close::${close}::${legacy_close} IS DISTINCT FROM l.close
        OR l.vol::${vol}::${legacy_vol} IS DISTINCT FROM l.vol OR l.vwap::${vwap}::${legacy_vwap} IS DISTINCT FROM l.vwap);
