-- Legacy values that are not the same any more after the way into data_bars' own columns and back.
SELECT count(*) FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
    AND (l.open::${open}::${target_open}::${own_open} IS DISTINCT FROM l.open
        OR l.high::${high}::${target_high}::${own_high} IS DISTINCT FROM l.high
        OR l.low::${low}::${target_low}::${own_low} IS DISTINCT FROM l.low
        OR l.close::${close}::${target_close}::${own_close} IS DISTINCT FROM l.close
        OR l.vol::${vol}::${target_vol}::${own_vol} IS DISTINCT FROM l.vol
        OR l.vwap::${vwap}::${target_vwap}::${own_vwap} IS DISTINCT FROM l.vwap);
