-- dxy_reader: looks, never changes; monitoring and people.
GRANT USAGE ON SCHEMA public, dxy TO dxy_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA dxy TO dxy_reader;
GRANT SELECT ON public.data_bars, public.derived_data_bars, public.core_asset_registry_all TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.index_price(${price_types}) TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.rollup_bars(interval, timestamptz, timestamptz, timestamptz) TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.open_minutes(timestamptz, timestamptz) TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.recomputed_minutes(timestamptz, timestamptz) TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.is_derived(text, jsonb) TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.is_unverifiable(timestamptz) TO dxy_reader;
GRANT EXECUTE ON FUNCTION dxy.gap_ledger(text[], timestamptz, timestamptz, timestamptz, interval, interval) TO dxy_reader;
