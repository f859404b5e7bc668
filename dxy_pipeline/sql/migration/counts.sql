SELECT
    (SELECT count(*) FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m') AS data_bars,
    (SELECT count(*) FROM public.derived_data_bars AS l
     WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL) AS legacy_active,
    (SELECT count(*) FROM public.derived_data_bars AS l
     WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NOT NULL) AS legacy_deleted;
